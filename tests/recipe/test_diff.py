from typing import Any

import pytest

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Change, differences, read_recipe

BASE: dict[str, Any] = {"data": {"use": "image-folder", "root": "a"}, "metric": [{"use": "fid"}]}


def changes(registry: Registry, *overrides: str) -> tuple[Change, ...]:
    old = read_recipe(BASE, registry=registry)
    return differences(old.as_data(), read_recipe(BASE, overrides=overrides, registry=registry).as_data())


def test_equal_recipes_do_not_differ(registry: Registry) -> None:
    assert changes(registry) == ()


def test_a_change_names_its_key_and_both_values(registry: Registry) -> None:
    found = changes(registry, "train.steps=20_000", "sampler.steps=9", 'data.classes=["cat"]', "metric=[]")
    assert [str(change) for change in found] == [
        'data.classes: "all" -> ["cat"]',
        "metric.0.every: 0 -> absent",
        'metric.0.protocol: "standard" -> absent',
        'metric.0.use: "fid" -> absent',
        "sampler.steps: absent -> 9",
        "train.steps: 10_000 -> 20_000",
    ]


def test_true_is_not_one() -> None:
    assert len(differences({"a": {"b": True}}, {"a": {"b": 1}})) == 1
    assert differences({"a": {"b": 1.0}}, {"a": {"b": 1}}) == ()


@pytest.mark.parametrize(
    "override",
    ["train.steps=5", "train.log_every=5", "train.sample_every=5", "train.validate_every=5", "train.checkpoint_every=5",
     "train.device=cpu", "train.accumulate=2", "sampler.count=9", "sampler.weights=raw", "metric.0.every=7",
     "train.ema_snapshot_every=7", "name=other", "data.root=b"],
)  # fmt: skip
def test_length_samples_and_device_of_a_run_can_change(registry: Registry, override: str) -> None:
    assert [change.affects_model for change in changes(registry, override)] == [False]


def test_another_dataset_component_does_not_affect_the_model(registry: Registry) -> None:
    found = changes(registry, "data.use=critters")
    assert [change.key for change in found if change.key == "data.use"]
    assert not any(change.affects_model for change in found)


@pytest.mark.parametrize(
    "override",
    ["train.seed=5", "train.batch_size=5", "train.learning_rate=5", "train.warmup_steps=5", "train.gradient_clip=5",
     "train.ema_decay=0.5", "train.betas=[0.1, 0.2]", "train.precision=float32", "diffusion.timesteps=5",
     "diffusion.prediction=v", "schedule.s=0.5", "backbone.dim=32", "backbone.middle.width=5", "data.image_size=64",
     "data.flip=false", "data.crop_margin=1.5", "data.channels=1", "train.optimizer=muon", "train.weight_decay=0.1",
     "train.ema_decays=[0.9]", "train.ema_sigma_rels=[0.05]",
     "train.learning_rate_decay=cosine", "train.label_dropout=0.5", "diffusion.offset_noise=0.1",
     "diffusion.self_conditioning=true"],
)  # fmt: skip
def test_a_key_that_the_weights_depend_on_affects_the_model(registry: Registry, override: str) -> None:
    assert [change.affects_model for change in changes(registry, override)] == [True]


@pytest.mark.parametrize("override", ["schedule.use=linear", "backbone.use=transformer"])
def test_another_component_is_another_model(registry: Registry, override: str) -> None:
    assert any(change.affects_model for change in changes(registry, override))


def test_a_change_that_stored_weights_or_moments_do_not_fit_cannot_be_accepted(registry: Registry) -> None:
    for override in ("train.optimizer=muon", "data.channels=1"):
        assert [change.is_acceptable for change in changes(registry, override)] == [False]
    assert [change.is_acceptable for change in changes(registry, "train.learning_rate=5")] == [True]
