"""`train.keep_best`, and metrics that are given twice, as far as a recipe alone can tell."""

from typing import Any

import pytest

from ddpmkit.plugin import Component
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError, current_provenance, lock_text, read_lock, read_recipe
from ddpmkit.recipe.cross_checks import declared_scores


@pytest.fixture(scope="module")
def registry() -> Registry:
    installed = [entry for entries in discover().registry().components.values() for entry in entries.values()]
    silent = Component(kind="metric", name="silent", target="nowhere:Nothing", summary="declares no scores")
    return Registry.from_components([*installed, silent])


def recipe(keep_best: str, *metrics: dict[str, Any]) -> dict[str, Any]:
    return {"train": {"keep_best": keep_best}, "metric": list(metrics)}


def test_the_names_of_scores_are_among_the_capabilities() -> None:
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
def test_a_score_that_cannot_choose_a_checkpoint_is_refused_before_training(
    registry: Registry, keep_best: str, metrics: tuple[dict[str, Any], ...], complaint: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(recipe(keep_best, *metrics), registry=registry)
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
def test_a_score_that_may_choose_one_is_accepted(
    registry: Registry, keep_best: str, metrics: tuple[dict[str, Any], ...]
) -> None:
    assert read_recipe(recipe(keep_best, *metrics), registry=registry).train.keep_best == keep_best


def test_a_run_that_was_made_with_such_a_value_can_still_be_opened(registry: Registry, tmp_path: Any) -> None:
    good = read_recipe(recipe("fid", {"use": "clean-fid"}), registry=registry)
    text = lock_text(good, current_provenance(good, "a fingerprint")).replace('keep_best = "fid"', 'keep_best = "typo"')
    (tmp_path / "recipe.lock.toml").write_text(text)
    assert read_lock(tmp_path / "recipe.lock.toml", registry).recipe.train.keep_best == "typo"


def test_a_metric_that_is_the_same_evaluation_as_another_is_noted(registry: Registry) -> None:
    twice = [{"use": "fd", "extractor": "a.pt"}, {"use": "fd", "extractor": "a.pt", "every": 5, "batch_size": 2}]
    other = {"use": "fd", "extractor": "a.pt", "size": 3}
    assert read_recipe(recipe("", *twice, other), registry=registry).notes == (
        "[[metric]] number 2 is the same evaluation as number 1 and runs only once at each step",
    )
