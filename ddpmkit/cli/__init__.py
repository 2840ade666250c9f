"""The command line: one click command a file, thin: parse, call the core, print."""

from ddpmkit.cli.root import main

__all__ = ["main"]
