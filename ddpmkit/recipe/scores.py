"""The scores that the metrics of a recipe give: is there one to choose checkpoints by, is none given twice?

A metric declares `score:fid` in `provides` if its score `fid` ranks runs, `unranked-score:distance` if it does not.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from ddpmkit.recipe.problems import Problem, did_you_mean
from ddpmkit.recipe.recipe import Part
from ddpmkit.recipe.schema import MetricSection, TrainSection
from ddpmkit.recipe.toml_writer import toml_value
from ddpmkit.recipe.validation import Table

__all__ = ["declared_scores", "evaluation_keys", "repeated_metrics", "unusable_keep_best"]

_RANKED, _UNRANKED = "score:", "unranked-score:"


def declared_scores(provides: Sequence[str]) -> dict[str, bool]:
    """Of the capabilities of a metric: the names of its scores, and whether each ranks runs."""
    ranked = {name.removeprefix(_RANKED): True for name in provides if name.startswith(_RANKED)}
    return ranked | {name.removeprefix(_UNRANKED): False for name in provides if name.startswith(_UNRANKED)}


def unusable_keep_best(table: Table, train: TrainSection, metrics: Sequence[Part[MetricSection]]) -> Iterator[Problem]:
    """One problem if `keep_best` names no score, or one that ranks nothing; `table` is [train].

    If a metric declares no scores, only the start of a run can tell.
    """
    wanted = train.keep_best
    scores = [declared_scores(part.component.component.provides) for part in metrics]
    if not wanted or any(found.get(wanted) for found in scores) or not all(scores):
        return
    subject, known = f"`keep_best` in [train] is {toml_value(wanted)}", [name for found in scores for name in found]
    ranked = list(dict.fromkeys(name for found in scores for name, ranks in found.items() if ranks))
    remedy = [f"scores that can be used: {', '.join(ranked)}"] if ranked else []
    if not metrics:
        message, hint = "the recipe has no [[metric]]", ["add a [[metric]] that gives this score"]
    elif wanted in known:
        message, hint = "that score does not say which run is better", remedy
    else:
        close = did_you_mean(wanted, ranked)
        message, hint = "no [[metric]] gives a score of this name", [f"did you mean `{close}`?"] if close else remedy
    yield table.problem(f"{subject}, but {message}", ("keep_best",), *hint, 'keep_best = "" keeps no such checkpoint')


def evaluation_keys(part: Part[MetricSection]) -> dict[str, Any]:
    """The keys of a `[[metric]]` that its scores depend on."""
    count = part.settings.num_samples
    return {**part.keys_with_effect(), **({"num_samples": count} if count is not None else {})}


def repeated_metrics(metrics: Sequence[Part[MetricSection]]) -> Iterator[str]:
    """One sentence for each metric that is the same evaluation as one before it."""
    seen: list[dict[str, Any]] = []
    for number, part in enumerate(metrics, start=1):
        keys = {"use": part.component.use, **evaluation_keys(part)}
        if keys in seen:
            first = seen.index(keys) + 1
            yield f"[[metric]] number {number} is the same evaluation as number {first}, and is made once at each step"
        seen.append(keys)
