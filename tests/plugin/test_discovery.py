import sys
from pathlib import Path
from typing import Any

import pytest

from ddpmkit.errors import InputError, PluginError
from ddpmkit.plugin.discovery import Discovery, discover, find
from ddpmkit.plugin.registry import Quarantined

GOOD = """
from ddpmkit.plugin import Component, hookimpl

@hookimpl
def ddpmkit_components():
    yield Component(kind="loss", name="zig", target="acme_good:Zig", summary="a loss")
    yield Component(kind="loss", name="alpha", target="acme_good:Zig", summary="another")

class Zig:
    def __init__(self, config, *, prediction): ...
"""


def quarantined(found: Discovery, entry: str) -> Quarantined:
    (plugin,) = [plugin for plugin in found.quarantined if plugin.entry_name == entry]
    return plugin


def test_the_built_ins_come_through_entry_points_like_everyone() -> None:
    registry = discover().registry()
    assert registry.get("schedule", "cosine").id == "ddpmkit/cosine"
    assert registry.get("schedule", "ddpmkit/cosine").distribution == "ddpmkit"
    assert [entry.use for entry in registry.of_kind("sampler")] == ["ancestral", "ddim"]
    assert registry.quarantined == ()


def test_finding_imports_nothing(distribution: Any) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", "raise SystemExit('imported')")
    assert "acme.good" in [plugin.entry_name for plugin in find()]
    assert "acme_good" not in sys.modules


def test_a_strangers_component_is_listed_under_its_namespace(distribution: Any) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", GOOD, version="2.3")
    registry = discover().registry()
    entry = registry.get("loss", "acme/zig")
    assert (entry.id, entry.use, entry.origin) == ("acme/zig", "acme/zig", "ddpmkit-acme 2.3")
    assert [found.use for found in registry.of_kind("loss")] == ["acme/alpha", "acme/zig", "huber", "l1", "l2"]
    assert type(entry.build(entry.config_model()(), prediction="epsilon")).__name__ == "Zig"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1 / 0", "ZeroDivisionError"),
        (GOOD.replace("def ddpmkit_components", "def ddpmkit_component"), "did you mean ddpmkit_components?"),
        (GOOD.replace("@hookimpl", ""), "lacks the @hookimpl marker"),
        (GOOD.replace('kind="loss", name="zig"', 'kind="lossy", name="zig"'), "unknown kind 'lossy'"),
        (GOOD.replace('name="zig"', 'name="Zig Zag"'), "lower-case words joined by hyphens"),
        (GOOD.replace('name="zig"', 'name="zig", api=99'), "speaks api 99"),
        (GOOD.replace("acme_good:Zig", "acme_good.Zig"), "not of the form"),
        (GOOD.replace("    yield Component", '    yield "cosine"\n    yield Component', 1), "which is no Component"),
        (GOOD.replace("    yield Component", "    1 / 0\n    yield Component", 1), "ZeroDivisionError"),
    ],
)
def test_what_breaks_is_set_aside_with_its_traceback_and_harms_nobody(
    distribution: Any, source: str, reason: str
) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", source)
    distribution("ddpmkit-other", "other.thing", "other_thing", GOOD.replace("acme_good", "other_thing"))
    found = discover()
    plugin = quarantined(found, "acme.good")
    assert reason in plugin.reason
    assert plugin.distribution == "ddpmkit-acme"
    assert "Traceback" in plugin.traceback
    registry = found.registry()
    assert registry.get("loss", "other/zig")
    assert registry.get("schedule", "cosine")
    with pytest.raises(PluginError) as caught:
        registry.get("loss", "acme/zig")
    assert "installed but broken: acme.good (ddpmkit-acme 1.0)" in str(caught.value)


def test_the_namespace_of_the_built_ins_and_of_files_is_closed(distribution: Any) -> None:
    distribution("ddpmkit-acme", "ddpmkit.good", "acme_good", "raise SystemExit('imported')")
    distribution("ddpmkit-other", "local.thing", "other_thing", "raise SystemExit('imported')")
    found = discover()
    assert quarantined(found, "ddpmkit.good").reason == "the namespace 'ddpmkit' is not open to ddpmkit-acme"
    assert quarantined(found, "local.thing").reason == "the namespace 'local' is not open to ddpmkit-other"
    assert "acme_good" not in sys.modules


def test_a_name_claimed_twice_names_both_distributions(distribution: Any) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", GOOD)
    distribution("ddpmkit-rival", "acme.thing", "other_thing", GOOD.replace("acme_good", "other_thing"))
    with pytest.raises(PluginError, match="claimed twice") as caught:
        discover().registry()
    assert "ddpmkit-acme 1.0" in str(caught.value)
    assert "ddpmkit-rival 1.0" in str(caught.value)


@pytest.mark.parametrize("named", ["acme", "acme.good", "other, acme"])
def test_what_is_switched_off_is_not_imported(distribution: Any, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", "raise SystemExit('imported')")
    monkeypatch.setenv("DDPMKIT_DISABLE_PLUGINS", named)
    found = discover()
    assert [plugin.entry_name for plugin in found.disabled] == ["acme.good"]
    assert found.quarantined == ()
    assert "acme_good" not in sys.modules


def test_without_third_parties_only_they_are_left_out(distribution: Any) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", GOOD)
    found = discover(third_party=False)
    assert [plugin.entry_name for plugin in found.disabled] == ["acme.good"]
    assert found.registry().get("schedule", "cosine")


def test_a_single_file_is_a_plugin(tmp_path: Path) -> None:
    file = tmp_path / "zig.py"
    file.write_text(GOOD.replace('"acme_good:Zig"', 'f"{__name__}:Zig"'))
    registry = discover([file]).registry()
    entry = registry.get("loss", "local/zig")
    assert entry.build(entry.config_model()(), prediction="epsilon")
    assert entry.distribution == str(file)
    assert entry.version.startswith("sha256:")


def test_a_file_that_is_not_there_is_bad_input_and_one_that_breaks_is_set_aside(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        discover([tmp_path / "nowhere.py"])
    file = tmp_path / "broken.py"
    file.write_text("1 / 0")
    assert "ZeroDivisionError" in quarantined(discover([file]), "local.broken").reason


def test_commands_are_collected(distribution: Any) -> None:
    source = """
import click
from ddpmkit.plugin import hookimpl

@hookimpl
def ddpmkit_commands():
    yield click.Command("zig")
"""
    distribution("ddpmkit-acme", "acme.good", "acme_good", source)
    (plugin,) = [plugin for plugin in discover().plugins if plugin.found.entry_name == "acme.good"]
    assert [command.name for command in plugin.commands] == ["zig"]
