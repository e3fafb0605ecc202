"""Environments by suite: each module, or package, is one (see jaxrl/envs/registry.py)."""
