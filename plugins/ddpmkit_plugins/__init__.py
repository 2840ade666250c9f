"""The built-in plugins of ddpmkit, one folder each. No plugin imports another."""
