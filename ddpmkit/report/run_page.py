"""Writes the report of a run folder: images, curves, scores, recipe, versions and the next commands."""

import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from ddpmkit.atomic_io import atomic_write_bytes
from ddpmkit.contracts import Scores
from ddpmkit.errors import InputError
from ddpmkit.plugin.finder import file_options
from ddpmkit.recipe import provenance_of, read_lock_values, toml_text
from ddpmkit.report.curves import Curve, chart
from ddpmkit.report.history import QUARTERS, History, read_history
from ddpmkit.report.images import embedded, thumbnail
from ddpmkit.report.run_summary import facts, sentence
from ddpmkit.report.score_series import score_series
from ddpmkit.run_folder import RunFolder
from ddpmkit.score_log import made_by_run, read_scores

__all__ = ["environment", "write_report"]

_MOST_THUMBNAILS = 24
_SKIPPED = "skipped: it was not available on this machine"
_log = logging.getLogger(__name__)

Record = Mapping[str, Any]


class _Grid(NamedTuple):
    """A grid of samples: its step, its path relative to the page, and a thumbnail."""

    step: int
    link: str
    thumbnail: str


def write_report(path: Path, skipped_metrics: Sequence[str] = ()) -> Path:
    """Write `report.html` from the files in the run folder `path`; missing and damaged files are skipped.

    `skipped_metrics` are the metrics of the recipe that were not available and that the user chose to skip.
    Raises OSError if the log cannot be read or the page cannot be written.
    """
    folder = RunFolder(path)
    history, scores = read_history(folder.log), read_scores(folder.log)
    recipe = _lock(folder)
    provenance, _ = provenance_of(recipe), recipe.pop("lock", None)
    plugin_options = file_options(provenance.files if provenance else ())
    grids = [(step, shown) for step, grid in _spread(folder.grids()) if (shown := (grid, thumbnail(grid)))[1]]
    page = environment().get_template("run_page.html").render(
        name=recipe.get("name", path.resolve().name),
        folder=shlex.quote(str(path)),
        plugin_options=f" {shlex.join(plugin_options)}" if plugin_options else "",
        sentence=sentence(recipe, history, made_by_run(scores)),
        facts=[*facts(recipe, history, made_by_run(scores)), *((name, _SKIPPED) for name in skipped_metrics)],
        evaluate_option=_evaluate_option(recipe, skipped_metrics),
        recipe=recipe,
        recipe_text=toml_text(recipe).strip(),
        versions={**provenance.versions, **provenance.distributions} if provenance else {},
        fingerprint=provenance.dataset_fingerprint if provenance else "",
        last_samples=embedded(grids[-1][1][0]) if grids else "",
        last_step=grids[-1][0] if grids else 0,
        grids=[_Grid(step, f"samples/{grid.name}", small) for step, (grid, small) in grids],
        forward=embedded(folder.visualization("forward")),
        reverse=embedded(folder.visualization("backward")),
        charts=[*_training_charts(history), *_score_charts(made_by_run(scores))],
        scores=scores,
        facts_by_series={f"{each.metric}, {each.conditions}": each.scores[-1].facts for each in score_series(scores)},
    )  # fmt: skip
    # A file name that is not text contains lone surrogates, which UTF-8 cannot encode.
    return atomic_write_bytes(folder.report, page.encode(errors="replace"))


def _evaluate_option(recipe: Record, skipped_metrics: Sequence[str]) -> str | None:
    """The option that `ddpmkit evaluate` needs; None if all metrics were skipped."""
    if len(skipped_metrics) >= len(recipe.get("metric", [])):
        return None
    return " --skip-unavailable-metrics" if skipped_metrics else ""


def _lock(folder: RunFolder) -> dict[str, Any]:
    """The recipe in the lock file; empty, with a warning, if the file is damaged."""
    if not os.path.lexists(folder.lock):
        return {}
    try:
        return read_lock_values(folder.lock)
    except InputError as error:
        _log.warning("the report does not contain the recipe: %s", error.message)
        return {}


def environment() -> jinja2.Environment:
    """The template environment of all pages."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ddpmkit.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _training_charts(history: History) -> Iterator[Markup]:
    """The charts that have points."""
    curves = {name: series.points for name, series in history.curves.items()}
    quarters = [Curve(name, series.points) for name, series in zip(QUARTERS, history.quarters, strict=True)]
    losses = [Curve("training", curves["loss"], noisy=True), Curve("validation", curves["validation_loss"])]
    charts = [
        chart("Loss", losses, logarithmic=True),
        chart("Loss by quarter of the timesteps", quarters, logarithmic=True),
        chart("Gradient norm before clipping", [Curve("norm", curves["gradient_norm"], noisy=True)], logarithmic=True),
        chart("Learning rate", [Curve("learning rate", curves["learning_rate"])]),
        chart("Speed", [Curve("images per second", curves["images_per_second"], noisy=True)]),
    ]
    yield from filter(None, charts)


def _score_charts(scores: Sequence[Scores]) -> Iterator[Markup]:
    """A chart of each score of each series, with its floor."""
    for each in score_series(scores):
        for name in each.names:
            value = [(scores.step, scores.values[name]) for scores in each.scores if name in scores.values]
            floor = [(scores.step, scores.floor[name]) for scores in each.scores if name in scores.floor]
            curves = [Curve(name, value), Curve("floor: real against real", floor, dashed=True)]
            yield chart(f"{each.metric} {name} ({each.conditions})", curves)


def _spread(grids: Sequence[tuple[int, Path]]) -> list[tuple[int, Path]]:
    """All grids, or `_MOST_THUMBNAILS` evenly spaced ones including the first and the last."""
    if len(grids) <= _MOST_THUMBNAILS:
        return list(grids)
    return [grids[round(n * (len(grids) - 1) / (_MOST_THUMBNAILS - 1))] for n in range(_MOST_THUMBNAILS)]
