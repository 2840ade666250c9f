"""Compares several runs: the differences of their recipes, their scores, curves and samples.

Scores measured in different ways are shown but never ranked.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ddpmkit.atomic_io import atomic_write_bytes
from ddpmkit.contracts import Scores
from ddpmkit.recipe import read_lock_values, toml_value
from ddpmkit.recipe.diff import leaves
from ddpmkit.report.curves import Curve, chart, curve_style
from ddpmkit.report.history import History, read_history
from ddpmkit.report.images import embedded
from ddpmkit.report.ranking import rankings
from ddpmkit.report.run_page import environment
from ddpmkit.run_folder import RunFolder, not_a_run
from ddpmkit.score_log import read_scores

__all__ = ["ComparedRun", "differing_keys", "loss_note", "read_runs", "write_comparison"]

_OF_LOSS = ("diffusion", "loss", "schedule")
"""Recipe sections that define what a loss measures."""
_OF_IMAGES = ("data.channels", "data.classes", "data.image_size", "data.use")
_MOST_KEYS = 4


@dataclass(frozen=True)
class ComparedRun:
    """A run folder to compare."""

    path: Path
    recipe: Mapping[str, Any]
    name: str
    """The name of the folder; with its parent folder if several runs have this name."""

    @cached_property
    def history(self) -> History:
        """The training records."""
        return read_history(RunFolder(self.path).log)

    @cached_property
    def scores(self) -> list[Scores]:
        """Sorted by step."""
        return read_scores(RunFolder(self.path).log)

    @property
    def step(self) -> int:
        """The last recorded step."""
        return self.history.step

    @property
    def last_samples(self) -> Path | None:
        """The latest grid of samples."""
        grids = RunFolder(self.path).grids()
        return grids[-1][1] if grids else None


def read_runs(paths: Sequence[Path]) -> list[ComparedRun]:
    """Open the run folders. Raises InputError for a path that is not a run folder."""
    runs: list[tuple[Path, dict[str, Any]]] = []
    for path in paths:
        lock = RunFolder(path).lock
        if not lock.exists():
            raise not_a_run(path, f"is not a run folder: it has no {lock.name}")
        recipe = read_lock_values(lock)
        recipe.pop("lock", None)
        runs.append((path.resolve(), recipe))
    names = [path.name for path, _ in runs]
    return [
        ComparedRun(path, recipe, path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}")
        for path, recipe in runs
    ]


def differing_keys(runs: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
    """Each recipe key whose value is not the same in all runs, with its value in each; `name` is ignored."""
    each = [dict(leaves(run.recipe)) for run in runs]
    keys = sorted({key for recipe in each for key in recipe} - {"name"})
    shown = {key: [toml_value(recipe[key]) if key in recipe else "" for recipe in each] for key in keys}
    return [(key, values) for key, values in shown.items() if len(set(values)) > 1]


def loss_note(differing: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Why the losses of runs that differ in these keys cannot be compared; empty if they can."""
    different = [key for key, _ in differing if key.split(".")[0] in _OF_LOSS or key in _OF_IMAGES]
    # If the component differs, its keys differ too, and naming the component is enough.
    others = {key.split(".")[0] for key in different if key.endswith(".use")}
    different = [key for key in different if key.endswith(".use") or key.split(".")[0] not in others]
    if not different:
        return ""
    more = f" and {len(different) - _MOST_KEYS} more" if len(different) > _MOST_KEYS else ""
    return f"not comparable: the runs differ in {', '.join(different[:_MOST_KEYS])}{more}"


def write_comparison(runs: Sequence[ComparedRun], out: Path) -> Path:
    """Write the comparison as an HTML page."""
    differing = differing_keys(runs)
    page = environment().get_template("comparison.html").render(
        runs=runs,
        differing=differing,
        loss_note=loss_note(differing),
        usual={key: Counter(values).most_common(1)[0][0] for key, values in differing} if len(runs) > 2 else {},
        style=curve_style,
        rankings=list(rankings([(run.name, run.scores) for run in runs])),
        grids=[(run, image) for run in runs if run.last_samples and (image := embedded(run.last_samples))],
        charts=list(_charts(runs)),
    )  # fmt: skip
    return atomic_write_bytes(out, page.encode(errors="replace"))


def _charts(runs: Sequence[ComparedRun]) -> Iterator[Markup]:
    for title, key, noisy in (
        ("Loss", "loss", True),
        ("Validation loss", "validation_loss", False),
        ("Images per second", "images_per_second", True),
    ):
        figure = chart(
            title,
            [Curve(run.name, run.history.curves[key].points, noisy=noisy) for run in runs],
            logarithmic="loss" in key,
        )
        if figure:
            yield figure
