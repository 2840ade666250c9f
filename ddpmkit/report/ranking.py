"""The newest scores of several runs side by side, ranked if they were taken by the same rules."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddpmkit.contracts import Scores
from ddpmkit.score_log import distinct_names, latest_scores, made_by_run

__all__ = ["Ranking", "rankings"]

Row = Sequence[tuple[str, Scores | None]]
"""The name of each run, and its score by one metric."""


@dataclass(frozen=True)
class Ranking:
    """One score of every run."""

    title: str
    values: Sequence[float | None]
    texts: Sequence[str]
    """The values to four digits; what a score that is not finite came out as; empty if there is none."""
    best: int | None
    """Which run's is best; None if they cannot be ranked."""
    remark: str
    """Which way is better, or why they are not ranked."""


def rankings(runs: Sequence[tuple[str, Sequence[Scores]]]) -> Iterator[Ranking]:
    """Every score that some run has. `runs` are pairs of a name and the scores of its log, by step.

    Scores that a person asked for later stand apart from those that the runs made themselves.
    """
    for origin in ("run", "request"):
        found = [(name, _newest(scores, origin)) for name, scores in runs]
        for use in sorted({_use(each) for _, scores in found for each in scores}):
            mine = [(name, [each for each in scores if _use(each) == use]) for name, scores in found]
            for title, row in _rows(use, mine):
                yield from _ranked(title if origin == "run" else f"{title}, on request:", row)


def _newest(scores: Sequence[Scores], origin: str) -> list[Scores]:
    chosen = made_by_run(scores) if origin == "run" else [each for each in scores if each.origin == origin]
    return list(latest_scores(chosen).values())


def _use(scores: Scores) -> str:
    return str(scores.identity["metric"]["use"]) if scores.identity else scores.metric


def _rows(use: str, runs: Sequence[tuple[str, Sequence[Scores]]]) -> Iterator[tuple[str, Row]]:
    """One row, and one for each way to use the metric if a run uses it in several."""
    if all(len(scores) <= 1 for _, scores in runs):
        yield use, [(name, scores[0] if scores else None) for name, scores in runs]
        return
    ways = {json.dumps(_way(each), sort_keys=True): _way(each) for _, scores in runs for each in scores}
    for title, way in zip(distinct_names([(use, way) for way in ways.values()]), ways.values(), strict=True):
        yield title, [(name, next((each for each in scores if _way(each) == way), None)) for name, scores in runs]


def _way(scores: Scores) -> dict[str, Any]:
    config = scores.identity["metric"]["config"] if scores.identity else {}
    return {**config, "protocol": scores.protocol, "num_samples": scores.num_samples}


def _ranked(title: str, row: Row) -> Iterator[Ranking]:
    there = [(run, scores) for run, scores in row if scores is not None]
    unlike = _why_not(there)
    for name in dict.fromkeys(name for _, scores in there for name in [*scores.values, *scores.unusable]):
        values = [None if scores is None else scores.values.get(name) for _, scores in row]
        texts = ["" if scores is None else _text(scores, name) for _, scores in row]
        usable = [value for value in values if value is not None]
        better = next((scores.better[name] for _, scores in there if name in scores.better), "neither")
        best = None
        if better == "neither":
            remark = "not ranked: neither way is better"
        elif unlike or len(usable) < 2:
            remark = unlike or "not ranked: only one run has it"
        else:
            best = values.index(min(usable) if better == "lower" else max(usable))
            remark = f"{better} is better{_other_versions(there)}"
        yield Ranking(f"{title} {name}", values, texts, best, remark)


def _text(scores: Scores, name: str) -> str:
    return f"{scores.values[name]:.4g}" if name in scores.values else scores.unusable.get(name, "")


def _why_not(there: Sequence[tuple[str, Scores]]) -> str:
    """The first rule that was not the same for all; empty if all were."""
    if alone := [run for run, scores in there if not scores.comparable]:
        return f"not ranked: scores by the protocol of {', '.join(alone)} cannot be compared with others"
    say_all = all(scores.identity for _, scores in there)
    rules = [(run, _rules(scores, by_identity=say_all)) for run, scores in there]
    for rule in dict.fromkeys(rule for _, each in rules for rule in each):
        if told := _unlike([(run, each.get(rule, "none")) for run, each in rules]):
            return f"not ranked: unlike {rule}: {told}"
    return ""


def _rules(scores: Scores, *, by_identity: bool) -> dict[str, str]:
    """What a score was taken by.

    How far real images are from each other is a result, not a rule; the sampler and the seed are what runs may differ
    in. Lines of earlier versions have no identity: then all are compared by what those say.
    """
    facts = {name: fact for name, fact in scores.facts.items() if name not in ("floor", "sampler")}
    counts = {"samples": f"{scores.num_samples:,}", "reference images": f"{scores.num_reference:,}"}
    identity = scores.identity if by_identity else {}
    config: Mapping[str, Any] = identity["metric"]["config"] if identity else {}
    keys = {key: json.dumps(value) for key, value in config.items()}
    images = {"fingerprint of the reference": str(identity["reference"])[:12]} if identity else {}
    return {"protocol": scores.protocol, **counts, **facts, **keys, **images}


def _other_versions(there: Sequence[tuple[str, Scores]]) -> str:
    versions = [(run, scores.identity["metric"]["version"]) for run, scores in there if scores.identity]
    told = _unlike(versions)
    return f"; measured by unlike versions: {told}" if told else ""


def _unlike(said: Sequence[tuple[str, str]]) -> str:
    """`512 (b); 5,000 (a)`, what most say last, as in `5,000 (the other 9)`; empty if all say the same."""
    by_text: dict[str, list[str]] = {}
    for run, text in said:
        by_text.setdefault(text, []).append(run)
    if len(by_text) < 2:
        return ""
    *few, (text, most) = sorted(by_text.items(), key=lambda entry: len(entry[1]))
    told = [f"{each} ({', '.join(runs)})" for each, runs in few]
    is_the_rest = len(most) > 2 and 2 * len(most) > len(said)
    return "; ".join([*told, f"{text} ({f'the other {len(most)}' if is_the_rest else ', '.join(most)})"])
