import pytest
import torch
from torch import nn

from ddpmkit.training.ema import Ema, decay_at


def test_a_constant_weight_is_approached_by_the_closed_form() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = Ema(network, decay=0.9)
    nn.init.ones_(network.weight)
    missing = 1.0
    for step in range(1, 40):
        ema.update(network, step)
        missing *= min(0.9, (1 + step) / (10 + step))
        assert ema.network.weight.item() == pytest.approx(1 - missing, rel=1e-5)


def test_the_warm_up_forgets_the_first_weights_within_a_hundred_steps() -> None:
    share_of_the_start = 1.0
    for step in range(1, 101):
        share_of_the_start *= decay_at(step, 0.9999)
    assert share_of_the_start < 1e-6


def test_buffers_are_copied_and_never_averaged() -> None:
    network = nn.BatchNorm1d(1)
    ema = Ema(network, decay=0.99)
    network.running_mean = torch.tensor([5.0])
    ema.update(network, 1)
    assert ema.network.running_mean.item() == 5.0  # type: ignore[union-attr, operator]


def test_the_average_takes_no_gradient_and_leaves_the_weights_alone() -> None:
    network = nn.Linear(2, 2)
    before = network.weight.detach().clone()
    ema = Ema(network, decay=0.99)
    ema.update(network, 1)
    assert torch.equal(network.weight, before)
    assert not any(weight.requires_grad for weight in ema.network.parameters())
