"""Groups scores into series that depend on the same things except the weights, each with a distinct title."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ddpmkit.contracts import Scores
from ddpmkit.score_log import series_key

__all__ = ["ScoreSeries", "score_series"]


@dataclass(frozen=True)
class ScoreSeries:
    """The scores of one kind of evaluation, at several steps."""

    metric: str
    conditions: str
    """The protocol, and the facts that distinguish the series from others of this metric."""
    scores: Sequence[Scores]
    """Sorted by step; the last one of each step."""

    @property
    def names(self) -> list[str]:
        """The names of the values, in the order of their first appearance."""
        return list(dict.fromkeys(name for scores in self.scores for name in scores.values))


def score_series(scores: Iterable[Scores]) -> list[ScoreSeries]:
    """All series, sorted by metric; `scores` are sorted by step."""
    found: dict[str, dict[int, Scores]] = {}
    for each in scores:
        found.setdefault(f"{each.origin} {series_key(each)}", {})[each.step] = each
    groups = [list(by_step.values()) for by_step in found.values()]
    return sorted(
        (ScoreSeries(group[0].metric, _conditions(group, groups), group) for group in groups),
        key=lambda each: (each.metric, each.conditions),
    )


def _conditions(group: Sequence[Scores], groups: Sequence[Sequence[Scores]]) -> str:
    facts, first = _facts(group[0]), group[0]
    others = [other[0] for other in groups if other is not group and other[0].metric == first.metric]
    parts = [f"{first.protocol} protocol"]
    alike = [other for other in others if other.protocol == first.protocol]
    parts += [text for name, text in facts.items() if any(_facts(other).get(name) != text for other in alike)]
    if any(_facts(other) == facts for other in alike):
        parts.append(f"from step {first.step:,}")
    return ", ".join(parts)


def _facts(scores: Scores) -> Mapping[str, str]:
    """The facts of a score as text, by name."""
    facts = {name: f"{name} {fact}" for name, fact in scores.facts.items() if name != "floor"}
    origin = {"origin": "manual evaluation"} if scores.origin == "request" else {}
    return {**origin, "samples": f"{scores.num_samples:,} samples", **facts}
