import pytest

from ddpmkit.errors import PluginError
from ddpmkit.plugin import Component
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.loader import BrokenPlugin
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.registry import Registry, name_conflicts

ACME = FoundPlugin("acme.zig", "ddpmkit_acme", "ddpmkit-acme", "1.2")
RIVAL = FoundPlugin("acme.zag", "ddpmkit_rival", "ddpmkit-rival", "3.4")
BUILT_IN = FoundPlugin("ddpmkit.zig", "ddpmkit_plugins.zig", "ddpmkit", "0.1")


def component(name: str = "zig") -> Component:
    return Component(kind="schedule", name=name, target="acme:Zig", summary="x")


def registry(*components: Component) -> Registry:
    return Registry.from_components(components, namespace="ddpmkit")


def test_a_name_without_a_namespace_is_a_built_in_component() -> None:
    third_party = RegisteredComponent(component("cosine"), ACME)
    table = Registry.from_components([RegisteredComponent(component("cosine"), BUILT_IN), third_party])
    assert table.get("schedule", "cosine").plugin == BUILT_IN
    assert table.get("schedule", "acme/cosine") is third_party


def test_the_registry_is_immutable() -> None:
    table = registry(component())
    with pytest.raises(TypeError):
        table.components["schedule"]["acme/new"] = table.get("schedule", "zig")  # type: ignore[index]


def test_an_unknown_name_lists_the_closest_and_all_names() -> None:
    with pytest.raises(PluginError, match="there is no schedule 'zag'") as caught:
        registry(component("zig"), component("cosine")).get("schedule", "zag")
    assert "did you mean 'zig'?" in str(caught.value)
    assert "available: cosine, zig" in str(caught.value)


def test_a_name_of_another_kind_is_reported() -> None:
    with pytest.raises(PluginError, match="'zig' is a schedule, not a loss"):
        registry(component()).get("loss", "zig")


def test_a_third_party_component_is_suggested_for_its_name_without_a_namespace() -> None:
    table = Registry.from_components([RegisteredComponent(component("zigzag"), ACME)])
    with pytest.raises(PluginError, match="did you mean 'acme/zigzag'"):
        table.get("schedule", "zigzag")


def test_suggestions_list_broken_and_disabled_plugins() -> None:
    table = Registry.from_components(
        [],
        broken=[BrokenPlugin(ACME, "ImportError: zig"), BrokenPlugin(RIVAL, "?")],
        disabled=[RIVAL, BUILT_IN],
    )
    assert table.suggestions("schedule", "acme/zigzag") == [
        "available: none",
        "failed to load: acme.zag (ddpmkit-rival 3.4): ?",
        "failed to load: acme.zig (ddpmkit-acme 1.2): ImportError: zig",
        "installed but disabled: acme.zag (ddpmkit-rival 3.4)",
    ]
    assert table.suggestions("schedule", "cosine")[-1] == "installed but disabled: ddpmkit.zig (ddpmkit 0.1)"


def test_suggestions_for_the_local_namespace_name_the_option() -> None:
    assert registry().suggestions("schedule", "local/zig")[-1].endswith("load one with --plugin FILE")


def test_every_name_conflict_is_reported_with_its_plugins() -> None:
    entries = [RegisteredComponent(component(name), plugin) for name in ("b", "a") for plugin in (ACME, RIVAL)]
    entries.append(RegisteredComponent(component("c"), ACME))
    with pytest.raises(PluginError) as caught:
        Registry.from_components(entries)
    both = "by acme.zag (ddpmkit-rival 3.4) and by acme.zig (ddpmkit-acme 1.2)"
    assert caught.value.message == f"schedule 'acme/a' is claimed {both}; schedule 'acme/b' is claimed {both}."
    assert "disable one of them: DDPMKIT_DISABLE_PLUGINS=acme.zig" in caught.value.remedies
    assert name_conflicts(entries) == name_conflicts(entries[::-1])
    assert [conflict.components[0].id for conflict in name_conflicts(entries)] == ["acme/a", "acme/b"]


def test_a_name_can_be_used_in_two_kinds_and_two_namespaces() -> None:
    loss = Component(kind="loss", name="zig", target="a:B", summary="x")
    entries = [RegisteredComponent(each, ACME) for each in (component(), loss)]
    assert name_conflicts([*entries, RegisteredComponent(component(), BUILT_IN)]) == ()
