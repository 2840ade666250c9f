"""The default plugins of ddpmkit: one folder each, none knows another."""
