"""What the network is told of the classes, and that it is asked with it."""

import math

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.plugin import ComponentConfig
from ddpmkit.runtime import Runtime
from ddpmkit.training.objective import Objective
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.l2.loss import L2Loss

CPU = Runtime(torch.device("cpu"), torch.float32)


def objective(num_classes: int = 3, label_dropout: float = 0.25) -> Objective:
    process = GaussianDiffusion.from_schedule(CosineSchedule(CosineConfig(), timesteps=50))
    loss = L2Loss(ComponentConfig(), prediction="epsilon")
    return Objective(process, loss, num_classes=num_classes, label_dropout=label_dropout)


def test_without_classes_the_network_is_told_nothing() -> None:
    assert objective(num_classes=0).told(0, 0, range(4), torch.arange(4)) is None


def test_labels_are_dropped_at_the_rate_of_the_recipe_and_else_kept() -> None:
    label = torch.arange(4000) % 3
    told = objective().told(7, 2, range(4000), label)
    assert told is not None
    dropped = told == 3
    assert torch.equal(told[~dropped], label[~dropped])
    # Three standard deviations of a binomial count.
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=3 * math.sqrt(0.25 * 0.75 / 4000))
    none_dropped = objective(label_dropout=0.0).told(7, 2, range(4000), label)
    assert none_dropped is not None
    assert torch.equal(none_dropped, label)


def test_whose_label_is_dropped_depends_on_seed_step_and_place_alone() -> None:
    label = torch.arange(64) % 3
    whole, part = objective().told(7, 2, range(64), label), objective().told(7, 2, range(16, 32), label[16:32])
    other = objective().told(7, 3, range(64), label)
    assert whole is not None
    assert part is not None
    assert other is not None
    assert torch.equal(whole[16:32], part)
    assert not torch.equal(whole, other)


def test_the_network_is_asked_with_the_label() -> None:
    class Asked(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            assert label is not None
            return label[:, None, None, None] + torch.zeros_like(x)

    x0 = torch.zeros(3, 3, 8, 8)
    losses = objective().losses(Asked(), x0, torch.arange(3), torch.zeros_like(x0), torch.tensor([0, 1, 3]), CPU)
    assert losses.tolist() == [0, 1, 9]
