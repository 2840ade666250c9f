"""From a run folder to one page: pictures, curves, scores, recipe, versions, and the commands that lead on.

It reads what the folder holds and nothing else; it does not know how any of it was made.
"""

import base64
import io
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup
from PIL import Image

from ddpmkit.durable import write_atomically
from ddpmkit.plugin.found import file_options
from ddpmkit.recipe.made_with import made_with
from ddpmkit.report.curves import Curve, chart
from ddpmkit.report.story import facts, sentence
from ddpmkit.rundir import RunFolder

__all__ = ["embedded", "environment", "points", "write_report"]

_QUARTERS = ("first quarter of t", "second", "third", "last")
_MOST_THUMBNAILS = 24
_THUMBNAIL = (320, 320)
"""At most so many pixels: twice what the page shows, for fine screens."""

Record = Mapping[str, Any]


class _Grid(NamedTuple):
    """A picture of samples: the step it was drawn after, where it lies seen from the page, and a small copy."""

    step: int
    link: str
    thumbnail: str


def write_report(path: Path) -> Path:
    """Write `report.html` from what is in the run folder `path`; whatever is missing there is left out."""
    folder = RunFolder(path)
    steps, scores = list(folder.log.records("step")), list(folder.log.records("scores"))
    lock_text = folder.lock.read_text(encoding="utf-8") if folder.lock.exists() else ""
    recipe = tomllib.loads(lock_text)
    made, lock = made_with(recipe), recipe.pop("lock", {})
    plugin_options = file_options(made.files if made else ())
    samples = sorted((path / "samples").glob("step-*.png"))
    page = environment().get_template("page.html").render(
        name=recipe.get("name", path.resolve().name),
        folder=shlex.quote(str(path)),
        plugin_options=f" {shlex.join(plugin_options)}" if plugin_options else "",
        sentence=sentence(recipe, steps, scores),
        facts=list(facts(recipe, steps, scores)),
        recipe=recipe,
        recipe_text=lock_text.partition("\n[lock]")[0].strip(),
        versions={**lock.get("versions", {}), **lock.get("distributions", {})},
        fingerprint=lock.get("dataset_fingerprint", ""),
        last_samples=embedded(samples[-1]) if samples else "",
        last_step=_step(samples[-1]) if samples else 0,
        grids=[_Grid(_step(sample), f"samples/{sample.name}", _thumbnail(sample)) for sample in _spread(samples)],
        forward=embedded(folder.visualization("forward")),
        reverse=embedded(folder.visualization("backward")),
        charts=[*_training_charts(steps), *_score_charts(scores)],
        scores=scores,
        rules={f"{score['metric']}, {score['protocol']} protocol": score["facts"] for score in scores},
    )  # fmt: skip
    return write_atomically(folder.report, page.encode())


def environment() -> jinja2.Environment:
    """Where pages find their templates."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ddpmkit.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _training_charts(steps: Sequence[Record]) -> Iterator[Markup]:
    """Those of the charts that have something to show."""
    quarters = [
        Curve(name, [(r["step"], r["loss_by_quarter"][n]) for r in steps if r["loss_by_quarter"][n] is not None])
        for n, name in enumerate(_QUARTERS)
    ]
    loss, held_out = points(steps, "loss"), points(steps, "validation_loss")
    norm, speed = points(steps, "gradient_norm"), points(steps, "images_per_second")
    charts = [
        chart("Loss", [Curve("training", loss, noisy=True), Curve("validation", held_out)], logarithmic=True),
        chart("Loss by quarter of the timesteps", quarters, logarithmic=True),
        chart("Gradient norm before clipping", [Curve("norm", norm, noisy=True)], logarithmic=True),
        chart("Learning rate", [Curve("learning rate", points(steps, "learning_rate"))]),
        chart("Speed", [Curve("images per second", speed, noisy=True)]),
    ]
    yield from filter(None, charts)


def points(steps: Sequence[Record], key: str) -> list[tuple[float, float]]:
    """(step, value) of the records that have one."""
    return [(record["step"], record[key]) for record in steps if record[key] is not None]


def _score_charts(scores: Sequence[Record]) -> Iterator[Markup]:
    """One chart for each score of each protocol, with its floor."""
    kinds = sorted({(record["metric"], record["protocol"], name) for record in scores for name in record["values"]})
    for metric, protocol, name in kinds:
        mine = [record for record in scores if (record["metric"], record["protocol"]) == (metric, protocol)]
        value = [(record["step"], record["values"][name]) for record in mine if name in record["values"]]
        floor = [(record["step"], record["floor"][name]) for record in mine if name in record["floor"]]
        curves = [Curve(name, value), Curve("floor: real against real", floor, dashed=True)]
        yield chart(f"{metric} {name} ({protocol} protocol)", curves)


def _step(sample: Path) -> int:
    return int(sample.stem.removeprefix("step-"))


def _spread(samples: Sequence[Path]) -> list[Path]:
    """All, or so many at even distances, the first and the last among them."""
    if len(samples) <= _MOST_THUMBNAILS:
        return list(samples)
    return [samples[round(n * (len(samples) - 1) / (_MOST_THUMBNAILS - 1))] for n in range(_MOST_THUMBNAILS)]


def _thumbnail(picture: Path) -> str:
    small = io.BytesIO()
    with Image.open(picture) as image:
        copy = image.convert("RGB")
    copy.thumbnail(_THUMBNAIL)
    copy.save(small, format="JPEG", quality=85)
    return _data_uri("jpeg", small.getvalue())


def embedded(picture: Path) -> str:
    """The picture as a data URI, so that the page stands alone; empty when it is not there."""
    return _data_uri("png", picture.read_bytes()) if picture.exists() else ""


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()
