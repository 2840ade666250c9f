"""Scores of generated batches."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ddpmkit.evaluation import evaluate_metric, reference_states
from ddpmkit.evaluation.metric_state import measure_batches
from host_synchronisations import synchronisations


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (37, 3, 8, 8), dtype=torch.uint8, generator=generator)


@pytest.fixture
def evaluate(new_metric, new_source):
    def call(batches, num_samples=37, progress=lambda more: None):
        metric = new_metric({"extractor SHA-256": "abc"})
        real = reference_states(
            metric, new_source(20), name="mean-variance", version="1", settings={}, progress=lambda more: None
        )
        return evaluate_metric(
            metric,
            name="mean-variance",
            step=300,
            real=real,
            generated=iter(batches),
            num_samples=num_samples,
            progress=progress,
        )

    return call


def test_scores_compare_all_images_with_the_reference(evaluate, images, new_source):
    progress = []
    scores = evaluate(images.split(10), progress=progress.append)
    real = torch.from_numpy(new_source(20).dataset.pixels).double().mean(dim=(1, 2, 3))
    brightness = images.double().mean(dim=(1, 2, 3))
    assert scores.values["mean"] == pytest.approx(abs(float(real.mean() - brightness.mean())), rel=1e-9)
    assert scores.values["variance"] == pytest.approx(
        abs(float(real.var(correction=0) - brightness.var(correction=0))), rel=1e-9
    )
    assert progress == [10, 10, 10, 7]


def test_the_batch_size_changes_nothing(evaluate, images):
    complete = evaluate([images])
    for size in (1, 7, 36):
        assert evaluate(images.split(size)).values == pytest.approx(complete.values, rel=1e-9)


def test_a_score_contains_its_protocol(evaluate, images):
    scores = evaluate([images])
    assert (scores.step, scores.metric, scores.protocol, scores.comparable) == (300, "mean-variance", "plain", True)
    assert (scores.num_samples, scores.num_reference) == (37, 20)
    assert scores.better == {"mean": "lower", "variance": "lower"}
    assert scores.floor.keys() == scores.values.keys()
    assert scores.facts == {
        "reference": "as stored",
        "extractor SHA-256": "abc",
        "floor": "one random half of the reference against the other, 10 and 10 images",
    }


@pytest.mark.parametrize("num_samples", [36, 38])
def test_an_unexpected_number_of_images_is_an_error(evaluate, images, num_samples):
    with pytest.raises(ValueError, match=f"expected {num_samples} samples, received 37"):
        evaluate([images], num_samples=num_samples)


@pytest.mark.parametrize(
    ("batches", "complaint"),
    [
        ([torch.zeros(2, 3, 8, 8)], "uint8"),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8)], r"\[3, 8, 8\]"),
        ([], "no images"),
    ],
)
def test_a_batch_that_is_not_uint8_images_is_an_error(evaluate, batches, complaint):
    with pytest.raises(ValueError, match=complaint):
        evaluate(batches)


def test_states_stay_on_the_device_of_the_metric_until_the_end():
    """A GPU that exists only as a claim of fake tensors: only the merged state is copied to the host."""

    class OnDevice:
        def measure(self, images):
            return {"n": torch.full((), len(images), device="cuda"), "sum": torch.ones(3, device="cuda")}

        def merge(self, first, second):
            return {name: first[name] + second[name] for name in first}

    metric, found = OnDevice(), {}

    def work():
        batches = [torch.zeros((2, 3, 8, 8), dtype=torch.uint8)] * 5
        _, state = measure_batches("on-device", metric, metric.measure, batches, lambda more: None)
        found.update(state)

    with FakeTensorMode(allow_non_fake_inputs=True):
        copies = synchronisations(work)
    assert len(copies) == 2
    assert all("metric_state.py" in each and "between cpu and cuda" in each for each in copies)
    assert {tensor.device.type for tensor in found.values()} == {"cpu"}
