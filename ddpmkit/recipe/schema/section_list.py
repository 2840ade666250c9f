"""All sections of a recipe, and the keys above them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator

from ddpmkit.recipe.schema.sections import (
    BackboneSection,
    DataSection,
    DiffusionSection,
    LossSection,
    MetricSection,
    RequiresSection,
    SamplerSection,
    ScheduleSection,
    Section,
    TrackerSection,
    Word,
)
from ddpmkit.recipe.schema.train_section import TrainSection
from ddpmkit.recipe.toml.positions import Key

__all__ = ["LOCK_TABLE", "SECTIONS", "SWEEP_TABLE", "Header", "SectionKind", "SweepSection", "section_at"]

LOCK_TABLE = "lock"
"""The table that a lock file has in addition to a recipe. It is ignored when the
file is read as a recipe, so that a lock can be run."""

SWEEP_TABLE = "sweep"
"""The table that turns a recipe into several runs, for `ddpmkit sweep`."""


class Header(Section):
    """The keys above the first section."""

    extends: Word | None = None
    """A base recipe, relative to this file: tables are merged, arrays and plain values are replaced."""
    name: Word
    """Name of the run and of its folder; by default the name of the recipe file. Not inherited through `extends`."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if name.startswith(".") or not name.isprintable() or set(name) & set("/\\") or len(name.encode()) > 200:
            raise ValueError("must be valid as the name of a folder: no leading dot, no / or \\, at most 200 bytes")
        return name


class SweepSection(Section):
    """`[sweep]`: several runs from one recipe, for `ddpmkit sweep`."""

    mode: Literal["grid", "zip", "ablation"] = "grid"
    """`grid`: every combination of the values. `zip`: the first values together, the second values together, and so on.
    `ablation`: the recipe as it is, then with one changed value at a time."""
    over: dict[str, Any] = Field(min_length=1)
    """The keys to vary, each with the list of its values: `schedule.use = ["cosine", "linear"]`."""


@dataclass(frozen=True)
class SectionKind:
    """One of the sections that a recipe can have."""

    name: str
    model: type[Section]
    kind: str | None = None
    """The kind of component that the section selects."""
    repeatable: bool = False
    """Whether the section may appear several times, as `[[name]]`."""

    def __str__(self) -> str:
        """The header of the section in TOML."""
        return f"[[{self.name}]]" if self.repeatable else f"[{self.name}]"

    @property
    def keys(self) -> frozenset[str]:
        """The section's keys that do not belong to its component."""
        return frozenset(self.model.model_fields)

    @property
    def default_use(self) -> str | None:
        """The component if the recipe selects none; None if there is no default."""
        use = self.model.model_fields.get("use")
        return use.default if use is not None and not use.is_required() else None


SECTIONS: Mapping[str, SectionKind] = {
    section.name: section
    for section in (
        SectionKind("requires", RequiresSection),
        SectionKind("data", DataSection, "dataset"),
        SectionKind("diffusion", DiffusionSection),
        SectionKind("schedule", ScheduleSection, "schedule"),
        SectionKind("backbone", BackboneSection, "backbone"),
        SectionKind("loss", LossSection, "loss"),
        SectionKind("sampler", SamplerSection, "sampler"),
        SectionKind("train", TrainSection),
        SectionKind("metric", MetricSection, "metric", repeatable=True),
        SectionKind("tracker", TrackerSection, "tracker", repeatable=True),
    )
}
"""Every section by name, in the order of a resolved recipe."""


def section_at(key: Key) -> SectionKind | None:
    """Return the section whose table is at `key`, such as `("data",)` or `("metric", 0)`."""
    section = SECTIONS.get(str(key[0])) if key else None
    return section if section is not None and len(key) == 1 + section.repeatable else None
