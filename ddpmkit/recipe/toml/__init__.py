"""TOML as text: positions of keys and values, and writing."""
