"""JAX's own settings, from the environment or from `jax.config`: which change a run's numbers.

A run folder keeps those that are not as usual, beside the versions of its packages. Some of them
JAX enforces with errors of its own, which name no cause that a user could know: here they are
given one.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from typing import Any

import jax

from jaxrl.errors import JaxrlError

# Settings of which the numbers of a run depend, with their usual values.
CHANGE_NUMBERS: dict[str, Any] = {
    "jax_allow_f16_reductions": True,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_disable_jit": False,
    "jax_disable_most_optimizations": False,
    "jax_enable_custom_prng": False,
    "jax_enable_x64": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_explicit_x64_dtypes": "warn",
    "jax_high_dynamic_range_gumbel": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_optimization_level": "UNKNOWN",
    "jax_random_seed_offset": 0,
    "jax_softmax_custom_jvp": False,
    "jax_threefry_gpu_kernel_lowering": False,
    "jax_threefry_partitionable": True,
    "jax_use_direct_linearize": True,
    "jax_use_magma": "auto",
}
# Settings under which JAX refuses what would be well otherwise.
REFUSE: dict[str, Any] = {
    name: CHANGE_NUMBERS[name]
    for name in (
        "jax_default_prng_impl",
        "jax_disable_jit",
        "jax_enable_custom_prng",
        "jax_enable_x64",
        "jax_explicit_x64_dtypes",
        "jax_numpy_dtype_promotion",
    )
} | {
    "jax_array_garbage_collection_guard": None,
    "jax_check_tracer_leaks": False,
    "jax_debug_infs": False,
    "jax_debug_key_reuse": False,
    "jax_debug_nans": False,
    "jax_enable_checks": False,
    "jax_legacy_prng_key": "allow",
    "jax_no_execution": False,
    "jax_no_tracing": False,
    "jax_numpy_rank_promotion": "allow",
    "jax_platforms": None,
    "jax_thread_guard": False,
    "jax_transfer_guard": None,
    "jax_transfer_guard_device_to_device": None,
    "jax_transfer_guard_device_to_host": None,
    "jax_transfer_guard_host_to_device": None,
}


def unusual() -> dict[str, str]:
    """The settings that change numbers and are not as usual, as text by name."""
    return _unusual(CHANGE_NUMBERS)


def others(described: Mapping[str, Any]) -> list[str]:
    """How what a run folder tells of JAX's settings differs from those of this process.

    A line for each: "jax_enable_x64 was True, and is False now".
    """
    if "versions" not in described:  # it does not say
        return []
    versions = described["versions"]
    now = unusual()
    lines = []
    for name, usual in CHANGE_NUMBERS.items():
        before, after = versions.get(name, _text(usual)), now.get(name, _text(usual))
        if before != after:
            lines.append(f"{name} was {before}, and is {after} now")
    return lines


def explanation(error: BaseException) -> str | None:
    """What around JAX may have caused an error that was no request's fault; None if nothing has.

    While a setting is not as usual it is named with whatever goes wrong: if it is not to blame, the
    error is still there without it.
    """
    if isinstance(error, JaxrlError | OSError | UnicodeError) or not isinstance(error, Exception):
        return None
    cause = _no_device() or _settings_in_the_way()
    if cause is None:
        return None
    lines = str(error).strip().splitlines() or ["without a message"]
    return f"{cause} What failed: {type(error).__name__}: {lines[0]}"


def _settings_in_the_way() -> str | None:
    """Which variables of the environment may be why something failed; None if none is set.

    What a program has set by itself, as `jax.config.update` does, it knows.
    """
    found = {name: text for name, text in _unusual(REFUSE).items() if name.upper() in os.environ}
    if not found:
        return None
    listed = ", ".join(f"{name.upper()}={value}" for name, value in found.items())
    if "jax_disable_jit" in found:
        return (
            "jaxrl compiles its programs ahead of time, and cannot under JAX_DISABLE_JIT: unset it."
        )
    return f"JAX is not set as usual, which may be the cause: {listed}. Try without."


def _no_device() -> str | None:
    """Why JAX finds no device at all, and what to do; None if it finds one."""
    try:
        jax.devices()
    except Exception as error:  # a RuntimeError or, without a word, an AssertionError
        asked = getattr(jax.config, "jax_platforms", None)
        if not asked:
            return f"JAX finds no device ({error})."
        return (
            f"JAX_PLATFORMS is {asked!r}, but JAX finds no such device here. Unset it to take what "
            "there is, or set it to cpu. A GPU needs its driver and the extra cuda12 or cuda13."
        )
    return None


def _unusual(usual: Mapping[str, Any]) -> dict[str, str]:
    """Those of JAX's settings that differ from their `usual` values; this JAX may lack some."""
    found = {}
    for name, value in usual.items():
        text = _text(getattr(jax.config, name, jax.config.values.get(name, value)))
        if text != _text(value):
            found[name] = text
    return found


def _text(value: Any) -> str:
    """A setting's value as one writes it: of an enumeration, the word."""
    return value.name.lower() if isinstance(value, enum.Enum) else str(value)
