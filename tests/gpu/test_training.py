"""Training on a device: repeatable, equal to its eager steps, and near to the CPU and to bfloat16."""

import hashlib
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import ddpmkit
from ddpmkit.runtime import choose_runtime
from ddpmkit.training.state import state_tensors
from ddpmkit.training.trainer import StepOutcome, Trainer

pytestmark = pytest.mark.gpu

Recipe = Callable[..., dict[str, Any]]
MakeTrainer = Callable[..., Trainer]

LABELS = {"data": {"labels": True, "classes": ["cat", "dog"]}, "train": {"label_dropout": 0.3}}
AVERAGES = {"train": {"ema_decays": [0.9], "ema_sigma_rels": [0.1]}}
DROPOUT = {
    "backbone": {
        **{"use": "adm-unet", "dim": 8, "multipliers": [1, 2], "attention_levels": [1], "head_dim": 8, "groups": 4},
        **{"dropout": 0.2},
    }
}
EVERYTHING = {
    **LABELS,
    **DROPOUT,
    "diffusion": {"self_conditioning": True, "offset_noise": 0.1},
    "train": {**LABELS["train"], **AVERAGES["train"], "accumulate": 2},
}
OPTIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "plain": {},
    "accumulate": {"train": {"accumulate": 2}},
    "self-conditioning": {"diffusion": {"self_conditioning": True}},
    "label dropout": LABELS,
    "dropout": DROPOUT,
    "averages": AVERAGES,
    "everything": EVERYTHING,
}
# All options together with each optimizer, and each option alone, so that a failure names the option.
CASES = [
    *itertools.product(["adam", "adamw", "muon"], ["plain", "everything"], [200]),
    *itertools.product(["muon"], [name for name in OPTIONS if name not in ("plain", "everything")], [40]),
]


def with_train(sections: Mapping[str, Mapping[str, Any]], **train: Any) -> dict[str, Any]:
    return {**sections, "train": {**sections.get("train", {}), **train}}


def outcomes(trainer: Trainer, steps: int) -> list[StepOutcome]:
    found = []
    with trainer.objective.runtime.settings():
        for _ in range(steps):
            trainer.train_step()
            outcome = trainer.settle()
            assert outcome is not None
            found.append(outcome)
    return found


def digest(trainer: Trainer) -> dict[str, str]:
    """Return a digest of the bits of each tensor of the state."""
    return {
        f"{part}: {name}": hashlib.sha256(value.cpu().contiguous().flatten().view(torch.uint8).numpy()).hexdigest()
        for part, tensors in state_tensors(trainer).items()
        for name, value in tensors.items()
    }


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("mode", ["default", "deterministic"])
def test_a_run_repeats_bit_for_bit(
    small: Recipe, tmp_path: Path, request: pytest.FixtureRequest, mode: str, precision: str
) -> None:
    """Torch's deterministic algorithms are not needed, and change nothing."""
    if mode == "deterministic":
        request.getfixturevalue("deterministic")
    recipe = small(train={"steps": 60, "optimizer": "muon", "precision": precision, "checkpoint_every": 20})
    runs = [ddpmkit.run(recipe, tmp_path / name) for name in ("first", "second")]
    parts = [{part: run.checkpoint.tensors(part) for part in ("model", "ema", "optimizer")} for run in runs]
    for part, tensors in parts[0].items():
        assert tensors.keys() == parts[1][part].keys()
        for name, value in tensors.items():
            assert torch.equal(value, parts[1][part][name]), f"{part}: {name}"
    assert torch.equal(runs[0].sample(4), runs[1].sample(4))


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(("optimizer", "options", "steps"), CASES)
def test_steps_replayed_from_a_graph_equal_eager_ones_bit_for_bit(
    small: Recipe, make_trainer: MakeTrainer, optimizer: str, options: str, steps: int
) -> None:
    recipe = small(**with_train(OPTIONS[options], optimizer=optimizer, warmup_steps=10))
    refusals: list[Exception] = []
    eager = make_trainer(recipe, capture=False)
    captured = make_trainer(recipe, capture=True, refused=refusals.append)
    expected = outcomes(eager, steps)
    assert outcomes(captured, steps) == expected
    assert refusals == []
    assert digest(captured) == digest(eager)
    assert expected[-1].loss != expected[0].loss


def test_float32_losses_are_those_of_the_cpu(small: Recipe, make_trainer: MakeTrainer) -> None:
    recipe = small()
    found = outcomes(make_trainer(recipe), 20)
    expected = outcomes(make_trainer({**recipe, "train": {**recipe["train"], "device": "cpu"}}), 20)
    for step, (one, two) in enumerate(zip(found, expected, strict=True), 1):
        assert one.loss == pytest.approx(two.loss, rel=1e-4), step
        assert one.learning_rate == two.learning_rate


def test_tf32_is_used_only_if_it_is_allowed(device: torch.device) -> None:
    """The product of TF32 has an error of about 2e-4 for these matrices, that of float32 one of 2e-7."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    expected = a.double() @ b.double()
    errors = {}
    for allowed in (False, True):
        with choose_runtime(str(device), "float32", tf32=allowed).settings():
            product = (a.to(device) @ b.to(device)).cpu()
        errors[allowed] = float((product - expected).norm() / expected.norm())
    assert errors[False] < 2e-6
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        assert 2e-5 < errors[True] < 2e-3


def test_bfloat16_losses_are_near_those_of_float32(small: Recipe, make_trainer: MakeTrainer) -> None:
    losses = {
        precision: outcomes(make_trainer(small(train={"precision": precision})), 40)
        for precision in ("float32", "bfloat16")
    }
    for one, two in zip(losses["bfloat16"], losses["float32"], strict=True):
        assert one.loss == pytest.approx(two.loss, rel=0.05)
    assert losses["bfloat16"] != losses["float32"]


def test_a_step_that_is_not_finite_leaves_the_weights_alone(small: Recipe, make_trainer: MakeTrainer) -> None:
    """On a GPU, the step is a replay that cannot ask the host. One huge weight makes its loss infinite."""
    trainer = make_trainer(small(loss={"use": "l2"}, train={"on_nonfinite": "skip", "nonfinite_limit": 3}))
    outcomes(trainer, 6)
    before = digest(trainer)
    *_, weight = trainer.network.parameters()
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(1e30)
    with trainer.objective.runtime.settings():
        trainer.train_step()
        assert trainer.settle() is None
    with torch.no_grad():
        assert (weight == 1e30).all()
        weight.copy_(kept)
    after = digest(trainer)
    assert {name for name in before if before[name] != after[name]} == {"progress: skipped"}
    assert trainer.skipped == 1
    outcomes(trainer, 1)
    assert trainer.skipped == 0
