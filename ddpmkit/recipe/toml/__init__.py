"""Finds the positions of keys and values in a TOML text, and writes TOML."""
