"""`python -m ddpmkit`."""

from ddpmkit.cli import main

main()
