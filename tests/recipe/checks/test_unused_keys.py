"""Keys that are written and have no effect are noted."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ddpmkit.cli import main
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import RecipeError, current_provenance, lock_text, read_recipe, reject_unused_overrides

ROOT = Path(__file__).parents[3]
LABELS = {"classes": ["cat", "dog"], "labels": True}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover(third_party=False).registry()


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"train": {"label_dropout": 0.1}}, "`label_dropout` in [train] has no effect: the network receives no labels"),
        ({"train": {"label_dropout": 0.1}, "data": LABELS}, ""),
        ({"train": {"label_dropout": 0.0}}, ""),
        (
            {"data": {"image_size": 32, "crop_margin": 1.01}},
            "`crop_margin` in [data] has no effect: it adds less than one pixel to 32; 1.04 or more adds one",
        ),
        ({"data": {"image_size": 32, "crop_margin": 1.04}}, ""),
        ({"data": {"image_size": [32, 100], "crop_margin": 1.01}}, ""),
        ({"data": {"crop_margin": 1.0}}, ""),
        ({"train": {"nonfinite_limit": 3}}, "`nonfinite_limit` in [train] has no effect: on_nonfinite"),
        ({"train": {"nonfinite_limit": 3, "on_nonfinite": "skip"}}, ""),
        ({"train": {"ema_snapshot_every": 10}}, "`ema_snapshot_every` in [train] has no effect: only averages of"),
        ({"train": {"ema_snapshot_every": 10, "ema_sigma_rels": [0.1]}}, ""),
        ({"train": {"keep_every": 10, "keep_last": 0}}, "`keep_every` in [train] has no effect: keep_last = 0"),
        ({"train": {"keep_every": 10, "checkpoint_every": 0}}, "`keep_every` in [train] has no effect: checkpoint_ev"),
        ({"train": {"keep_every": 10}}, ""),
        ({"train": {"ema_decay": 0.0}}, ""),
        (
            {"train": {"ema_decay": 0.0}, "sampler": {"weights": "ema"}},
            "`weights` in [sampler] has no effect: ema_decay = 0 stores no average",
        ),
        ({"sampler": {"use": "heun", "churn_to": 9.0}}, "`churn_to` in [sampler] has no effect: churn = 0"),
        ({"sampler": {"use": "heun", "churn_to": 9.0, "churn": 1.0}}, ""),
        *(
            (
                {"sampler": {"use": use, "clip_x0": False, "keep_eps": False}},
                "`keep_eps` in [sampler] has no effect: clip_x0",
            )
            for use in ("ddim", "dpm-solver-2m", "heun", "unipc")
        ),
        ({"sampler": {"use": "ddim", "clip_x0": True, "keep_eps": False}}, ""),
        ({"loss": {"use": "p2", "gamma": 0.0, "k": 2.0}}, "`k` in [loss] has no effect: gamma = 0"),
        (
            {"tracker": [{"use": "csv"}, {"use": "wandb", "mode": "offline", "init_timeout": 5.0}]},
            "`init_timeout` in [[tracker]] has no effect: mode",
        ),
        (
            {"requires": {"plugins": ["ddpmkit"], "sources": {"ddpmkit": ".", "acme": "./acme"}}},
            "`sources.acme` in [requires] has no effect: `plugins` does not require it",
        ),
        ({}, ""),
    ],
)
def test_a_written_key_without_effect_is_reported(recipe: dict[str, Any], expected: str, registry: Registry) -> None:
    notes = read_recipe(recipe, registry=registry).notes
    assert [expected in note for note in notes] == [True] * bool(expected)


def test_the_note_names_the_place_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text("[train]\nseed = 1\nlabel_dropout = 0.2\n")
    result = CliRunner().invoke(main, ["recipe", "check", "mine.toml", "--set", "train.keep_last=0", "--no-plugins"])
    assert result.exit_code == 0
    assert "  - mine.toml:3: `label_dropout` in [train] has no effect: the network receives no labels" in result.output


def test_every_run_of_a_sweep_is_checked(tmp_path: Path) -> None:
    recipe = tmp_path / "sweep.toml"
    recipe.write_text('[train]\nnonfinite_limit = 3\n[sweep.over]\ntrain.on_nonfinite = ["skip", "stop"]\n')
    result = CliRunner().invoke(main, ["recipe", "check", str(recipe), "--no-plugins"])
    assert "`nonfinite_limit` in [train] has no effect" in result.output


def test_keys_of_a_lock_are_not_noted(tmp_path: Path, registry: Registry) -> None:
    recipe = read_recipe({"train": {"label_dropout": 0.2}}, registry=registry)
    assert len(recipe.notes) == 1
    (tmp_path / "lock.toml").write_text(lock_text(recipe, current_provenance(recipe, "abc")))
    assert read_recipe(tmp_path / "lock.toml", registry=registry).notes == ()
    assert read_recipe(
        tmp_path / "lock.toml", overrides=["train.label_dropout=0.3"], registry=registry
    ).unused_key_notes


def test_shipped_recipes_have_no_keys_without_effect(registry: Registry) -> None:
    for file in (ROOT / "recipes").glob("*.toml"):
        if not re.search(r"^\[sweep\]", file.read_text(), flags=re.MULTILINE):
            assert read_recipe(file, registry=registry).unused_key_notes == (), file


class Breaking(ComponentConfig):
    power: float = 1.0

    def unused_keys(self) -> Iterator[tuple[str, str]]:
        raise KeyError("oops")


def test_a_config_that_fails_in_unused_keys_is_a_problem_of_its_plugin(registry: Registry) -> None:
    schedule = Component(kind="schedule", name="breaking", target="a:B", summary="", config=f"{__name__}:Breaking")
    installed = [entry for kind in registry.components for entry in registry.of_kind(kind)]
    with pytest.raises(RecipeError, match=r"the config of schedule `local/breaking` failed with KeyError: 'oops'"):
        read_recipe({"schedule": {"use": "local/breaking"}}, registry=Registry.from_components([*installed, schedule]))


@pytest.mark.parametrize(
    "override", ["train.steps=5", "train=5", "metric.0.every=1", "samplers.use=x", "sampler.count=3"]
)
def test_an_unused_override_is_an_error_that_lists_the_used_keys(override: str) -> None:
    key = override.partition("=")[0]
    hint = "-n says" if key == "sampler.count" else "it uses sampler and train.device"
    with pytest.raises(RecipeError) as caught:
        reject_unused_overrides([override], ["sampler", "train.device"], "ddpmkit sample", {"sampler.count": "-n says"})
    assert str(caught.value) == f"--set {override}: ddpmkit sample does not use `{key}`\n  - {hint}"


def test_a_used_override_is_accepted() -> None:
    reject_unused_overrides(
        ["sampler.use=ddim", "train.device=cpu", "metric=[]", "a b"], ["sampler", "train.device", "metric"], "it"
    )


def test_a_repeated_metric_is_noted(registry: Registry) -> None:
    twice = [{"use": "fd", "extractor": "a.pt"}, {"use": "fd", "extractor": "a.pt", "every": 5, "batch_size": 2}]
    other = {"use": "fd", "extractor": "a.pt", "size": 3}
    assert read_recipe({"metric": [*twice, other]}, registry=registry).notes == (
        "[[metric]] number 2 is the same evaluation as number 1 and runs only once at each step",
    )
