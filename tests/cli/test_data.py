import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from ddpmkit.cli import main


@pytest.fixture
def fetched(monkeypatch):
    """What the core was asked to fetch, instead of fetching it."""
    asked = []

    def fetch_afhq(destination, version=1, *, url=None, progress):
        asked.append((destination, version, url))
        progress(50, None)  # a server that does not say how much there is
        progress(100, 100)
        return destination

    monkeypatch.setitem(sys.modules, "ddpmkit.data.fetch", SimpleNamespace(fetch_afhq=fetch_afhq))
    return asked


def test_the_default_is_where_the_recipes_look(fetched):
    result = CliRunner().invoke(main, ["data", "fetch", "afhq"])
    assert (result.exit_code, result.stdout) == (0, "data/afhq\n")
    assert fetched == [(Path("data/afhq"), 1, None)]
    assert "CC BY-NC 4.0" in result.stderr
    assert "\x1b" not in result.stderr
    assert result.stderr.endswith("next: ddpmkit run recipes/afhq_cat_warmup.toml\n")


def test_another_version_place_and_source(fetched):
    arguments = ["--version", "2", "--out", "cats", "--url", "http://localhost/a.zip"]
    result = CliRunner().invoke(main, ["data", "fetch", "afhq", *arguments])
    assert result.stderr.endswith(" --set data.root=cats\n")
    assert fetched == [(Path("cats"), 2, "http://localhost/a.zip")]


def test_an_unknown_data_set_exits_2(fetched):
    result = CliRunner().invoke(main, ["data", "fetch", "imagenet"])
    assert result.exit_code == 2
    assert fetched == []
