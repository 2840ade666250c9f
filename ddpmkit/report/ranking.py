"""Ranks the latest scores of several runs if they were measured in the same way."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddpmkit.contracts import Scores
from ddpmkit.score_log import distinct_names, latest_scores, made_by_run

__all__ = ["Ranking", "rankings"]

Row = Sequence[tuple[str, Scores | None]]
"""The name of each run, and its scores by one metric."""


@dataclass(frozen=True)
class Ranking:
    """One score of each run."""

    title: str
    values: Sequence[float | None]
    texts: Sequence[str]
    """The values to four digits, or the text of a value that is not finite; empty if there is no score."""
    best: int | None
    """The index of the best run; None if the scores cannot be ranked."""
    note: str
    """Whether lower or higher is better, or why the scores are not ranked."""


def rankings(runs: Sequence[tuple[str, Sequence[Scores]]]) -> Iterator[Ranking]:
    """The ranking of each score that any run has; `runs` are pairs of a name and the scores of its log, by step.

    Manual evaluations are ranked separately from the evaluations of the runs themselves.
    """
    for origin in ("run", "request"):
        found = [(name, _latest(scores, origin)) for name, scores in runs]
        for use in sorted({_use(each) for _, scores in found for each in scores}):
            of_metric = [(name, [each for each in scores if _use(each) == use]) for name, scores in found]
            for title, row in _rows(use, of_metric):
                yield from _ranked(title if origin == "run" else f"{title} (manual)", row)


def _latest(scores: Sequence[Scores], origin: str) -> list[Scores]:
    chosen = made_by_run(scores) if origin == "run" else [each for each in scores if each.origin == origin]
    return list(latest_scores(chosen).values())


def _use(scores: Scores) -> str:
    return str(scores.identity["metric"]["use"]) if scores.identity else scores.metric


def _rows(use: str, runs: Sequence[tuple[str, Sequence[Scores]]]) -> Iterator[tuple[str, Row]]:
    """One row; several if a run uses the metric with different settings."""
    if all(len(scores) <= 1 for _, scores in runs):
        yield use, [(name, scores[0] if scores else None) for name, scores in runs]
        return
    variants = {json.dumps(_settings(each), sort_keys=True): _settings(each) for _, scores in runs for each in scores}
    titles = distinct_names([(use, settings) for settings in variants.values()])
    for title, settings in zip(titles, variants.values(), strict=True):
        yield title, [(name, next((s for s in scores if _settings(s) == settings), None)) for name, scores in runs]


def _settings(scores: Scores) -> dict[str, Any]:
    config = scores.identity["metric"]["config"] if scores.identity else {}
    return {**config, "protocol": scores.protocol, "num_samples": scores.num_samples}


def _ranked(title: str, row: Row) -> Iterator[Ranking]:
    present = [(run, scores) for run, scores in row if scores is not None]
    obstacle = _obstacle(present)
    for name in dict.fromkeys(name for _, scores in present for name in [*scores.values, *scores.unusable]):
        values = [None if scores is None else scores.values.get(name) for _, scores in row]
        texts = ["" if scores is None else _text(scores, name) for _, scores in row]
        usable = [value for value in values if value is not None]
        better = next((scores.better[name] for _, scores in present if name in scores.better), "neither")
        best = None
        if better == "neither":
            note = "not ranked: neither lower nor higher is better"
        elif obstacle or len(usable) < 2:
            note = obstacle or "not ranked: only one run has it"
        else:
            best = values.index(min(usable) if better == "lower" else max(usable))
            note = f"{better} is better{_other_versions(present)}"
        yield Ranking(f"{title} {name}", values, texts, best, note)


def _text(scores: Scores, name: str) -> str:
    return f"{scores.values[name]:.4g}" if name in scores.values else scores.unusable.get(name, "")


def _obstacle(present: Sequence[tuple[str, Scores]]) -> str:
    """The first condition that differs between the scores; empty if none does."""
    if alone := [run for run, scores in present if not scores.comparable]:
        return f"not ranked: scores by the protocol of {', '.join(alone)} cannot be compared with others"
    all_identified = all(scores.identity for _, scores in present)
    conditions = [(run, _conditions(scores, by_identity=all_identified)) for run, scores in present]
    for condition in dict.fromkeys(condition for _, each in conditions for condition in each):
        if values_text := _differing([(run, each.get(condition, "none")) for run, each in conditions]):
            return f"not ranked: different {condition}: {values_text}"
    return ""


def _conditions(scores: Scores, *, by_identity: bool) -> dict[str, str]:
    """How a score was measured, by name.

    Excludes the floor, which is a result, and the sampler and seed, in which runs may differ. Scores of earlier
    versions have no identity; if there is one of these, `by_identity` is false and all are compared by their facts.
    """
    facts = {name: fact for name, fact in scores.facts.items() if name not in ("floor", "sampler")}
    counts = {"samples": f"{scores.num_samples:,}", "reference images": f"{scores.num_reference:,}"}
    identity = scores.identity if by_identity else {}
    config: Mapping[str, Any] = identity["metric"]["config"] if identity else {}
    keys = {key: json.dumps(value) for key, value in config.items()}
    images = {"fingerprint of the reference": str(identity["reference"])[:12]} if identity else {}
    return {"protocol": scores.protocol, **counts, **facts, **keys, **images}


def _other_versions(present: Sequence[tuple[str, Scores]]) -> str:
    versions = [(run, scores.identity["metric"]["version"]) for run, scores in present if scores.identity]
    text = _differing(versions)
    return f"; measured by different versions: {text}" if text else ""


def _differing(values: Sequence[tuple[str, str]]) -> str:
    """`512 (b); 5,000 (a)`, with the most frequent value last, as in `5,000 (the other 9)`; empty if all are equal."""
    by_text: dict[str, list[str]] = {}
    for run, text in values:
        by_text.setdefault(text, []).append(run)
    if len(by_text) < 2:
        return ""
    *few, (text, most) = sorted(by_text.items(), key=lambda entry: len(entry[1]))
    parts = [f"{each} ({', '.join(runs)})" for each, runs in few]
    is_common = len(most) > 2 and 2 * len(most) > len(values)
    return "; ".join([*parts, f"{text} ({f'the other {len(most)}' if is_common else ', '.join(most)})"])
