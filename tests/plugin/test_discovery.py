import importlib.metadata
import sys
from pathlib import Path
from typing import Any

import pytest

from ddpmkit.errors import PluginError
from ddpmkit.plugin.discovery import discover


def test_built_in_plugins_are_found_through_entry_points() -> None:
    registry = discover().registry()
    assert registry.get("schedule", "cosine").id == "ddpmkit/cosine"
    assert registry.get("schedule", "ddpmkit/cosine").plugin.distribution == "ddpmkit"
    samplers = ["ancestral", "ddim", "dpm-solver-2m", "heun", "unipc"]
    assert [entry.use for entry in registry.of_kind("sampler")] == samplers
    assert registry.broken == ()


def test_a_third_party_component_has_the_namespace_of_its_entry_point(distribution: Any) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", version="2.3")
    registry = discover().registry()
    entry = registry.get("loss", "acme/zig")
    assert (entry.id, entry.use, entry.origin) == ("acme/zig", "acme/zig", "ddpmkit-acme 2.3")
    third_party = [found.use for found in registry.of_kind("loss") if found.plugin.distribution != "ddpmkit"]
    assert third_party == ["acme/alpha", "acme/zig"]
    assert type(entry.build(entry.config_model()(), prediction="epsilon")).__name__ == "Zig"


def test_a_name_conflict_names_both_distributions_and_both_components_are_listed(distribution: Any) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good")
    distribution("ddpmkit-rival", "acme.thing", "other_thing")
    found = discover()
    with pytest.raises(PluginError) as caught:
        found.registry()
    assert "'acme/zig' is claimed by acme.good (ddpmkit-acme 1.0) and by acme.thing (ddpmkit-rival 1.0)" in str(
        caught.value
    )
    assert [entry.origin for entry in found.components if entry.id == "acme/zig"] == [
        "ddpmkit-acme 1.0",
        "ddpmkit-rival 1.0",
    ]


def test_the_order_of_entry_points_does_not_matter(distribution: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good")
    distribution("ddpmkit-other", "other.thing", "other_thing")
    distribution("ddpmkit-broken", "broken.thing", "broken_thing", "1 / 0")
    distribution("ddpmkit-worse", "worse.thing", "worse_thing", "1 / 0")
    entries = list(importlib.metadata.entry_points(group="ddpmkit.plugins"))
    seen = []
    for order in (entries, entries[::-1]):
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group, order=order: order)
        found = discover()
        registry = found.registry()
        seen.append(
            (
                [entry.id for entry in found.components],
                [entry.id for kind in registry.components for entry in registry.of_kind(kind)],
                [str(broken) for broken in registry.broken],
            )
        )
    assert seen[0] == seen[1]
    listed = [id_ for id_ in seen[0][0] if not id_.startswith("ddpmkit/")]
    assert listed == ["acme/alpha", "acme/zig", "other/alpha", "other/zig"]


@pytest.mark.parametrize("named", ["acme", "acme.good", "other, acme"])
def test_a_disabled_plugin_is_not_imported(distribution: Any, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", "raise SystemExit('imported')")
    monkeypatch.setenv("DDPMKIT_DISABLE_PLUGINS", named)
    found = discover()
    assert [plugin.entry_name for plugin in found.disabled] == ["acme.good"]
    assert found.broken == ()
    assert "acme_good" not in sys.modules
    with pytest.raises(PluginError, match=r"installed but disabled: acme.good \(ddpmkit-acme 1.0\)"):
        found.registry().get("loss", "acme/zig")


def test_a_built_in_plugin_can_be_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPMKIT_DISABLE_PLUGINS", "ddpmkit.cosine")
    with pytest.raises(PluginError, match=r"disabled: ddpmkit.cosine"):
        discover().registry().get("schedule", "cosine")


def test_third_party_false_disables_only_third_party_plugins(distribution: Any, good: str, tmp_path: Path) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", "raise SystemExit('imported')")
    file = tmp_path / "mine.py"
    file.write_text(good)
    found = discover([file], third_party=False)
    assert [plugin.entry_name for plugin in found.disabled] == ["acme.good"]
    assert "acme_good" not in sys.modules
    assert found.registry().get("schedule", "cosine")
    assert found.registry().get("loss", "local/zig")
