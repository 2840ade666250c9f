"""The reference over all real images, its floor, and its copy on disk."""

import numpy as np
import pytest
import torch

from ddpmkit.errors import InputError, RunFailed
from ddpmkit.evaluation import cached_reference, reference_states
from ddpmkit.randomness import philox

SETTINGS = {"depth": 1}


def brightness(source):
    return source.dataset.pixels.astype(np.float64).mean(axis=(1, 2, 3))


def measure(metric, source, settings=SETTINGS, progress=lambda more: None, version="1"):
    return reference_states(metric, source, name="mean-variance", version=version, settings=settings, progress=progress)


def test_the_reference_contains_every_real_image_once(new_metric, new_source):
    source, metric, progress = new_source(151), new_metric(), []
    reference = measure(metric, source, progress=progress.append)
    assert reference.num_images == float(reference.state["n"]) == sum(metric.measured) == sum(progress) == 151
    np.testing.assert_allclose(float(reference.state["sum"]), brightness(source).sum(), rtol=1e-12)


def test_the_floor_is_the_score_between_two_random_halves(new_metric, new_source):
    source = new_source(151)
    reference = measure(new_metric(), source)
    # Philox at (seed 0, purpose SPLIT = 8, index), written out: the split is part of what a floor means.
    random = [philox([0, index, 0, 8 << 24], (0, 0)) for index in range(151)]
    order = sorted(range(151), key=lambda index: (random[index][0], random[index][1]))
    first, second = brightness(source)[order[:75]], brightness(source)[order[75:]]
    assert reference.floor == pytest.approx(
        {"mean": abs(first.mean() - second.mean()), "variance": abs(first.var() - second.var())}, rel=1e-9
    )
    assert reference.floor["mean"] > 0.1
    assert reference.facts == {"floor": "one random half of the reference against the other, 75 and 76 images"}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_images_have_no_floor(new_metric, new_source, count):
    reference = measure(new_metric(), new_source(count))
    assert reference.num_images == float(reference.state["n"]) == count
    assert reference.floor == {}
    assert "none" in reference.facts["floor"]


def test_no_images_are_an_error(new_metric, new_source):
    with pytest.raises(InputError, match="no real images"):
        measure(new_metric(), new_source(0))


@pytest.mark.parametrize("count", [2, 151])
def test_a_stored_reference_equals_a_measured_one(new_metric, new_source, count):
    fresh = measure(new_metric(), new_source(count))
    later, progress = new_metric(), []
    cached = measure(later, new_source(count), progress=progress.append)
    assert later.measured == []
    assert progress == [count]
    assert (cached.num_images, cached.floor, cached.facts) == (fresh.num_images, fresh.floor, fresh.facts)
    assert cached.state.keys() == fresh.state.keys()
    for name, tensor in fresh.state.items():
        torch.testing.assert_close(cached.state[name], tensor, rtol=0, atol=0)


def test_a_stored_reference_can_be_looked_up_without_measuring(new_metric, new_source):
    metric, source = new_metric(), new_source(20)
    assert cached_reference(metric, source, name="mean-variance", version="1", settings=SETTINGS) is None
    assert metric.measured == []
    measure(metric, source)
    assert cached_reference(metric, source, name="mean-variance", version="1", settings=SETTINGS) is not None


def test_other_images_facts_settings_or_size_are_another_reference(new_metric, new_source):
    measure(new_metric(), new_source(20))
    smaller = new_source(20)
    smaller.image_shape = smaller.image_shape._replace(height=4)
    for metric, source, settings in [
        (new_metric(), new_source(20, fingerprint="second"), SETTINGS),
        (new_metric({"extractor SHA-256": "another"}), new_source(20), SETTINGS),
        (new_metric(), new_source(20), {"depth": 2}),
        (new_metric(), smaller, SETTINGS),
    ]:
        measure(metric, source, settings)
        assert sum(metric.measured) == 20


def test_another_version_of_the_metrics_code_is_another_reference(new_metric, new_source):
    """A state measured by another version of the code is not compared with new samples."""
    measure(new_metric(), new_source(20), version="1")
    metric = new_metric()
    measure(metric, new_source(20), version="2")
    assert sum(metric.measured) == 20


def test_a_state_with_gradients_is_stored_without_them(new_metric, new_source):
    """A metric that uses a network without `torch.no_grad()`."""
    metric = new_metric()
    weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    plain = metric.measure_real
    metric.measure_real = lambda images: {name: weight * tensor for name, tensor in plain(images).items()}
    assert not any(tensor.requires_grad for tensor in measure(metric, new_source(20)).state.values())
    assert measure(unasked := new_metric(), new_source(20)).num_images == 20
    assert unasked.measured == []


@pytest.mark.parametrize("answer", [None, [1.0], {"sum": 1.0}])
def test_a_metric_that_does_not_measure_tensors_is_named(new_metric, new_source, answer):
    metric = new_metric()
    metric.measure_real = lambda images: answer
    with pytest.raises(
        RunFailed, match=r"metric 'mean-variance': measuring returned .*, not a mapping of names to tensors"
    ):
        measure(metric, new_source(20))


def test_a_metric_whose_merge_returns_none_is_named(new_metric, new_source):
    metric = new_metric()
    metric.merge = lambda first, second: None
    with pytest.raises(RunFailed, match=r"its merge\(\) returned NoneType, not a mapping of names to tensors"):
        measure(metric, new_source(200))


def test_a_name_that_cannot_be_stored_prevents_caching_but_no_score(new_metric, new_source, caplog):
    metric = new_metric()
    metric.scores = lambda real, generated: {"half a pair \ud800": 1.0}
    assert measure(metric, new_source(20)).floor == {"half a pair \ud800": 1.0}
    assert "cannot be stored" in caplog.text


def flip_a_bit(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [flip_a_bit, lambda content: content[:-5], lambda content: b""])
def test_a_damaged_reference_is_measured_again(new_metric, new_source, cache_folder, caplog, damage):
    fresh = measure(new_metric(), new_source(151))
    (file,) = cache_folder.rglob("*.safetensors")
    file.write_bytes(damage(file.read_bytes()))
    again = new_metric()
    reference = measure(again, new_source(151))
    assert sum(again.measured) == 151
    assert reference.floor == fresh.floor
    assert reference.state == fresh.state
    assert str(file) in caplog.text
    assert measure(unasked := new_metric(), new_source(151)).floor == fresh.floor
    assert unasked.measured == []


def test_a_cache_that_cannot_be_written_is_a_warning(new_metric, new_source, cache_folder, caplog):
    cache_folder.write_text("a file where the folder should be")
    assert measure(new_metric(), new_source(20)).num_images == 20
    assert "cannot be stored" in caplog.text


def test_the_cache_contains_only_the_reference(new_metric, new_source, cache_folder):
    measure(new_metric(), new_source(20))
    (entry,) = (cache_folder / "references").iterdir()
    assert entry.suffix == ".safetensors"
