"""A registry of fake components, so that these tests do not depend on the texts of real ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.loader import BrokenPlugin
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, RecipeError, read_recipe

TARGET = f"{__name__}:Anything"


class Anything:
    """Stores what it was built with."""

    def __init__(self, config: ComponentConfig, **runtime: object) -> None:
        self.config, self.runtime = config, runtime


class FolderConfig(ComponentConfig):
    root: Path
    """Folder with `train/` and `val/`."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What to do with a file that is not an image."""


class CosineConfig(ComponentConfig):
    s: float = Field(default=0.008, ge=0)
    """Offset of the first steps."""
    max_beta: float = 0.999


class LinearConfig(ComponentConfig):
    first_beta: float = 1e-4


class Level(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    width: int = Field(default=1, ge=1)
    heads: int = 4


class UnetConfig(ComponentConfig):
    dim: int = Field(default=16, ge=8, multiple_of=8)
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2)
    groups: int = 8
    middle: Level = Level()

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.dim % self.groups:
            raise ValueError(f"groups = {self.groups} does not divide dim = {self.dim}")
        return self


class BrittleConfig(ComponentConfig):
    @model_validator(mode="after")
    def _breaks(self) -> Self:
        raise KeyError("oops")


class GreedyConfig(ComponentConfig):
    batch_size: int = 1


class FidConfig(ComponentConfig):
    protocol: Literal["standard", "original"] = "standard"


def component(kind: str, name: str, config: str = "", **more: tuple[str, ...]) -> Component:
    reference = {"config": f"{__name__}:{config}"} if config else {}
    return Component(kind=kind, name=name, target=TARGET, summary=f"a {kind}", **reference, **more)


ZIGZAG = FoundPlugin("acme.zigzag", "ddpmkit_acme", "ddpmkit-acme", "1.2")


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.from_components(
        [
            component("dataset", "critters"),
            component("dataset", "image-folder", "FolderConfig"),
            component("schedule", "cosine", "CosineConfig"),
            component("schedule", "linear", "LinearConfig"),
            component("schedule", "zero-snr", needs=("prediction:x0|prediction:v",)),
            component("backbone", "attention-unet", "UnetConfig", provides=("class-labels",)),
            component("backbone", "transformer", provides=("tokens",)),
            component("backbone", "brittle", "BrittleConfig"),
            Component(kind="backbone", name="lost", target=TARGET, summary="", config="no_such_module:Config"),
            component("loss", "l1"),
            component("loss", "token-loss", needs=("tokens",)),
            component("sampler", "ancestral"),
            component("sampler", "greedy", "GreedyConfig"),
            component("metric", "fid", "FidConfig"),
            component("tracker", "wandb"),
        ],
        namespace="ddpmkit",
        broken=[BrokenPlugin(ZIGZAG, "ImportError: no module named zig")],
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def read(folder: Path, registry: Registry) -> Callable[..., Recipe]:
    """Write a recipe as `mine.toml`, other files by name, and read it."""

    def read(text: str, *overrides: str, **others: str) -> Recipe:
        for stem, other in ({"mine": text} | others).items():
            (folder / f"{stem}.toml").write_bytes(other.encode())
        return read_recipe("mine.toml", overrides=overrides, registry=registry)

    return read


@pytest.fixture
def errors(read: Callable[..., Recipe]) -> Callable[..., str]:
    """Like `read` for an invalid recipe; returns the text of its errors."""

    def errors(text: str, *overrides: str, **others: str) -> str:
        with pytest.raises(RecipeError) as caught:
            read(text, *overrides, **others)
        return str(caught.value)

    return errors
