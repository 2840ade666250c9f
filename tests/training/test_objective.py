"""What the network is told of the classes, and that it is asked with it."""

import math

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.contracts import Prediction
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.plugin import ComponentConfig
from ddpmkit.runtime import Runtime
from ddpmkit.training.objective import Objective
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.edm import EdmConfig
from ddpmkit_plugins.edm.schedule import EdmSchedule
from ddpmkit_plugins.l2.loss import L2Loss
from ddpmkit_plugins.p2 import P2Config
from ddpmkit_plugins.p2.loss import P2Loss

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


@pytest.mark.parametrize("sigma_min", [1e-4, 2e-6])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_a_loss_by_snr_is_right_where_float32_has_no_noise_left(sigma_min: float, prediction: Prediction) -> None:
    """The error of eps times 1 / (1 + SNR), and SNR is 1 / sigma^2 at the first step of EDM."""
    schedule = EdmSchedule(EdmConfig(sigma_min=sigma_min), timesteps=1000)
    process = GaussianDiffusion.from_schedule(schedule, prediction)
    trained = Objective(process, P2Loss(P2Config(), prediction=prediction))
    x0, eps = torch.rand(2, 3, 8, 8) * 2 - 1, torch.randn(2, 3, 8, 8)
    t = torch.zeros(2, dtype=torch.int64)
    wrong = process.target(x0, t, eps) + 0.5

    class Wrong(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            return wrong

    losses = trained.losses(Wrong(), x0, t, eps, None, CPU)
    # An error of v is 1 / alpha of one of eps, that of x0 alpha / sigma of it.
    of_eps = {"epsilon": 0.5, "v": 0.5, "x0": 0.5 / sigma_min}[prediction]
    expected = of_eps**2 / (1 + sigma_min**-2)
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx([expected] * 2, rel=1e-3)


def test_the_network_is_asked_with_the_label() -> None:
    class Asked(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            assert label is not None
            return label[:, None, None, None] + torch.zeros_like(x)

    x0 = torch.zeros(3, 3, 8, 8)
    losses = objective().losses(Asked(), x0, torch.arange(3), torch.zeros_like(x0), torch.tensor([0, 1, 3]), CPU)
    assert losses.tolist() == [0, 1, 9]


class Conditioned(nn.Module):
    """eps as a weighted sum of x and what lies behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.7, 0.4]))
        self.given: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        first, second = x.chunk(2, dim=1)
        self.given.append(second.detach().clone())
        return self.weights[0] * first + self.weights[1] * second


def self_conditioned() -> Objective:
    schedule = CosineSchedule(CosineConfig(), timesteps=50)
    process = GaussianDiffusion.from_schedule(schedule, self_conditioning=True)
    return Objective(process, L2Loss(ComponentConfig(), prediction="epsilon"))


def test_the_network_learns_with_its_own_estimate_beside_x() -> None:
    """Chen et al. (2022), algorithm 1, written out for eps."""
    draw, t = torch.Generator().manual_seed(0), torch.tensor([3, 20, 49])
    x0, noise = (torch.randn(3, 2, 8, 8, generator=draw).clamp(-1, 1) for _ in range(2))
    asked, network = self_conditioned(), Conditioned()
    losses = asked.losses(network, x0, t, noise, None, CPU, estimate_first=True)
    losses.sum().backward()  # type: ignore[no-untyped-call]

    bar = asked.process.alpha_bar[t][:, None, None, None]
    x = bar.sqrt() * x0 + (1 - bar).sqrt() * noise
    estimate = ((x - (1 - bar).sqrt() * 0.7 * x) / bar.sqrt()).clamp(-1, 1)
    weights = torch.tensor([0.7, 0.4], requires_grad=True)
    expected = (weights[0] * x + weights[1] * estimate - noise).square().mean(dim=(1, 2, 3))
    expected.sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(network.weights.grad, weights.grad)
    torch.testing.assert_close(network.given[0], torch.zeros_like(x0))
    torch.testing.assert_close(network.given[1], estimate)

    asked.losses(network, x0, t, noise, None, CPU)
    assert not network.given[-1].any()


def test_half_of_the_steps_have_an_estimate_and_none_without_self_conditioning() -> None:
    asked = self_conditioned()
    chosen = [asked.estimates_first(7, step) for step in range(4000)]
    assert sum(chosen) / 4000 == pytest.approx(0.5, abs=3 * math.sqrt(0.25 / 4000))
    assert chosen[:64] == [self_conditioned().estimates_first(7, step) for step in range(64)]
    assert chosen[:64] != [asked.estimates_first(8, step) for step in range(64)]
    assert not any(objective().estimates_first(7, step) for step in range(64))


def test_weights_learn_after_an_estimate_in_bfloat16_too() -> None:
    """What autocast keeps of the weights without a gradient must not serve the pass that has one."""
    network = nn.Conv2d(4, 2, 3, padding=1)
    called = nn.Module()
    called.forward = lambda x, t, label: network(x)  # type: ignore[method-assign, assignment]
    x0 = torch.zeros(3, 2, 8, 8)
    runtime = Runtime(torch.device("cpu"), torch.bfloat16)
    losses = self_conditioned().losses(
        called, x0, torch.arange(3), torch.ones_like(x0), None, runtime, estimate_first=True
    )
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert network.weight.grad is not None
    assert network.weight.grad.any()
