"""jaxrl: fast policy-gradient experiments in JAX."""

__version__ = "0.1.0"
