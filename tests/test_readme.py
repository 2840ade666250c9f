"""The README shows real output, and its tables are complete."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ddpmkit.cli import main
from ddpmkit.plugin.discovery import discover

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_typo_gives_the_error_that_is_shown(folder: Path) -> None:
    (recipe,) = (block for block in blocks("toml") if block.startswith("# mine.toml"))
    (folder / "mine.toml").write_text(recipe)
    (shown,) = blocks("console")
    result = CliRunner().invoke(main, ["recipe", "check", "mine.toml", "--no-plugins"])
    assert result.exit_code == 2
    assert result.stderr == shown.partition("\n")[2]


def test_the_plugin_passes_every_check_of_its_kind(folder: Path) -> None:
    (source,) = (block for block in blocks("python") if "hookimpl" in block)
    assert source.count("\n") <= 25
    (folder / "zigzag.py").write_text(source)
    result = CliRunner().invoke(main, ["plugins", "check", "local/zigzag", "--plugin", "zigzag.py"])
    assert result.exit_code == 0, result.output


def test_every_recipe_is_in_the_table() -> None:
    for recipe in (ROOT / "recipes").glob("*.toml"):
        assert f"`{recipe.name}`" in README


def test_every_component_is_in_the_table() -> None:
    for entry in discover(third_party=False).components:
        (row,) = re.findall(rf"^\| {entry.kind} \|.*$", README, flags=re.MULTILINE)
        assert f"`{entry.use}`" in row
