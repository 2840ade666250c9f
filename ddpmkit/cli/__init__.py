"""The command line. Each command has a file of its own, which parses options, calls the core and prints."""

from ddpmkit.cli.root import main

__all__ = ["main"]
