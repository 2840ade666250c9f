import pytest
from pydantic import Field

from ddpmkit.errors import ComponentUnavailable, PluginError
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.loader import BrokenPlugin
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.registry import Registry, name_conflicts

ACME = FoundPlugin("acme.zig", "ddpmkit_acme", "ddpmkit-acme", "1.2")
RIVAL = FoundPlugin("acme.zag", "ddpmkit_rival", "ddpmkit-rival", "3.4")
BUILT_IN = FoundPlugin("ddpmkit.zig", "ddpmkit_plugins.zig", "ddpmkit", "0.1")


class Config(ComponentConfig):
    power: float = Field(default=2.0, gt=0)
    """How much."""


class Clashing(ComponentConfig):
    timesteps: int = 3
    """The name of a runtime argument."""


class Using(ComponentConfig):
    use: str = "this"
    """The key that selects the component in a recipe."""


class Plain:
    pass


class Built:
    def __init__(self, config: Config, *, timesteps: int) -> None:
        if timesteps == 13:
            raise RuntimeError("unlucky")
        if timesteps == 14:
            raise ComponentUnavailable("not today", remedies=["tomorrow"])
        if timesteps == 15:
            raise SystemExit("no goodbye")
        self.config, self.timesteps = config, timesteps

    @classmethod
    def optional_method(cls, config: Config, *, timesteps: int) -> float:
        return cls(config, timesteps=timesteps).config.power


def component(name: str = "zig", **changes: object) -> Component:
    fields = {"target": f"{__name__}:Built", "config": f"{__name__}:Config", "summary": "x", **changes}
    return Component(kind="schedule", name=name, **fields)  # type: ignore[arg-type]


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
        "installed but broken: acme.zag (ddpmkit-rival 3.4): ?",
        "installed but broken: acme.zig (ddpmkit-acme 1.2): ImportError: zig",
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


def test_a_component_is_built_from_its_config_and_runtime_arguments() -> None:
    built = registry(component()).get("schedule", "zig").build(Config(power=3.0), timesteps=5)
    assert (built.config.power, built.timesteps) == (3.0, 5)


def test_an_error_in_plugin_code_names_the_distribution() -> None:
    entry = RegisteredComponent(component(), ACME)
    with pytest.raises(PluginError, match="RuntimeError: unlucky") as caught:
        entry.build(Config(), timesteps=13)
    assert "ddpmkit-acme 1.2" in str(caught.value)
    with pytest.raises(PluginError, match="SystemExit: no goodbye"):
        entry.build(Config(), timesteps=15)
    with pytest.raises(PluginError, match="AttributeError"):
        RegisteredComponent(component(target=f"{__name__}:Gone"), ACME).build(Config(), timesteps=1)


def test_errors_in_optional_methods_name_the_distribution() -> None:
    entry = RegisteredComponent(component(), ACME)
    assert entry.implements("optional_method")
    assert not entry.implements("inspect")
    assert entry.call("optional_method", Config(power=3.0), timesteps=5) == 3.0
    with pytest.raises(PluginError, match="RuntimeError: unlucky") as caught:
        entry.call("optional_method", Config(), timesteps=13)
    assert "ddpmkit-acme 1.2" in str(caught.value)
    with pytest.raises(ComponentUnavailable, match="no_such_module"):
        RegisteredComponent(component(requires=("no_such_module",)), ACME).implements("optional_method")


def test_component_unavailable_passes_through() -> None:
    with pytest.raises(ComponentUnavailable, match="not today"):
        registry(component()).get("schedule", "zig").build(Config(), timesteps=14)


def test_a_missing_requirement_is_reported_before_any_import() -> None:
    lacking = component(requires=("sys", "no_such_module"), target="not_to_be_imported:Built")
    with pytest.raises(ComponentUnavailable) as caught:
        RegisteredComponent(lacking, ACME).build(Config(), timesteps=1)
    assert str(caught.value) == (
        "schedule 'acme/zig' (ddpmkit-acme 1.2) needs the module no_such_module, not installed here.\n"
        "  - pip install ddpmkit-acme==1.2\n"
        "  - use another schedule"
    )


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("Clashing", "whose names are reserved: timesteps"),
        ("Using", "whose names are reserved: use"),
        ("Plain", "must be a subclass"),
        ("Gone", "Gone"),
    ],
)
def test_an_invalid_config_model_is_an_error(config: str, reason: str) -> None:
    entry = registry(component(config=f"{__name__}:{config}")).get("schedule", "zig")
    with pytest.raises(PluginError, match=reason):
        entry.config_model()
