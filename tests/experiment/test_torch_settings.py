"""Whatever computes with a network does it with the settings of its runtime, and leaves torch as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ddpmkit
from ddpmkit.contracts import ImageShape
from ddpmkit.experiment.profile import profile
from ddpmkit.float32_products import float32_products
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import read_recipe

_seen: list[tuple[str, str, bool]] = []


class Watching(nn.Module):
    """A backbone that notes the settings at each call."""

    def __init__(
        self, config: ComponentConfig, *, image_shape: ImageShape, num_classes: int, out_channels: int
    ) -> None:
        super().__init__()
        self.layer = nn.Conv2d(image_shape.channels, out_channels, 1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        products = float32_products()
        _seen.append((products.matmul, products.convolution, torch.backends.cudnn.deterministic))
        return self.layer(x)  # type: ignore[no-any-return]  # a module call is Any


@pytest.mark.parametrize("tf32", [False, True])
def test_run_samples_strips_and_profile_have_the_settings(
    small: Callable[..., dict[str, Any]], with_parts: Callable[..., Registry], tmp_path: Path, tf32: bool
) -> None:
    part = Component(kind="backbone", name="watching", target=f"{__name__}:Watching", summary="for a test")
    registry, before = with_parts(part), float32_products()
    train = {"steps": 2, "validate_every": 1, "tf32": tf32}
    recipe = read_recipe(small(backbone={"use": "local/watching"}, train=train), registry=registry)
    runs: list[Any] = []
    uses: tuple[Callable[[], object], ...] = (
        lambda: runs.append(ddpmkit.run(recipe, out=tmp_path / "run", registry=registry)),
        lambda: runs[0].sample(2),
        lambda: runs[0].visualize(),
        lambda: runs[0].generator().images(range(2), 0),
        lambda: profile(recipe, 1),
    )
    for use in uses:
        _seen.clear()
        use()
        name = "tf32" if tf32 else "ieee"
        assert set(_seen) == {(name, name, True)}
        assert float32_products() == before
