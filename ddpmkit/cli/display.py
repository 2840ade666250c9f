"""The display that suits the terminal.

It does not know what will be shown.
"""

from ddpmkit.cli.live_panel import LiveDisplay
from ddpmkit.cli.plain_log import PlainDisplay
from ddpmkit.cli.terminal import Terminal

__all__ = ["open_display"]


def open_display(terminal: Terminal) -> PlainDisplay:
    """Live where lines can be redrawn, plain lines elsewhere. To be entered before use."""
    can_redraw = terminal.err.is_terminal and not terminal.err.is_dumb_terminal
    return LiveDisplay(terminal.err) if can_redraw else PlainDisplay(terminal.err)
