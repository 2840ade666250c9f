"""`python -m ddpmkit`."""

from ddpmkit.cli.entry_point import start

start()
