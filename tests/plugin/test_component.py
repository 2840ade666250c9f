"""The versions of the contracts that a component can implement."""

import re
from typing import Any

import pytest

from ddpmkit.plugin import API_VERSION, Component
from ddpmkit.plugin import component as module


def component_with_api(api: int) -> Component:
    return Component(kind="loss", name="zig", target="acme:Zig", summary="", api=api)


@pytest.mark.parametrize(
    ("core", "good", "refused"), [(1, [1], [0, 2]), (2, [1, 2], [0, 3]), (5, [4, 5], [1, 3, 6])], ids=str
)
def test_the_current_and_the_previous_api_version_are_supported(
    monkeypatch: pytest.MonkeyPatch, core: int, good: list[int], refused: list[int]
) -> None:
    monkeypatch.setattr(module, "API_VERSION", core)
    assert [component_with_api(api).api for api in good] == good
    for api in refused:
        outdated = "the plugin" if api < core else "ddpmkit"
        supported = " and ".join(map(str, good))
        message = f"requires api {api}, but this ddpmkit supports api {supported}: update {outdated}$"
        with pytest.raises(ValueError, match=message):
            component_with_api(api)


def test_the_default_api_version_is_the_current_one() -> None:
    assert Component(kind="loss", name="zig", target="acme:Zig", summary="").api == API_VERSION


@pytest.mark.parametrize("api", ["1", 1.0, True, None])
def test_an_api_version_that_is_not_an_integer_is_an_error(api: Any) -> None:
    message = re.escape(f"component 'zig' has api={api!r}, which is not an integer: set api=1")
    with pytest.raises(ValueError, match=f"^{message}$"):
        component_with_api(api)
