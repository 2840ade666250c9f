import pytest
from pydantic import Field

from ddpmkit.errors import ComponentUnavailable, PluginError
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import RegisteredComponent, Registry


class Config(ComponentConfig):
    power: float = Field(default=2.0, gt=0)
    """How much."""


class Clashing(ComponentConfig):
    timesteps: int = 3
    """A name that the core passes in."""


class Plain:
    pass


class Built:
    def __init__(self, config: Config, *, timesteps: int) -> None:
        if timesteps == 13:
            raise RuntimeError("unlucky")
        if timesteps == 14:
            raise ComponentUnavailable("not today", remedies=["tomorrow"])
        self.config, self.timesteps = config, timesteps


def component(name: str = "zig", **changes: object) -> Component:
    fields = {"target": f"{__name__}:Built", "config": f"{__name__}:Config", "summary": "x", **changes}
    return Component(kind="schedule", name=name, **fields)  # type: ignore[arg-type]


def registry(*components: Component) -> Registry:
    return Registry.from_components(components, namespace="ddpmkit")


def test_a_bare_name_is_a_built_in_and_a_full_name_is_anybodys() -> None:
    stranger = RegisteredComponent(component("cosine"), "acme", "ddpmkit-acme", "1.0")
    table = Registry.from_components([RegisteredComponent(component("cosine"), "ddpmkit", "ddpmkit", "0"), stranger])
    assert table.get("schedule", "cosine").namespace == "ddpmkit"
    assert table.get("schedule", "acme/cosine") is stranger


def test_the_table_cannot_be_written_to() -> None:
    table = registry(component())
    with pytest.raises(TypeError):
        table.components["schedule"]["acme/new"] = table.get("schedule", "zig")  # type: ignore[index]


def test_an_unknown_name_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(PluginError, match="there is no schedule 'zag'") as caught:
        registry(component("zig"), component("cosine")).get("schedule", "zag")
    assert "did you mean 'zig'?" in str(caught.value)
    assert "available: cosine, zig" in str(caught.value)


def test_a_name_of_another_kind_is_pointed_out() -> None:
    with pytest.raises(PluginError, match="'zig' is a schedule, not a loss"):
        registry(component()).get("loss", "zig")


def test_a_component_is_built_from_its_config_and_what_the_core_passes() -> None:
    built = registry(component()).get("schedule", "zig").build(Config(power=3.0), timesteps=5)
    assert (built.config.power, built.timesteps) == (3.0, 5)


def test_code_that_fails_is_named_with_its_distribution() -> None:
    entry = RegisteredComponent(component(), "acme", "ddpmkit-acme", "1.2")
    with pytest.raises(PluginError, match="RuntimeError: unlucky") as caught:
        entry.build(Config(), timesteps=13)
    assert "ddpmkit-acme 1.2" in str(caught.value)
    with pytest.raises(PluginError, match="AttributeError"):
        RegisteredComponent(component(target=f"{__name__}:Gone"), "acme", "a", "1").build(Config(), timesteps=1)


def test_what_a_component_says_itself_is_passed_on_as_it_is() -> None:
    with pytest.raises(ComponentUnavailable, match="not today"):
        registry(component()).get("schedule", "zig").build(Config(), timesteps=14)


def test_a_missing_requirement_is_said_with_the_command_that_installs_it() -> None:
    entry = registry(component(requires=("no_such_module",))).get("schedule", "zig")
    with pytest.raises(ComponentUnavailable) as caught:
        entry.build(Config(), timesteps=1)
    assert "pip install no_such_module" in str(caught.value)


@pytest.mark.parametrize(
    ("config", "reason"),
    [("Clashing", "named like what the core passes in: timesteps"), ("Plain", "must be a subclass"), ("Gone", "Gone")],
)
def test_a_config_that_cannot_serve_is_refused(config: str, reason: str) -> None:
    entry = registry(component(config=f"{__name__}:{config}")).get("schedule", "zig")
    with pytest.raises(PluginError, match=reason):
        entry.config_model()
