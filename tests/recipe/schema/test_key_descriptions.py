from pathlib import Path

from ddpmkit.plugin.discovery import discover
from ddpmkit.recipe import keys_text

DOCS = Path(__file__).parents[3] / "docs"


def test_the_documentation_lists_every_key() -> None:
    _, _, documented = (DOCS / "recipes.md").read_text(encoding="utf-8").partition("<!-- keys -->\n")
    assert documented.strip() == keys_text(discover(third_party=False).registry()).strip()


def test_every_key_has_a_description() -> None:
    rows = [line for line in keys_text(discover(third_party=False).registry()).splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert all(len(row.split("|")[4].strip()) > 10 for row in rows)
