"""Scores in series: those that depend on the same things besides the weights, under a title that is theirs alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ddpmkit.contracts import Scores
from ddpmkit.score_log import series_key

__all__ = ["ScoreSeries", "score_series"]


@dataclass(frozen=True)
class ScoreSeries:
    """One evaluation, after several steps."""

    metric: str
    rules: str
    """The protocol, and what else tells it from other series of this metric."""
    scores: Sequence[Scores]
    """By step; of several after one step the last."""

    @property
    def names(self) -> list[str]:
        """Of the scores, in the order in which they first came up."""
        return list(dict.fromkeys(name for scores in self.scores for name in scores.values))


def score_series(scores: Iterable[Scores]) -> list[ScoreSeries]:
    """All series of scores that are by step, by metric."""
    found: dict[str, dict[int, Scores]] = {}
    for each in scores:
        found.setdefault(f"{each.origin} {series_key(each)}", {})[each.step] = each
    groups = [list(by_step.values()) for by_step in found.values()]
    return sorted(
        (ScoreSeries(group[0].metric, _rules(group, groups), group) for group in groups),
        key=lambda each: (each.metric, each.rules),
    )


def _rules(group: Sequence[Scores], groups: Sequence[Sequence[Scores]]) -> str:
    said, first = _said(group[0]), group[0]
    others = [other[0] for other in groups if other is not group and other[0].metric == first.metric]
    told = [f"{first.protocol} protocol"]
    alike = [other for other in others if other.protocol == first.protocol]
    told += [text for name, text in said.items() if any(_said(other).get(name) != text for other in alike)]
    if any(_said(other) == said for other in alike):
        told.append(f"from step {first.step:,}")
    return ", ".join(told)


def _said(scores: Scores) -> Mapping[str, str]:
    """What a score says of itself, in words."""
    facts = {name: f"{name} {fact}" for name, fact in scores.facts.items() if name != "floor"}
    asked = {"origin": "on request"} if scores.origin == "request" else {}
    return {**asked, "samples": f"{scores.num_samples:,} samples", **facts}
