"""`python -m ddpmkit`."""

from ddpmkit.cli.process import start

start()
