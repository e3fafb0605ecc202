"""What `jaxrl collect` records, as a dataset: whole episodes of a saved policy.

The file also has the states that the episodes went through, which a dataset leaves out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxrl.data.files import npz_names, numbers
from jaxrl.data.recorded import Recorded, describe
from jaxrl.data.recording import load
from jaxrl.errors import JaxrlError

NAME = "recording"


def recognizes(path: Path) -> bool:
    """Whether it is an .npz file with the columns that only a recording has."""
    return {"header", "return_so_far", "next_observation"} <= npz_names(path)


def read(path: Path) -> Recorded:
    """The episodes of a recording, if every step of theirs is in it."""
    header, arrays = load(path)
    if (stride := header.get("stride", 1)) != 1:
        raise JaxrlError(
            f"it has every {stride}th step of its episodes only: collect them again with "
            "--stride 1."
        )
    step = arrays["step"]
    first = np.flatnonzero(step == 0)
    length = np.diff(np.append(first, len(step))).astype(np.int32)
    if not len(step) or step[0] or np.any(np.diff(step)[step[1:] != 0] != 1):
        raise JaxrlError("its steps do not follow each other, as those of whole episodes do.")
    played_by = header.get("played_by", {})
    about = describe(
        path.stem,
        f"jaxrl collect: {_in_words(played_by)}",
        environment=header.get("environment", ""),
        environment_options=header.get("environment_options", {}),
        played_by=played_by,
    )
    return Recorded(
        observation=numbers("observation", arrays["observation"]),
        action=numbers("action", arrays["action"]),
        reward=arrays["reward"],
        terminated=arrays["terminated"],
        truncated=arrays["truncated"],
        final_observation=numbers(
            "next_observation", arrays["next_observation"][first + length - 1]
        ),
        length=length,
        about=about,
    )


def _in_words(played_by: dict) -> str:
    """Who played, in words: "algorithm ppo, iteration 12, mode deterministic, seed 0"."""
    return ", ".join(f"{name} {value}" for name, value in played_by.items())
