"""Every check as a Markdown page.

It does not know where the page is kept.
"""

import importlib
from collections.abc import Iterable

from ddpmkit.contracts import KINDS

__all__ = ["checks_text"]


def checks_text(kinds: Iterable[str] = KINDS) -> str:
    """Markdown: the manners, then the checks of each kind; of each check what it asks, and what to do when it fails."""
    lines: list[str] = []
    for name in ("manners", *kinds):
        lines += [f"## {name}", ""]
        for rule in importlib.import_module(f"ddpmkit.testing.{name}").RULES:
            question = f"{rule.question[:1].upper()}{rule.question[1:]}"
            lines += [f"### `{rule.id}`", "", f"**{question}**", "", rule.remedy, ""]
    return "\n".join(lines).rstrip() + "\n"
