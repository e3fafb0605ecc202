"""Declaring a configuration: each field says what it may be, and one function checks them all.

A configuration is a frozen `flax.struct.dataclass`. A `number` only enters arithmetic: it is a
pytree leaf, so a sweep over it is a vmap and compiles once. A `size` or an `option` decides shapes
or code: it is static. Configurations nest, and parts may be chosen by name; files and the command
line name every setting flat.
"""

from jaxrl.config.added import Added, added, import_added, package_of
from jaxrl.config.beside import settings_beside
from jaxrl.config.changes import Gate, no_such_option, override, replace_leaves, without_unchosen
from jaxrl.config.checks import check, check_type, check_types
from jaxrl.config.declared import check_chosen, check_settings, configuration
from jaxrl.config.family import Family, check_defaults
from jaxrl.config.fields import budget, nested, number, option, part, size
from jaxrl.config.imports import import_factory, type_hints, what_is
from jaxrl.config.needs import ON, SEVERAL, check_needs, settled
from jaxrl.config.paths import (
    Possible,
    Setting,
    budget_field,
    chosen,
    env_sizes,
    field_names,
    flatten,
    inputs_of,
    possible,
    settings,
    sizes,
    sweepable,
)
from jaxrl.errors import install_command, installed

__all__ = [
    "Added",
    "ON",
    "SEVERAL",
    "Family",
    "Gate",
    "Possible",
    "Setting",
    "added",
    "budget",
    "budget_field",
    "check",
    "check_chosen",
    "check_defaults",
    "check_needs",
    "check_settings",
    "check_type",
    "check_types",
    "chosen",
    "configuration",
    "env_sizes",
    "field_names",
    "flatten",
    "import_added",
    "import_factory",
    "inputs_of",
    "install_command",
    "installed",
    "nested",
    "no_such_option",
    "number",
    "option",
    "possible",
    "override",
    "package_of",
    "part",
    "replace_leaves",
    "settings",
    "settings_beside",
    "settled",
    "size",
    "sizes",
    "sweepable",
    "type_hints",
    "what_is",
    "without_unchosen",
]
