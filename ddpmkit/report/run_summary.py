"""A run in one sentence and a few facts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ddpmkit.contracts import Scores
from ddpmkit.plural import counted
from ddpmkit.report.history import History

__all__ = ["facts", "sentence"]

Record = Mapping[str, Any]


def sentence(recipe: Record, history: History, scores: Sequence[Scores]) -> str:
    """The run and its results in one sentence; `scores` are those of the run itself, by step."""
    if history.last is None:
        return f"A diffusion model of {_images(recipe)}. No step has been recorded yet."
    done, planned = history.step, recipe.get("train", {}).get("steps", 0)
    length = f"{done:,} of {planned:,} steps so far" if done < planned else counted(done, "step")
    outcome = [f"{_score_name(score, name)} {value:.4g}" for score, name, value in _latest(scores) if score.comparable]
    held_out = history.validation_loss
    outcome += [f"validation loss {held_out:.4f}"] if held_out is not None else []
    return f"A diffusion model of {_images(recipe)}, trained for {'; '.join([length, *outcome])}."


def facts(recipe: Record, history: History, scores: Sequence[Scores]) -> Iterator[tuple[str, str]]:
    """Label and text of each known fact."""
    for section in ("data", "backbone", "loss", "sampler", "schedule"):
        if use := recipe.get(section, {}).get("use"):
            yield section, use
    if timesteps := recipe.get("diffusion", {}).get("timesteps"):
        yield "timesteps", f"T = {timesteps:,}"
    if history.last is not None:
        batch_size = recipe.get("train", {}).get("batch_size")
        yield "steps", f"{history.step:,}" + (f", batch size {batch_size}" if batch_size else "")
        if batch_size and (seconds := history.seconds(batch_size)):
            yield "training time", f"about {_duration(seconds)}"
    if (held_out := history.validation_loss) is not None:
        yield "validation loss", f"{held_out:.4f}"
    for score, name, value in _latest(scores):
        floor = f", floor {score.floor[name]:.4g}" if name in score.floor else ""
        yield _score_name(score, name), f"{value:.4g}{floor}"


def _latest(scores: Sequence[Scores]) -> Iterator[tuple[Scores, str, float]]:
    """Each value in the last scores of each metric and protocol."""
    last = {(score.metric, score.protocol): score for score in scores}
    for score in last.values():
        for name, value in score.values.items():
            yield score, name, value


def _images(recipe: Record) -> str:
    """`cat and dog images (image-folder, 32 x 32 px)`."""
    data = recipe.get("data", {})
    details = [data["use"]] if "use" in data else []
    if size := data.get("image_size"):
        height, width = size if isinstance(size, list) else (size, size)
        details.append(f"{height} x {width} px")
    classes = data.get("classes", "all")
    kind = "images" if classes == "all" else f"{_listing(classes)} images"
    return f"{kind} ({', '.join(details)})" if details else kind


def _listing(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _score_name(score: Scores, name: str) -> str:
    note = "" if score.comparable else ", not comparable"
    return f"{score.metric} {name} ({score.protocol}{note})"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
