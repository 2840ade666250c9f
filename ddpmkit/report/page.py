"""From a run folder to one page: pictures, curves, scores, recipe, versions, and the commands that lead on.

It reads what the folder holds and nothing else; it does not know how any of it was made.
"""

import base64
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ddpmkit.report.curves import Curve, chart
from ddpmkit.rundir import RunFolder, write_atomically

__all__ = ["write_report"]

_QUARTERS = ("first quarter of t", "second", "third", "last")


def write_report(path: Path) -> Path:
    """Write `report.html` from what is in the run folder `path`; whatever is missing there is left out."""
    folder = RunFolder(path)
    steps, scores = list(folder.records("step")), list(folder.records("scores"))
    lock_text = folder.lock.read_text(encoding="utf-8") if folder.lock.exists() else ""
    lock = tomllib.loads(lock_text)
    samples = sorted((path / "samples").glob("step-*.png"))
    page = _environment().get_template("page.html").render(
        name=lock.get("name", path.resolve().name),
        folder=path,
        recipe=lock,
        recipe_text=lock_text.partition("\n[lock]")[0].strip(),
        versions=_versions(lock.get("lock", {})),
        fingerprint=lock.get("lock", {}).get("dataset_fingerprint", ""),
        last=steps[-1] if steps else None,
        validation=_points(steps, "validation_loss"),
        samples=[(int(sample.stem.removeprefix("step-")), _embedded(sample)) for sample in samples],
        forward=_embedded(folder.visualization("forward")),
        reverse=_embedded(folder.visualization("backward")),
        charts=[*_training_charts(steps), *_score_charts(scores)],
        scores=scores,
    )  # fmt: skip
    return write_atomically(folder.report, page.encode())


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ddpmkit.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _training_charts(steps: Sequence[Mapping[str, Any]]) -> list[Markup]:
    quarters = [
        Curve(name, [(r["step"], r["loss_by_quarter"][n]) for r in steps if r["loss_by_quarter"][n] is not None])
        for n, name in enumerate(_QUARTERS)
    ]
    losses = [Curve("training", _points(steps, "loss")), Curve("validation", _points(steps, "validation_loss"))]
    charts = [
        chart("Loss", losses, logarithmic=True),
        chart("Loss by quarter of the timesteps", quarters, logarithmic=True),
        chart("Gradient norm before clipping", [Curve("norm", _points(steps, "gradient_norm"))], logarithmic=True),
        chart("Learning rate", [Curve("Adam", _points(steps, "learning_rate"))]),
        chart("Speed", [Curve("images/s", _points(steps, "images_per_second"))]),
    ]
    return [drawn for drawn in charts if drawn]


def _points(steps: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(record["step"], record[key]) for record in steps if record[key] is not None]


def _score_charts(scores: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """One chart for each score of each protocol, with its floor."""
    charts = []
    kinds = sorted({(record["metric"], record["protocol"], name) for record in scores for name in record["values"]})
    for metric, protocol, name in kinds:
        mine = [record for record in scores if (record["metric"], record["protocol"]) == (metric, protocol)]
        value = [(record["step"], record["values"][name]) for record in mine]
        floor = [(record["step"], record["floor"][name]) for record in mine if name in record["floor"]]
        curves = [Curve(name, value), Curve("floor: real against real", floor, dashed=True)]
        charts.append(chart(f"{metric} ({protocol})", curves))
    return charts


def _versions(lock: Mapping[str, Any]) -> dict[str, str]:
    return {**lock.get("versions", {}), **lock.get("distributions", {})}


def _embedded(picture: Path) -> str:
    """The picture as a data URI, so that the page stands alone; empty when it is not there."""
    if not picture.exists():
        return ""
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
