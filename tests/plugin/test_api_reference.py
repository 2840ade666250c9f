"""docs/contracts.md, generated from the source."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddpmkit.contracts import KINDS, RUNTIME
from ddpmkit.plugin.api_reference import contracts_text

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_contracts_md_is_up_to_date() -> None:
    _, _, documented = (DOCS / "contracts.md").read_text(encoding="utf-8").partition("<!-- contracts -->\n")
    assert documented.strip() == contracts_text().strip(), (
        "replace the text below the mark with the output of `ddpmkit plugins contracts`"
    )


def test_links_within_the_page_exist() -> None:
    page = (DOCS / "contracts.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\(#([^)]*)\)", page)) <= anchors


@pytest.mark.parametrize("module", ["contracts", "plugin", "diffusion", "nn", "frechet", "decoding", "pixel_cache"])
def test_every_public_name_is_documented(module: str) -> None:
    entries = dict(entry.partition("\n")[::2] for entry in contracts_text().split("### ")[1:])
    for name in importlib.import_module(f"ddpmkit.{module}").__all__:
        words = [line for line in entries[f"`{name}`"].splitlines() if line and not line.startswith(("```", "#"))]
        assert words, name


@pytest.mark.parametrize("kind", KINDS)
def test_every_runtime_argument_is_documented_with_its_type(kind: str) -> None:
    page = contracts_text([kind], {})
    assert page.startswith(f"## {kind}\n")
    for name in RUNTIME[kind]:
        assert f"`{name}: " in page


def test_signatures_are_copied_from_the_source_and_fields_have_descriptions() -> None:
    page = contracts_text()
    assert "```python\n@property\ndef better(self) -> Mapping[str, Better]\n```\n\nFor each score, whether" in page
    assert "- `facts: Mapping[str, str] = {}`  \n  What else affects the score" in page
    assert '- `name: Literal["samples", "forward", "reverse"]`  \n  A grid of samples' in page
    assert re.findall(r"^- `.*`$", page, re.MULTILINE) == []  # a field without a description
    assert "_alpha_bar: list" not in page


def test_documented_modules_are_not_imported() -> None:
    code = (
        "import sys; from ddpmkit.plugin.api_reference import contracts_text; contracts_text(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
