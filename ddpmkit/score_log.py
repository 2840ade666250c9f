"""Reads the scores in a run's log, and identifies which of them are comparable over training.

Two scores belong to the same series if everything that they depend on except the weights is the same.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from ddpmkit.contracts import Scores
from ddpmkit.run_log import RunLog

__all__ = ["best_step", "distinct_names", "latest_scores", "made_by_run", "read_scores", "series_key"]

_FIELDS = frozenset(field.name for field in fields(Scores))
_LONGEST_VALUE = 40


def read_scores(log: RunLog) -> list[Scores]:
    """Return all scores of a log, by step and then in the order of writing. Raises OSError if it cannot be read."""
    found = []
    for record in log.records("scores"):
        scores = Scores(**{name: record[name] for name in _FIELDS & record.keys()})
        finite = {name: value for name, value in scores.values.items() if math.isfinite(value)}
        found.append(replace(scores, values=finite, identity=scores.identity if _is_complete(scores.identity) else {}))
    return sorted(found, key=lambda scores: scores.step)


def _is_complete(identity: Mapping[str, Any]) -> bool:
    """Return whether an identity has all entries that its readers use."""
    metric = identity.get("metric")
    if not isinstance(metric, dict) or "reference" not in identity:
        return False
    return all(isinstance(metric.get(key), kind) for key, kind in (("use", str), ("version", str), ("config", dict)))


def made_by_run(scores: Iterable[Scores]) -> list[Scores]:
    """Return the scores that the run itself made, without manual evaluations (`ddpmkit evaluate`)."""
    return [each for each in scores if each.origin == "run"]


def latest_scores(scores: Iterable[Scores]) -> dict[str, Scores]:
    """Return the last scores of each metric, by its name; `scores` are sorted by step."""
    return {each.metric: each for each in scores}


def series_key(scores: Scores) -> str:
    """Return a key that is equal for scores that depend on the same things except the weights."""
    if scores.identity:
        return json.dumps(scores.identity, sort_keys=True)
    # A line written by an earlier version has no identity: use its facts.
    facts = {name: fact for name, fact in scores.facts.items() if name != "floor"}
    described = (scores.metric, scores.protocol, scores.num_samples, scores.num_reference, facts)
    return json.dumps(described, sort_keys=True)


def best_step(scores: Iterable[Scores], name: str, steps: Iterable[int]) -> int | None:
    """Return the step with the best score `name` among `steps`; the earliest if several are equal."""
    known = set(steps)
    found = [
        (-each.values[name] if each.better.get(name) == "higher" else each.values[name], each.step)
        for each in scores
        if name in each.values and each.step in known
    ]
    return min(found)[1] if found else None


def distinct_names(uses: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Return a distinct name for each use of a metric with its keys: `clean-fid`, or `clean-fid[num_samples=500]`.

    A metric that is used once keeps its plain name; otherwise the keys that differ are added.
    """
    names = []
    for use, keys in uses:
        others = [other for name, other in uses if name == use]
        differing = [key for key in sorted(keys) if any(other.get(key) != keys[key] for other in others)]
        suffix = ",".join(f"{key}={_shown(keys[key])}" for key in differing)
        names.append(f"{use}[{suffix}]" if suffix else use)
    # Values are shortened, so different keys may give equal names.
    seen: dict[str, list[Mapping[str, Any]]] = {}
    for place, (name, (_, keys)) in enumerate(zip(list(names), uses, strict=True)):
        alike = seen.setdefault(name, [])
        if keys not in alike:
            alike.append(keys)
        names[place] += f"#{alike.index(keys) + 1}" if alike.index(keys) else ""
    return names


def _shown(value: Any) -> str:
    """Return a short text of characters that are allowed in the name of a chart."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"[^\w.+-]+", "_", text)[:_LONGEST_VALUE].strip("_")
