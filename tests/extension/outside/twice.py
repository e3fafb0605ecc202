"""A configuration that breaks the contract: two settings of one name.
It cannot even be imported."""

from __future__ import annotations

from jaxrl.config import configuration, nested
from tests.extension.outside.cloning import LayersConfig


@configuration
class TwiceConfig:
    """Two networks, neither of which has a prefix."""

    actor: LayersConfig = nested(LayersConfig())
    critic: LayersConfig = nested(LayersConfig())
