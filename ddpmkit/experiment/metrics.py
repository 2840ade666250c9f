"""Builds the metrics of a recipe."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import torch

from ddpmkit.contracts import Better, Metric, MetricProtocol
from ddpmkit.errors import ComponentUnavailable, InputError, PluginError
from ddpmkit.experiment.collected_errors import ErrorCollector
from ddpmkit.global_state import Guard
from ddpmkit.plugin.fault_location import fix_hint
from ddpmkit.recipe import MetricSection, Part, Recipe, evaluation_keys
from ddpmkit.score_log import distinct_names

__all__ = ["BuiltMetric", "build_metrics", "check_keep_best", "metric_names"]


@dataclass(frozen=True)
class BuiltMetric:
    """A metric with its section of the recipe."""

    name: str
    """The `use` of the metric, followed by the keys in which it differs from other metrics of the same `use`."""
    part: Part[MetricSection]
    metric: Metric

    @property
    def use(self) -> str:
        """The name of the component in a recipe."""
        return self.part.component.use

    def ranks_by(self, score: str) -> bool:
        """Return whether the metric has a score of this name, and a lower or a higher value is better."""
        return self.metric.better.get(score, "neither") != "neither"

    def weights(self, sampling: str) -> str:
        """Return the weights to evaluate: those of the protocol. For "ema", it is `sampling` unless that is "raw".

        `sampling` is the recipe's choice for samples.
        """
        averaged = self.metric.protocol.weights == "ema" and sampling != "raw"
        return sampling if averaged else self.metric.protocol.weights

    @property
    def num_samples(self) -> int:
        """Number of generated images: the recipe's, or else the protocol's."""
        return self.part.settings.num_samples or self.metric.protocol.num_samples


def build_metrics(
    recipe: Recipe,
    device: torch.device,
    *,
    skip_unavailable: bool,
    message: Callable[[str], None],
    guard: Guard = contextlib.nullcontext,
) -> list[BuiltMetric]:
    """Return the recipe's metrics, each built inside `guard`, which receives the name of the metric.

    With `skip_unavailable`, a metric that cannot run on this machine is left out and reported with `message`. Otherwise
    it raises ComponentUnavailable. If several metrics fail, one InputError lists all of them.
    """
    built, errors = [], ErrorCollector()
    for name, part in zip(metric_names(recipe), recipe.metrics, strict=True):
        with errors.collecting():
            try:
                with guard(f"metric {name!r}"):
                    metric = part.build(device=device)
                    _check_metric(part, metric)
                built.append(BuiltMetric(name, part, metric))
            except ComponentUnavailable as error:
                if not skip_unavailable:
                    raise
                message(f"skipped metric {name!r}: {error.message}")
    errors.raise_collected()
    return built


def _check_metric(part: Part[MetricSection], metric: Metric) -> None:
    """Raise PluginError for a metric without a valid `protocol` or `better`."""
    component, fault = part.component, ""
    protocol, better = getattr(metric, "protocol", None), getattr(metric, "better", None)
    directions = get_args(Better)
    if not isinstance(protocol, MetricProtocol):
        fault = f"its `protocol` must be a MetricProtocol, not {type(protocol).__name__}"
    elif not isinstance(better, Mapping) or any(direction not in directions for direction in better.values()):
        fault = f"its `better` must map each score to {', '.join(map(repr, directions))}, not be {better!a}"
    if fault:
        raise PluginError(
            f"metric {component.use!r} ({component.origin}): {fault}.",
            remedies=[fix_hint(component.plugin, component.component.target), "use another metric"],
        )


def metric_names(recipe: Recipe) -> list[str]:
    """Return the name of each metric: its `use`, followed by keys if the recipe has several of this `use`."""
    return distinct_names([(part.component.use, evaluation_keys(part)) for part in recipe.metrics])


def check_keep_best(recipe: Recipe, metrics: Sequence[BuiltMetric], message: Callable[[str], None]) -> None:
    """Check that a metric returns the score `train.keep_best`.

    Raises InputError if no metric returns it. If metrics were skipped, `message` is called instead.
    """
    score = recipe.train.keep_best
    if not score or any(built.ranks_by(score) for built in metrics):
        return
    if len(metrics) < len(recipe.metrics):
        message(f"warning: train.keep_best = {score!r} has no effect: no remaining metric ranks runs by this score")
        return
    scores = [name for built in metrics for name in built.metric.better if built.ranks_by(name)]
    raise InputError(
        f"train.keep_best = {score!r}, but no metric of the recipe returns a score of this name that ranks runs.",
        remedies=[
            *([f"scores that can be used: {', '.join(scores)}"] if scores else []),
            "add --set 'train.keep_best=\"\"' to keep no such checkpoint",
        ],
    )
