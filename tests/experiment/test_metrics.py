"""Building the metrics of a recipe."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ddpmkit.contracts import MetricProtocol
from ddpmkit.errors import ComponentUnavailable, InputError, PluginError
from ddpmkit.experiment.metrics import BuiltMetric, build_metrics, check_keep_best, metric_names
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, read_recipe

CPU = torch.device("cpu")


class OddConfig(ComponentConfig):
    fault: str = ""


class OddMetric:
    """A metric whose `protocol` or `better` the contract does not allow."""

    def __init__(self, config: OddConfig, *, device: torch.device) -> None:
        self.protocol: Any = MetricProtocol("plain", num_samples=4, weights="ema", comparable=True)
        self.better: Any = {"depth": "lower", "count": "neither"}
        if config.fault == "no protocol":
            del self.protocol
        elif config.fault == "text as protocol":
            self.protocol = "plain"
        elif config.fault == "no better":
            del self.better
        elif config.fault:
            self.better = {"depth": ["lower"] if config.fault == "list" else config.fault}

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        return {}


class Offline:
    better: ClassVar = {"x": "lower"}

    def __init__(self, config: ComponentConfig, *, device: torch.device) -> None:
        raise ComponentUnavailable("its network is not available.")


@pytest.fixture
def recipe(small: Callable[..., dict[str, Any]], with_parts: Callable[..., Registry]) -> Callable[..., Recipe]:
    """A recipe with these metrics."""
    registry = with_parts(
        Component(
            kind="metric", name="odd", target=f"{__name__}:OddMetric", config=f"{__name__}:OddConfig", summary="odd"
        ),
        Component(kind="metric", name="offline", target=f"{__name__}:Offline", summary="not available"),
    )
    return lambda *metrics, **train: read_recipe(small(metric=list(metrics), train=train), registry=registry)


def built(recipe: Recipe, *, skip: bool = False) -> tuple[list[BuiltMetric], list[str]]:
    messages: list[str] = []
    return build_metrics(recipe, CPU, skip_unavailable=skip, message=messages.append), messages


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("no protocol", "its `protocol` must be a MetricProtocol, not NoneType."),
        ("text as protocol", "its `protocol` must be a MetricProtocol, not str."),
        ("no better", "its `better` must map each score to 'lower', 'higher', 'neither', not be None."),
        ("down", "its `better` must map each score to 'lower', 'higher', 'neither', not be {'depth': 'down'}."),
        ("list", "its `better` must map each score to 'lower', 'higher', 'neither', not be {'depth': ['lower']}."),
    ],
)
def test_a_metric_without_a_valid_protocol_or_direction_is_named(
    recipe: Callable[..., Recipe], fault: str, expected: str
) -> None:
    with pytest.raises(PluginError, match=r"metric 'local/odd' \(unpackaged 0\): its") as caught:
        built(recipe({"use": "local/odd", "fault": fault}))
    assert expected in caught.value.message
    assert caught.value.remedies[0].startswith("report it to the authors of")


def test_an_unavailable_metric_is_an_error_unless_it_may_be_skipped(recipe: Callable[..., Recipe]) -> None:
    both = recipe({"use": "local/offline"}, {"use": "local/odd"})
    with pytest.raises(ComponentUnavailable, match="its network is not available"):
        built(both)
    metrics, messages = built(both, skip=True)
    assert [metric.name for metric in metrics] == ["local/odd"]
    assert messages == ["skipped metric 'local/offline': its network is not available."]


def test_metrics_of_one_use_are_named_by_the_keys_in_which_they_differ(recipe: Callable[..., Recipe]) -> None:
    assert metric_names(recipe({"use": "local/odd"})) == ["local/odd"]
    assert metric_names(recipe({"use": "local/odd", "num_samples": 2}, {"use": "local/odd", "num_samples": 3})) == [
        "local/odd[num_samples=2]",
        "local/odd[num_samples=3]",
    ]


def test_the_weights_to_evaluate_follow_protocol_and_sampler(recipe: Callable[..., Recipe]) -> None:
    (metric,), _ = built(recipe({"use": "local/odd"}))
    assert [metric.weights(sampling) for sampling in ("ema", "raw", "decay=0.9")] == ["ema", "ema", "decay=0.9"]


def test_keep_best_needs_a_score_that_ranks(recipe: Callable[..., Recipe]) -> None:
    messages: list[str] = []
    for score in ("", "depth"):
        chosen = recipe({"use": "local/odd"}, keep_best=score)
        check_keep_best(chosen, built(chosen)[0], messages.append)
    for score in ("count", "dpth"):
        chosen = recipe({"use": "local/odd"}, keep_best=score)
        with pytest.raises(InputError, match=f"keep_best = '{score}'") as caught:
            check_keep_best(chosen, built(chosen)[0], messages.append)
        assert "scores that can be used: depth" in str(caught.value)
    assert messages == []
    skipped = recipe({"use": "local/offline"}, keep_best="depth")
    check_keep_best(skipped, built(skipped, skip=True)[0], messages.append)
    assert messages == [
        "warning: train.keep_best = 'depth' has no effect: no remaining metric ranks runs by this score"
    ]
