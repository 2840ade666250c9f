import io

import pytest
from rich.console import Console

from ddpmkit.cli.display import open_display
from ddpmkit.cli.live_panel import LiveDisplay
from ddpmkit.cli.plain_log import PlainDisplay
from ddpmkit.cli.terminal import Terminal


@pytest.mark.parametrize(
    ("is_terminal", "term", "expected"),
    [(True, "xterm-256color", LiveDisplay), (True, "dumb", PlainDisplay), (False, "xterm-256color", PlainDisplay)],
)
def test_live_only_where_lines_can_be_redrawn(is_terminal, term, expected):
    console = Console(file=io.StringIO(), force_terminal=is_terminal, _environ={"TERM": term})
    assert type(open_display(Terminal(err=console))) is expected
