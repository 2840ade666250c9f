import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpmkit.doctor.plugins import installed_plugins, plugin_diagnoses
from ddpmkit.plugin import Component, Diagnosis
from ddpmkit.plugin.discovery import Discovery
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.loader import BrokenPlugin, LoadedPlugin
from ddpmkit.plugin.registered_component import RegisteredComponent

ACME = FoundPlugin("acme.zig", "acme", "ddpmkit-acme", "1.2")
RIVAL = FoundPlugin("acme.zag", "rival", "ddpmkit-rival", "3.4")
BUILT_IN = FoundPlugin("ddpmkit.zig", "builtin", "ddpmkit", "0.1")
LOCAL = FoundPlugin("local.zig", "zig", "zig.py", "sha256:0", Path("zig.py"))


def good() -> Diagnosis:
    return Diagnosis("zig", "note", "half full")


def bad() -> Diagnosis:
    raise SystemExit("no\nmore")


def endless() -> Diagnosis:
    time.sleep(60)
    return good()


def vague() -> object:
    return "fine"


def alarmed() -> Diagnosis:
    return Diagnosis("zig", "warning", "half full", "fill it")  # type: ignore[arg-type]


def offering(plugin: FoundPlugin, *names: str) -> LoadedPlugin:
    zig = Component(kind="loss", name="zig", target="a:B", summary="x")
    return LoadedPlugin(plugin, (RegisteredComponent(zig, plugin),), (), tuple(f"{__name__}:{name}" for name in names))


def test_working_plugins_are_counted_and_disabled_plugins_are_named() -> None:
    (found,) = installed_plugins(Discovery((offering(ACME), offering(BUILT_IN)), (), (RIVAL,)))
    assert (found.state, found.finding) == ("ok", "2 work; disabled: acme.zag (ddpmkit-rival 3.4)")


def test_an_installation_without_plugins_is_a_problem() -> None:
    (found,) = installed_plugins(Discovery((), ()))
    assert found.state == "problem"


@pytest.mark.parametrize(
    ("plugin", "remedy"),
    [
        (ACME, "disable it: set DDPMKIT_DISABLE_PLUGINS=acme.zig in the environment"),
        (BUILT_IN, "pip install --force-reinstall --no-deps ddpmkit"),
        (LOCAL, "fix zig.py:3, or remove the plugin"),
    ],
)
def test_a_broken_plugin_is_a_problem_with_a_traceback_and_remedies(plugin: FoundPlugin, remedy: str) -> None:
    _, found = installed_plugins(
        Discovery((offering(RIVAL),), (BrokenPlugin(plugin, "ImportError: x", "line 1", "zig.py:3"),))
    )
    assert (found.state, found.details) == ("problem", "line 1")
    assert found.finding == f"{plugin} failed to load: ImportError: x"
    assert remedy in found.remedies


def test_a_name_conflict_is_a_problem() -> None:
    _, found = installed_plugins(Discovery((offering(ACME), offering(RIVAL)), ()))
    assert found.state == "problem"
    both = "by acme.zag (ddpmkit-rival 3.4) and by acme.zig (ddpmkit-acme 1.2)"
    assert found.finding == f"loss 'acme/zig' is claimed {both}: no recipe can be read"
    assert "pip uninstall ddpmkit-acme" in found.remedies


def test_a_diagnosis_that_fails_is_a_problem_of_its_plugin_only() -> None:
    discovery = Discovery((offering(ACME, "bad", "gone", "vague"), offering(RIVAL, "good")), ())
    first, second, third, last = plugin_diagnoses(discovery)
    assert last == good()
    assert [(one.subject, one.state) for one in (first, second, third)] == [("acme.zig", "problem")] * 3
    assert first.finding == "the check failed: SystemExit: no"
    assert "AttributeError" in second.finding
    assert third.finding == "the check failed: TypeError: it returned 'fine', which is not a Diagnosis"
    assert first.remedies == (f"report it to the authors of ddpmkit-acme 1.2, which provides it: {__name__}:bad fails",)
    assert "Traceback" in first.details


def test_a_malformed_diagnosis_is_a_problem_of_its_plugin_only() -> None:
    wrong, right = plugin_diagnoses(Discovery((offering(ACME, "alarmed", "good"),), ()))
    assert (wrong.subject, wrong.state, right) == ("acme.zig", "problem", good())
    assert wrong.finding == (
        "the check failed: ValueError: the diagnosis of 'zig' has the unknown state 'warning'; "
        "states are ok, note, problem"
    )
    assert wrong.remedies == (
        f"report it to the authors of ddpmkit-acme 1.2, which provides it: {__name__}:alarmed fails",
    )


def test_built_in_plugins_use_the_same_hook(builtin: Callable[[], Discovery]) -> None:
    named = [reference for plugin in builtin().plugins for reference in plugin.diagnoses]
    assert "ddpmkit_plugins.wandb_tracker.diagnosis:connection" in named
    assert "ddpmkit_plugins.clean_fid.diagnosis:inception_file" in named


@pytest.fixture
def builtin() -> Callable[[], Discovery]:
    from ddpmkit.plugin.discovery import discover

    return lambda: discover(third_party=False)


def test_a_diagnosis_that_hangs_is_a_problem_of_its_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddpmkit.doctor.plugins._TIMEOUT", 0.3)
    endless_one, good_one = plugin_diagnoses(Discovery((offering(ACME, "endless", "good"),), ()))
    assert endless_one.subject == "acme.zig"
    assert (endless_one.state, good_one.state) == ("problem", "note")
    assert endless_one.finding == "the check failed: TimeoutError: no answer within 0.3 seconds"
