"""Bounds and mixtures of conservative exploration."""
