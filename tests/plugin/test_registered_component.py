import pytest
from pydantic import Field

from ddpmkit.errors import ComponentUnavailable, PluginError
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.registered_component import RegisteredComponent

ACME = FoundPlugin("acme.zig", "ddpmkit_acme", "ddpmkit-acme", "1.2")


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


def registered(**changes: object) -> RegisteredComponent:
    fields = {"target": f"{__name__}:Built", "config": f"{__name__}:Config", "summary": "x", **changes}
    return RegisteredComponent(Component(kind="schedule", name="zig", **fields), ACME)  # type: ignore[arg-type]


def test_a_component_is_built_from_its_config_and_runtime_arguments() -> None:
    built = registered().build(Config(power=3.0), timesteps=5)
    assert (built.config.power, built.timesteps) == (3.0, 5)


def test_an_error_in_plugin_code_names_the_distribution() -> None:
    entry = registered()
    with pytest.raises(PluginError, match="RuntimeError: unlucky") as caught:
        entry.build(Config(), timesteps=13)
    assert "ddpmkit-acme 1.2" in str(caught.value)
    with pytest.raises(PluginError, match="SystemExit: no goodbye"):
        entry.build(Config(), timesteps=15)
    with pytest.raises(PluginError, match="AttributeError"):
        registered(target=f"{__name__}:Gone").build(Config(), timesteps=1)


def test_errors_in_optional_methods_name_the_distribution() -> None:
    entry = registered()
    assert entry.implements("optional_method")
    assert not entry.implements("inspect")
    assert entry.call("optional_method", Config(power=3.0), timesteps=5) == 3.0
    with pytest.raises(PluginError, match="RuntimeError: unlucky") as caught:
        entry.call("optional_method", Config(), timesteps=13)
    assert "ddpmkit-acme 1.2" in str(caught.value)
    with pytest.raises(ComponentUnavailable, match="no_such_module"):
        registered(requires=("no_such_module",)).implements("optional_method")


def test_component_unavailable_passes_through() -> None:
    with pytest.raises(ComponentUnavailable, match="not today"):
        registered().build(Config(), timesteps=14)


def test_a_missing_requirement_is_reported_before_any_import() -> None:
    lacking = registered(requires=("sys", "no_such_module"), target="not_to_be_imported:Built")
    with pytest.raises(ComponentUnavailable) as caught:
        lacking.build(Config(), timesteps=1)
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
    entry = registered(config=f"{__name__}:{config}")
    with pytest.raises(PluginError, match=reason):
        entry.config_model()
