"""What a run was and what came of it, in one sentence and a few facts.

It does not know how they are laid out.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ddpmkit.wording import counted

__all__ = ["facts", "sentence"]

Record = Mapping[str, Any]


def sentence(recipe: Record, steps: Sequence[Record], scores: Sequence[Record]) -> str:
    """For someone who was not there."""
    if not steps:
        return f"A diffusion model of {_pictures(recipe)}. No step has been recorded yet."
    done, planned = steps[-1]["step"], recipe.get("train", {}).get("steps", 0)
    length = f"{done:,} of {planned:,} steps so far" if done < planned else counted(done, "step")
    outcome = [
        f"{_score_name(score, name)} {value:.4g}" for score, name, value in _latest(scores) if score["comparable"]
    ]
    held_out = _validation_loss(steps)
    outcome += [f"validation loss {held_out:.4f}"] if held_out is not None else []
    return f"A diffusion model of {_pictures(recipe)}, trained for {'; '.join([length, *outcome])}."


def facts(recipe: Record, steps: Sequence[Record], scores: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Label and text, one a line; what is not known is left out."""
    for section in ("data", "backbone", "loss", "sampler", "schedule"):
        if use := recipe.get(section, {}).get("use"):
            yield section, use
    if timesteps := recipe.get("diffusion", {}).get("timesteps"):
        yield "timesteps", f"T = {timesteps:,}"
    if steps:
        batch_size = recipe.get("train", {}).get("batch_size")
        yield "steps", f"{steps[-1]['step']:,}" + (f" of {batch_size} images" if batch_size else "")
        if batch_size and (seconds := _training_seconds(steps, batch_size)):
            yield "training time", f"about {_duration(seconds)}"
    if (held_out := _validation_loss(steps)) is not None:
        yield "validation loss", f"{held_out:.4f}"
    for score, name, value in _latest(scores):
        floor = f", floor {score['floor'][name]:.4g}" if name in score["floor"] else ""
        yield _score_name(score, name), f"{value:.4g}{floor}"


def _latest(scores: Sequence[Record]) -> Iterator[tuple[Record, str, float]]:
    """The last record of each metric and protocol, with each score in it."""
    newest = {(score["metric"], score["protocol"]): score for score in scores}
    for score in newest.values():
        for name, value in score["values"].items():
            yield score, name, value


def _pictures(recipe: Record) -> str:
    """`cat and dog pictures (image-folder, 32 x 32 px)`."""
    data = recipe.get("data", {})
    details = [data["use"]] if "use" in data else []
    if size := data.get("image_size"):
        height, width = size if isinstance(size, list) else (size, size)
        details.append(f"{height} x {width} px")
    classes = data.get("classes", "all")
    kind = "pictures" if classes == "all" else f"{_listing(classes)} pictures"
    return f"{kind} ({', '.join(details)})" if details else kind


def _listing(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _score_name(score: Record, name: str) -> str:
    remark = "" if score["comparable"] else ", not comparable"
    return f"{score['metric']} {name} ({score['protocol']}{remark})"


def _training_seconds(steps: Sequence[Record], batch_size: int) -> float:
    """From the speeds on record, so that pauses, samples and scores do not count."""
    seconds = 0.0
    for last, record in pairwise([{"step": 0}, *steps]):
        if record["images_per_second"] > 0:
            seconds += (record["step"] - last["step"]) * batch_size / record["images_per_second"]
    return seconds


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _validation_loss(steps: Sequence[Record]) -> float | None:
    """The last one: not every record has it."""
    return next((loss for record in reversed(steps) if (loss := record["validation_loss"]) is not None), None)
