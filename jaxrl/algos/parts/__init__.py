"""Parts of algorithms in files of their own; packages are no algorithms (registry.py)."""
