"""Class conditioning, from the recipe to the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import ddpmkit
from ddpmkit.cli import main
from ddpmkit.errors import InputError

DATA = {
    **{"use": "critters", "image_size": 8, "size": 8, "val_size": 4},
    **{"classes": ["cat", "wild"], "labels": True},
}


@pytest.fixture
def run(tmp_path: Path, small: Callable[..., dict[str, Any]]) -> ddpmkit.Run:
    recipe = small(data=DATA, train={"steps": 30, "learning_rate": 1e-2})
    return ddpmkit.run(recipe, tmp_path / "run")


def test_images_of_a_class_are_those_of_this_class_in_a_grid(run: ddpmkit.Run) -> None:
    mixed, cats, wild = (run.sample(6, class_name=name) for name in (None, "cat", "wild"))
    assert torch.equal(mixed[::2], cats[::2])
    assert torch.equal(mixed[1::2], wild[1::2])
    assert not torch.equal(cats, wild)


def test_guidance_is_chosen_at_sampling(run: ddpmkit.Run) -> None:
    plain = run.sample(2)
    guided = ddpmkit.load(run.folder.path, overrides=["sampler.guidance=4"]).sample(2)
    same = ddpmkit.load(run.folder.path, overrides=["sampler.guidance=1"]).sample(2)
    assert torch.equal(plain, same)
    assert not torch.equal(plain, guided)


def test_a_conditional_run_resumes_and_validates_with_labels(
    run: ddpmkit.Run, tmp_path: Path, small: Callable[..., dict[str, Any]]
) -> None:
    recipe = small(data=DATA, train={"steps": 30, "learning_rate": 1e-2})
    stopped = ddpmkit.run({**recipe, "train": {**recipe["train"], "steps": 12}}, tmp_path / "other")
    assert stopped.step == 12
    again = ddpmkit.run(recipe, tmp_path / "other")
    assert torch.equal(again.sample(3), run.sample(3))
    assert '"validation_loss"' in (tmp_path / "other" / "metrics.jsonl").read_text()


def test_an_unknown_class_is_rejected_with_the_known_ones(run: ddpmkit.Run) -> None:
    with pytest.raises(InputError, match="this run has no class 'dog'") as caught:
        run.sample(1, class_name="dog")
    assert "one of cat, wild" in str(caught.value)


def test_the_sample_command_generates_one_class(run: ddpmkit.Run, tmp_path: Path) -> None:
    out = tmp_path / "wild.png"
    result = CliRunner().invoke(main, ["sample", str(run.folder.path), "-n", "2", "--class", "wild", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.exists()


def test_a_run_without_labels_rejects_a_class(tmp_path: Path, small: Callable[..., dict[str, Any]]) -> None:
    plain = ddpmkit.run(small(train={"steps": 1}), tmp_path / "plain")
    with pytest.raises(InputError, match="does not support class conditioning"):
        plain.sample(1, class_name="cat")
