"""Checks across sections: needs and capabilities, labels and guidance, averages, and `train.keep_best`."""

from pathlib import Path
from typing import Any

import pytest

from ddpmkit.plugin import Component
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError, current_provenance, lock_text, read_lock, read_recipe
from ddpmkit.recipe.checks.cross_checks import declared_scores

LABELS = {"classes": ["cat", "dog"], "labels": True}


@pytest.fixture(scope="module")
def installed() -> Registry:
    installed = [entry for entries in discover().registry().components.values() for entry in entries.values()]
    silent = Component(kind="metric", name="silent", target="nowhere:Nothing", summary="declares no scores")
    return Registry.from_components([*installed, silent])


def recipe(keep_best: str, *metrics: dict[str, Any]) -> dict[str, Any]:
    return {"train": {"keep_best": keep_best}, "metric": list(metrics)}


def test_a_need_without_a_provider_names_the_package_that_has_it(registry: Registry) -> None:
    needy = Component(kind="loss", name="needy", target="a:B", summary="", needs=("depth-maps",))
    plugin = registry.get("loss", "l1").plugin
    others = [entry for kind in registry.components for entry in registry.of_kind(kind)]
    with pytest.raises(RecipeError) as caught:
        read_recipe(
            {"loss": {"use": "needy"}}, registry=Registry.from_components([*others, RegisteredComponent(needy, plugin)])
        )
    (problem,) = caught.value.problems
    assert problem.hints == (
        "no installed component provides it: install what unpackaged 0 requires for it, or use another loss",
    )


def test_a_need_is_met_by_any_of_its_alternatives(registry: Registry) -> None:
    for prediction in ("x0", "v"):
        read_recipe({"diffusion": {"prediction": prediction}, "schedule": {"use": "zero-snr"}}, registry=registry)
    read_recipe({"backbone": {"use": "transformer"}, "loss": {"use": "token-loss"}}, registry=registry)


def test_labels_need_a_backbone_with_class_conditioning(registry: Registry) -> None:
    conditional = {"data": {"labels": True, "classes": ["cat"]}, "backbone": {"use": "transformer"}}
    with pytest.raises(RecipeError, match="backbone `transformer` does not support class conditioning") as caught:
        read_recipe(conditional, registry=registry)
    assert "backbone `attention-unet` provides it" in str(caught.value)


def test_guidance_needs_labels(registry: Registry) -> None:
    with pytest.raises(RecipeError, match=r"`guidance` in \[sampler\] is 2.0, but guidance needs class labels"):
        read_recipe({"sampler": {"guidance": 2.0}}, registry=registry)


def test_scores_are_declared_as_capabilities() -> None:
    assert declared_scores(("score:fid", "unranked-score:copies", "class-labels")) == {"fid": True, "copies": False}


@pytest.mark.parametrize(
    ("keep_best", "metrics", "complaint"),
    [
        ("fid", (), "the recipe has no [[metric]]"),
        ("fdi", ({"use": "clean-fid"},), "no [[metric]] reports a score of this name\n  - did you mean `fid`?"),
        ("clean-fid", ({"use": "clean-fid"}, {"use": "clean-kid"}), "scores that can be used: fid, kid"),
        ("copies", ({"use": "nearest-neighbours"},), "that score does not rank runs"),
    ],
)
def test_a_score_that_cannot_rank_checkpoints_is_an_error_before_training(
    installed: Registry, keep_best: str, metrics: tuple[dict[str, Any], ...], complaint: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe(keep_best, *metrics), registry=installed)
    assert f'`keep_best` in [train] is "{keep_best}"' in caught.value.message
    assert complaint in caught.value.message


@pytest.mark.parametrize(
    ("keep_best", "metrics"),
    [
        ("", ()),
        ("fid", ({"use": "clean-fid"},)),
        ("recall", ({"use": "clean-fid"}, {"use": "precision-recall"})),
        ("anything", ({"use": "local/silent"},)),
    ],
)
def test_a_score_that_can_rank_checkpoints_is_accepted(
    installed: Registry, keep_best: str, metrics: tuple[dict[str, Any], ...]
) -> None:
    assert read_recipe(recipe(keep_best, *metrics), registry=installed).train.keep_best == keep_best


def test_a_lock_with_an_unknown_keep_best_can_still_be_read(installed: Registry, tmp_path: Any) -> None:
    good = read_recipe(recipe("fid", {"use": "clean-fid"}), registry=installed)
    text = lock_text(good, current_provenance(good, "a fingerprint")).replace('keep_best = "fid"', 'keep_best = "typo"')
    (tmp_path / "recipe.lock.toml").write_text(text)
    assert read_lock(tmp_path / "recipe.lock.toml", installed).recipe.train.keep_best == "typo"


@pytest.mark.parametrize("overrides", [["train.label_dropout=0"], ["train.label_dropout=0", "sampler.guidance=3"]])
def test_guidance_without_label_dropout_is_an_error(overrides: list[str], installed: Registry) -> None:
    recipe = {"data": LABELS, "sampler": {"guidance": 1.5}}
    read_recipe(recipe, registry=installed)
    with pytest.raises(RecipeError, match=r"`guidance` in \[sampler\] is .*, but train.label_dropout = 0"):
        read_recipe(recipe, overrides=overrides, registry=installed)


def test_a_lock_with_guidance_and_without_label_dropout_can_still_be_read(tmp_path: Path, installed: Registry) -> None:
    recipe = read_recipe({"data": LABELS, "train": {"label_dropout": 0.0}}, registry=installed)
    text = lock_text(recipe, current_provenance(recipe, "abc"))
    assert "guidance = 1.0" in text
    (tmp_path / "lock.toml").write_text(text.replace("guidance = 1.0", "guidance = 2.0"))
    assert read_recipe(tmp_path / "lock.toml", registry=installed).sampler.settings.guidance == 2
    with pytest.raises(RecipeError, match="label_dropout = 0"):
        read_recipe(tmp_path / "lock.toml", overrides=["sampler.guidance=3"], registry=installed)
