"""Declaring a configuration: each field says what it may be, and one function checks them all.

A configuration is a frozen `flax.struct.dataclass`. A `number` only enters arithmetic: it is a pytree leaf, so a
sweep over it is a vmap and compiles once. A `size` or an `option` decides shapes or code: it is static.
"""

from jaxrl.config.checks import check, check_type, check_types
from jaxrl.config.fields import number, option, size
from jaxrl.config.imports import import_factory, type_hints, what_is
from jaxrl.config.paths import field_names, sizes, sweepable

__all__ = [
    "check",
    "check_type",
    "check_types",
    "field_names",
    "import_factory",
    "number",
    "option",
    "size",
    "sizes",
    "sweepable",
    "type_hints",
    "what_is",
]
