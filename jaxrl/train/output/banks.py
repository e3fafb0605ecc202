"""What a bank of snapshots holds, in words and as a picture."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxrl.analysis.snapshot_plots import plot_bank
from jaxrl.analysis.style import STAMPS
from jaxrl.core.kmeans import kmeans
from jaxrl.data.recording import load
from jaxrl.data.snapshots import values_of
from jaxrl.errors import JaxrlError
from jaxrl.train.files.folder import file_errors


def describe_bank(path: Path, clusters: int, output: Path | None) -> str:
    """Draw a bank; returns lines on where it is from, its clusters, and the picture."""
    target = output or path.with_suffix(".png")
    if target.suffix not in STAMPS:
        raise JaxrlError(f"output is {target}, but must end in {', '.join(STAMPS)}.")
    with file_errors("read", path):
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    about, arrays = load(path)
    if not len(arrays["step"]):
        raise JaxrlError(f"{path} is empty: it holds no rows.")
    found = values_of(about, arrays)
    if clusters > len(found.value):
        raise JaxrlError(f"clusters is {clusters}, but {path} has only {len(found.value)} rows.")
    label = np.asarray(kmeans(jnp.asarray(found.value), clusters))
    kind = "the critic's values" if found.from_critic else "returns to go"
    player = about.get("played_by", {})
    title = f"{len(label):,} snapshots of {about['environment']}"
    note = f"{player['algorithm']}, {player['mode']}" if player else "a demonstration"
    with file_errors("write", target):
        plot_bank(arrays["step"], found.value, label, target, title, f"{note}; {kind}")
    returns = np.asarray(about["episode_returns"])
    lines = [
        f"{title}, from {len(returns)} episodes of {note} (mean return {returns.mean():.1f})",
        f"values: {kind}, {found.value.min():.4g} … {found.value.max():.4g}",
    ]
    if not found.from_critic and found.cut:
        lines.append(
            f"{found.cut:,} rows are of episodes that the time limit ended: what would have come "
            "after it is missing from their values, the more the later they are"
        )
    for cluster in np.unique(label):
        own = found.value[label == cluster]
        share = 1 / len(np.unique(label))
        lines.append(
            f"cluster {cluster + 1}: {len(own):,} rows, values {own.min():.4g} … {own.max():.4g}, "
            f"{len(own) / len(label):.1%} of the rows and {share:.1%} of the starts"
        )
    return "\n".join([*lines, f"wrote {target}"])
