"""A checked recipe: every component chosen, every key validated, every default filled in.

Made by `ddpmkit.recipe.read.read_recipe`; it does not know where its values came from beyond being able to say so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.runs_code import CodeValue
from ddpmkit.recipe.schema import (
    BackboneSection,
    ComponentSection,
    DataSection,
    DiffusionSection,
    LossSection,
    MetricSection,
    RequiresSection,
    SamplerSection,
    ScheduleSection,
    TrackerSection,
    TrainSection,
)
from ddpmkit.recipe.toml_positions import Key, Origin
from ddpmkit.recipe.toml_writer import toml_text
from ddpmkit.recipe.trust import UntrustedCode

__all__ = ["Part", "Recipe"]

SettingsT = TypeVar("SettingsT", bound=ComponentSection)


@dataclass(frozen=True)
class Part(Generic[SettingsT]):
    """A component as a recipe uses it."""

    component: RegisteredComponent
    settings: SettingsT
    """The keys of the section that belong to the core."""
    config: ComponentConfig
    """The keys that belong to the component."""
    foreign_code: tuple[CodeValue, ...] = field(default=(), compare=False)
    """If this config names code that the user has not said to trust: all such code of the recipe."""
    source: str = field(default="", compare=False)
    """Where that code is named."""

    def build(self, **runtime: Any) -> Any:
        """The component itself, from its config and the runtime objects in `ddpmkit.contracts.RUNTIME`.

        Raises ComponentUnavailable when something it requires is missing, PluginError when its code fails, and
        UntrustedCode before it would run code that a run from elsewhere names.
        """
        self._refuse_foreign_code()
        return self.component.build(self.config, **runtime)

    def keys_with_effect(self) -> dict[str, Any]:
        """The component's keys that a result depends on, as plain JSON data."""
        return self.config.model_dump(mode="json", exclude=set(self.config.without_effect))

    def call(self, method: str, **runtime: Any) -> Any:
        """A class method of the component, with its config. Raises as `build` does."""
        self._refuse_foreign_code()
        return self.component.call(method, self.config, **runtime)

    def _refuse_foreign_code(self) -> None:
        if self.foreign_code:
            raise UntrustedCode(self.foreign_code, self.source)

    def as_data(self) -> dict[str, Any]:
        """The section as plain TOML data."""
        return self.settings.model_dump(mode="json", exclude_none=True) | self.config.model_dump(
            mode="json", exclude_none=True
        )


@dataclass(frozen=True)
class Recipe:
    """All that defines a run."""

    name: str
    data: Part[DataSection]
    diffusion: DiffusionSection
    schedule: Part[ScheduleSection]
    backbone: Part[BackboneSection]
    loss: Part[LossSection]
    sampler: Part[SamplerSection]
    train: TrainSection
    metrics: tuple[Part[MetricSection], ...] = ()
    trackers: tuple[Part[TrackerSection], ...] = ()
    requires: RequiresSection = field(default_factory=RequiresSection)
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What a reader of the recipe should know: keys that a layer dropped, and those without effect."""
    idle: tuple[str, ...] = field(default=(), compare=False)
    """Those of the notes that are about keys without effect."""
    origins: Mapping[Key, Origin] = field(default_factory=dict, compare=False, repr=False)
    """Who wrote what; a key that is not here has its default."""

    @property
    def parts(self) -> tuple[Part[Any], ...]:
        """Every component in use."""
        return tuple(part for _, part in self.places())

    def places(self) -> Iterator[tuple[Key, Part[Any]]]:
        """Every component in use, and the table of the recipe that chose it."""
        for name in ("data", "schedule", "backbone", "loss", "sampler"):
            yield (name,), getattr(self, name)
        yield from ((("metric", index), part) for index, part in enumerate(self.metrics))
        yield from ((("tracker", index), part) for index, part in enumerate(self.trackers))

    def as_data(self) -> dict[str, Any]:
        """The recipe as plain TOML data, defaults included; reading it back gives an equal recipe."""
        data: dict[str, Any] = {
            "name": self.name,
            "requires": self.requires.model_dump(mode="json") if self.requires.plugins else [],
            "data": self.data.as_data(),
            "diffusion": self.diffusion.model_dump(mode="json"),
            "schedule": self.schedule.as_data(),
            "backbone": self.backbone.as_data(),
            "loss": self.loss.as_data(),
            "sampler": self.sampler.as_data(),
            "train": self.train.model_dump(mode="json"),
            "metric": [part.as_data() for part in self.metrics],
            "tracker": [part.as_data() for part in self.trackers],
        }
        return {name: value for name, value in data.items() if value != []}

    def to_toml(self) -> str:
        """`as_data` as TOML text."""
        return toml_text(self.as_data())
