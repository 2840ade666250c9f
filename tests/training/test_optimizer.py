from collections.abc import Callable

import pytest
import torch
from torch import nn

from ddpmkit.contracts import ImageShape
from ddpmkit.recipe import TrainSection
from ddpmkit.runtime import seeded_build
from ddpmkit.training.optimizer import Optimizer
from ddpmkit.training.trainer import Trainer
from ddpmkit_plugins.dit import DitConfig
from ddpmkit_plugins.dit.transformer import Dit

LAST_LAYER = "final.linear.weight"


@pytest.mark.parametrize("kind", ["adam", "adamw", "muon"])
def test_every_optimizer_updates_every_weight(make_trainer: Callable[..., Trainer], kind: str) -> None:
    item = make_trainer(optimizer=kind, weight_decay=0.1)
    before = [weight.detach().clone() for weight in item.network.parameters()]
    item.train_step()
    assert not any(torch.equal(*pair) for pair in zip(before, item.network.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["adam", "adamw", "muon"])
def test_tensors_have_the_announced_shapes_and_survive_a_round_trip(
    make_trainer: Callable[..., Trainer], kind: str
) -> None:
    item, other = make_trainer(optimizer=kind), make_trainer(optimizer=kind)
    assert item.optimizer.tensors() == {}
    item.train_step()
    tensors = item.optimizer.tensors()
    assert {name: tuple(value.shape) for name, value in tensors.items()} == item.optimizer.shapes()
    other.optimizer.load(tensors)
    assert all(torch.equal(value, tensors[name]) for name, value in other.optimizer.tensors().items())
    other.optimizer.load({})
    assert other.optimizer.tensors() == {}


def large_matrices(network: nn.Module) -> set[str]:
    """The weights that earlier versions gave to Muon: those with 8 or more rows and columns."""
    return {name for name, weight in network.named_parameters() if weight.ndim >= 2 and min(weight.shape[:2]) >= 8}


def test_a_resumed_run_keeps_the_optimizer_of_each_weight() -> None:
    """Earlier versions gave DiT's last layer to Muon. A resumed run continues as one that was never stopped."""
    settings = TrainSection(steps=10, optimizer="muon", learning_rate=1e-3)

    def network() -> nn.Module:
        with seeded_build(0):
            return Dit(
                DitConfig(dim=32, depth=2, heads=2), image_shape=ImageShape(3, 32, 32), num_classes=0, out_channels=3
            )

    def step(trained: nn.Module, optimizer: Optimizer, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for weight in trained.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step(1e-3)

    straight = network()
    first = Optimizer(straight, settings)
    names = [f"{name}/{'momentum' if name in large_matrices(straight) else 'step'}" for name in first.weights]
    assert first.assign_as_before(names) == [LAST_LAYER]
    step(straight, first, 1)
    saved = {name: value.clone() for name, value in first.tensors().items()}
    resumed = network()
    resumed.load_state_dict(straight.state_dict())
    second = Optimizer(resumed, settings)
    assert set(second.muon_weights) == large_matrices(resumed) - {LAST_LAYER}
    assert second.assign_as_before(saved) == [LAST_LAYER]
    assert second.shapes() == {name: tuple(value.shape) for name, value in saved.items()}
    second.load(saved)
    assert second.assign_as_before(saved) == []
    step(straight, first, 2)
    step(resumed, second, 2)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert second.assign_as_before(["something/momentum"]) == []
