"""The estimated cost of an evaluation."""

import time

import pytest

from ddpmkit.contracts import ImageShape
from ddpmkit.evaluation import EvaluationCost, estimate_cost


def test_the_estimate_includes_sampling_and_measuring(new_metric, monkeypatch):
    metric = new_metric()
    # Measured on the second of two batches of 16, which here takes 4 seconds: 0.25 s an image.
    ticks = iter([100.0, 104.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    cost = estimate_cost(
        metric,
        name="mean-variance",
        num_samples=1000,
        network_calls=800,
        batch_size=64,
        seconds_per_call=0.5,
        image_shape=ImageShape(1, 8, 12),
        reference_images=200,
    )
    assert metric.measured == [16, 16]
    assert cost == EvaluationCost("mean-variance", "plain", 1000, 800, 64, 200, 0.5 * 800 + 0.25 * 1200)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 second"), (40, "40 seconds"), (95, "2 minutes"), (720, "12 minutes"), (9000, "2.5 hours")],
)
def test_the_cost_is_one_sentence(seconds, words):
    cost = EvaluationCost("clean-fid", "standard", 5000, 3950, 64, 4653, seconds)
    assert cost.describe() == (
        "clean-fid (standard): 5,000 samples, 3,950 network calls in batches of 64, "
        f"4,653 real images to measure first, about {words}"
    )


def test_unknown_or_unneeded_parts_are_not_in_the_sentence():
    cost = EvaluationCost("clean-fid", "original", 512, 50, 512)
    assert cost.describe() == "clean-fid (original): 512 samples, 50 network calls in batches of 512"
