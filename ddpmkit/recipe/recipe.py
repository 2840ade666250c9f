"""`Recipe`: a checked recipe, with every component selected, every key validated and every default filled in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.runs_code import CodeValue
from ddpmkit.recipe.schema.sections import (
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
)
from ddpmkit.recipe.schema.train_section import TrainSection
from ddpmkit.recipe.toml.positions import Key, Origin
from ddpmkit.recipe.toml.writer import toml_text
from ddpmkit.recipe.trust import UntrustedCode

__all__ = ["Part", "Recipe", "evaluation_keys"]

SettingsT = TypeVar("SettingsT", bound=ComponentSection)


@dataclass(frozen=True)
class Part(Generic[SettingsT]):
    """A component as a recipe uses it."""

    component: RegisteredComponent
    settings: SettingsT
    """The keys that belong to the section."""
    config: ComponentConfig
    """The keys that belong to the component."""
    untrusted_code: tuple[CodeValue, ...] = field(default=(), compare=False)
    """All untrusted code that the recipe names; empty if this config names none."""
    source: str = field(default="", compare=False)
    """The file that names the untrusted code, for messages."""

    def build(self, **runtime: Any) -> Any:
        """Build the component from its config and the runtime objects in `ddpmkit.contracts.RUNTIME`.

        Raises ComponentUnavailable if something it requires is missing, PluginError if its code fails, and
        UntrustedCode if the lock of another user's run names code to run.
        """
        self._check_trust()
        return self.component.build(self.config, **runtime)

    def keys_with_effect(self) -> dict[str, Any]:
        """Return the keys of the component that affect its results, as plain JSON data."""
        return self.config.model_dump(mode="json", exclude=set(self.config.without_effect))

    def call(self, method: str, **runtime: Any) -> Any:
        """Call a class method of the component with its config. Raises the same errors as `build`."""
        self._check_trust()
        return self.component.call(method, self.config, **runtime)

    def _check_trust(self) -> None:
        if self.untrusted_code:
            raise UntrustedCode(self.untrusted_code, self.source)

    def as_data(self) -> dict[str, Any]:
        """Return the section as plain TOML data."""
        return self.settings.model_dump(mode="json", exclude_none=True) | self.config.model_dump(
            mode="json", exclude_none=True
        )


@dataclass(frozen=True)
class Recipe:
    """Everything that defines a run. Created by `read_recipe`."""

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
    """Sentences for the user, such as which keys were dropped or have no effect."""
    unused_key_notes: tuple[str, ...] = field(default=(), compare=False)
    """The notes about keys without effect."""
    origins: Mapping[Key, Origin] = field(default_factory=dict, compare=False, repr=False)
    """Where each value is written; a key that is not here has its default."""

    @property
    def parts(self) -> tuple[Part[Any], ...]:
        """Every component in use."""
        return tuple(part for _, part in self.places())

    def places(self) -> Iterator[tuple[Key, Part[Any]]]:
        """Yield every component in use, with the key of its table."""
        for name in ("data", "schedule", "backbone", "loss", "sampler"):
            yield (name,), getattr(self, name)
        yield from ((("metric", index), part) for index, part in enumerate(self.metrics))
        yield from ((("tracker", index), part) for index, part in enumerate(self.trackers))

    def as_data(self) -> dict[str, Any]:
        """Return the recipe as plain TOML data, including defaults; reading it gives an equal recipe."""
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
        """Return `as_data` as TOML text."""
        return toml_text(self.as_data())


def evaluation_keys(part: Part[MetricSection]) -> dict[str, Any]:
    """Return the keys of a `[[metric]]` that its scores depend on."""
    count = part.settings.num_samples
    return {**part.keys_with_effect(), **({"num_samples": count} if count is not None else {})}
