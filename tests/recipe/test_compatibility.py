import pytest

from ddpmkit.plugin import Component
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError, read_recipe


def test_a_need_that_nothing_installed_meets_says_whom_to_ask(registry: Registry) -> None:
    needy = Component(kind="loss", name="needy", target="a:B", summary="", needs=("depth-maps",))
    plugin = registry.get("loss", "l1").plugin
    others = [entry for kind in registry.components for entry in registry.of_kind(kind)]
    with pytest.raises(RecipeError) as caught:
        read_recipe(
            {"loss": {"use": "needy"}}, registry=Registry.from_components([*others, RegisteredComponent(needy, plugin)])
        )
    (problem,) = caught.value.problems
    assert problem.hints == (
        "no installed component provides it: install what unpackaged 0 requires for it, or use another loss",
    )
