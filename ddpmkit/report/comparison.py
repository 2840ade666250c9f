"""Several runs side by side: what differs in their recipes, their scores, curves and samples.

Scores taken by unlike rules are shown, and never ranked. It reads what the folders hold; it does not know how any of it
was made.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ddpmkit.durable import write_atomically
from ddpmkit.errors import InputError
from ddpmkit.recipe import read_lock_values, toml_value
from ddpmkit.recipe.differences import leaves
from ddpmkit.report.curves import Curve, chart
from ddpmkit.report.history import History, read_history
from ddpmkit.report.images import embedded
from ddpmkit.report.page import environment
from ddpmkit.rundir import RunFolder

__all__ = ["ComparedRun", "Ranking", "differing_keys", "rankings", "read_runs", "write_comparison"]

_MOST_RUNS = 5
"""As many colours as a chart has."""


@dataclass(frozen=True)
class ComparedRun:
    """A run folder, read."""

    path: Path
    recipe: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its folder's: two runs may be by one recipe."""
        return self.path.name

    @cached_property
    def history(self) -> History:
        """The records of training."""
        return read_history(RunFolder(self.path).log)

    @cached_property
    def last_scores(self) -> dict[str, dict[str, Any]]:
        """The newest record of each metric."""
        return {record["metric"]: record for record in RunFolder(self.path).log.records("scores")}

    @property
    def step(self) -> int:
        """The last step on record."""
        return self.history.step

    @property
    def last_samples(self) -> Path | None:
        """The newest grid of samples."""
        grids = RunFolder(self.path).grids()
        return grids[-1][1] if grids else None


@dataclass(frozen=True)
class Ranking:
    """One score of every run."""

    title: str
    values: Sequence[float | None]
    best: int | None
    """Which run's is best; None where they cannot be ranked."""
    remark: str
    """Which way is better, or why they are not ranked."""


def read_runs(paths: Sequence[Path]) -> list[ComparedRun]:
    """The run folders. Raises InputError for one that is none."""
    runs = []
    for path in paths:
        lock = RunFolder(path).lock
        if not lock.exists():
            raise InputError(f"{path} is no run folder: it has no {lock.name}.")
        recipe = read_lock_values(lock)
        recipe.pop("lock", None)
        runs.append(ComparedRun(path.resolve(), recipe))
    return runs


def differing_keys(runs: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
    """Each key of the recipes whose value is not the same in all, with its value in each; the name does not count."""
    each = [dict(leaves(run.recipe)) for run in runs]
    keys = sorted({key for recipe in each for key in recipe} - {"name"})
    shown = {key: [toml_value(recipe[key]) if key in recipe else "" for recipe in each] for key in keys}
    return [(key, values) for key, values in shown.items() if len(set(values)) > 1]


def rankings(runs: Sequence[ComparedRun]) -> Iterator[Ranking]:
    """Every score that some run has, by the name of its metric."""
    for metric in sorted({metric for run in runs for metric in run.last_scores}):
        records = [run.last_scores.get(metric) for run in runs]
        names = dict.fromkeys(name for record in records if record for name in record["values"])
        unlike = _why_not(runs, records)
        for name in names:
            values = [record["values"].get(name) if record else None for record in records]
            better = next((record["better"].get(name) for record in records if record), None)
            there = [value for value in values if value is not None]
            if better in (None, "neither"):
                yield Ranking(f"{metric} {name}", values, None, "not ranked: neither way is better")
            elif unlike or len(there) < 2:
                yield Ranking(f"{metric} {name}", values, None, unlike or "not ranked: only one run has it")
            else:
                best = values.index(min(there) if better == "lower" else max(there))
                yield Ranking(f"{metric} {name}", values, best, f"{better} is better")


def _why_not(runs: Sequence[ComparedRun], records: Sequence[Mapping[str, Any] | None]) -> str:
    """The first rule that was not the same for all; empty when all were."""
    rules = [(run.name, _rules(record)) for run, record in zip(runs, records, strict=True) if record]
    if alone := [name for name, rule in rules if rule["comparable"] == "no"]:
        return f"not ranked: the protocol of {', '.join(alone)} compares with nothing else"
    for rule in dict.fromkeys(rule for _, each in rules for rule in each):
        if len({each.get(rule) for _, each in rules}) > 1:
            told = "; ".join(f"{name} {each.get(rule, 'none')}" for name, each in rules)
            return f"not ranked: unlike {rule}: {told}"
    return ""


def _rules(record: Mapping[str, Any]) -> dict[str, str]:
    """What a score was taken by.

    How far real images are from each other is a result, not a rule; which sampler drew is what runs may differ in.
    """
    facts = {name: str(value) for name, value in record["facts"].items() if name not in ("floor", "sampler")}
    counts = {"samples": f"{record['num_samples']:,}", "reference images": f"{record['num_reference']:,}"}
    comparable = "yes" if record["comparable"] else "no"
    return {"comparable": comparable, "protocol": record["protocol"], **counts, **facts}


def write_comparison(runs: Sequence[ComparedRun], out: Path) -> Path:
    """One page of all of it. Raises InputError for more runs than a chart has colours."""
    if len(runs) > _MOST_RUNS:
        raise InputError(f"a page compares at most {_MOST_RUNS} runs; these are {len(runs)}.")
    page = environment().get_template("comparison.html").render(
        runs=runs,
        differing=differing_keys(runs),
        rankings=list(rankings(runs)),
        grids=[(run, image) for run in runs if run.last_samples and (image := embedded(run.last_samples))],
        charts=list(_charts(runs)),
    )  # fmt: skip
    return write_atomically(out, page.encode(errors="replace"))


def _charts(runs: Sequence[ComparedRun]) -> Iterator[Markup]:
    for title, key, noisy in (
        ("Loss", "loss", True),
        ("Validation loss", "validation_loss", False),
        ("Images per second", "images_per_second", True),
    ):
        drawn = chart(
            title,
            [Curve(run.name, run.history.curves[key].points, noisy=noisy) for run in runs],
            logarithmic="loss" in key,
        )
        if drawn:
            yield drawn
