"""What the network receives in training, and its losses."""

import math

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.contracts import Prediction
from ddpmkit.data.images import Batch
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit.plugin import ComponentConfig
from ddpmkit.runtime import Runtime
from ddpmkit.training.objective import BatchKey, NoisedBatch, Objective
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule
from ddpmkit_plugins.edm import EdmConfig
from ddpmkit_plugins.edm.schedule import EdmSchedule
from ddpmkit_plugins.l2.loss import L2Loss
from ddpmkit_plugins.p2 import P2Config
from ddpmkit_plugins.p2.loss import P2Loss

CPU = Runtime(torch.device("cpu"), torch.float32)


def objective(num_classes: int = 3, label_dropout: float = 0.25, offset_noise: float = 0.0) -> Objective:
    process = GaussianDiffusion.from_schedule(CosineSchedule(CosineConfig(), timesteps=50))
    loss = L2Loss(ComponentConfig(), prediction="epsilon")
    return Objective(process, loss, CPU, offset_noise, num_classes=num_classes, label_dropout=label_dropout)


def labels(item: Objective, label: Tensor, seed: int = 7, step: int = 2, start: int = 0) -> Tensor:
    found = item.drop_labels(label, BatchKey(seed, step, torch.arange(start, start + len(label))))
    assert found is not None
    return found


def test_without_classes_the_network_gets_no_labels() -> None:
    assert objective(num_classes=0).drop_labels(torch.arange(4), BatchKey(0, 0, torch.arange(4))) is None


def test_labels_are_dropped_at_the_rate_of_the_recipe() -> None:
    label = torch.arange(4000) % 3
    found = labels(objective(), label)
    dropped = found == 3
    assert torch.equal(found[~dropped], label[~dropped])
    # Three standard deviations of a binomial count.
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=3 * math.sqrt(0.25 * 0.75 / 4000))
    assert torch.equal(labels(objective(label_dropout=0.0), label), label)


def test_dropped_labels_depend_on_seed_step_and_position_alone() -> None:
    label = torch.arange(64) % 3
    whole = labels(objective(), label)
    assert torch.equal(whole[16:32], labels(objective(), label[16:32], start=16))
    assert not torch.equal(whole, labels(objective(), label, step=3))


def test_offset_noise_is_shared_by_all_pixels_of_a_channel() -> None:
    plain, offset = (objective(offset_noise=share) for share in (0.0, 0.5))
    key = BatchKey(3, 2, torch.arange(400))
    added = offset.sample_noise(key, (3, 8, 8)) - plain.sample_noise(key, (3, 8, 8))
    shared = added[:, :, :1, :1]
    torch.testing.assert_close(added, shared.expand_as(added), rtol=0, atol=1e-6)
    assert shared.std().item() == pytest.approx(0.5, rel=0.05)
    one = offset.sample_noise(key._replace(positions=torch.arange(7, 8)), (3, 8, 8))
    torch.testing.assert_close(one, offset.sample_noise(key, (3, 8, 8))[7:8], rtol=0, atol=0)


def test_training_losses_are_those_of_the_noised_batch() -> None:
    item, key, network = objective(), BatchKey(7, 2, torch.arange(4)), nn.Conv2d(3, 3, 1)
    called = nn.Module()
    called.forward = lambda x, t, label: network(x)  # type: ignore[method-assign, assignment]
    batch = Batch(torch.rand(4, 3, 8, 8) * 2 - 1, torch.tensor([0, 1, 2, 0]), torch.arange(4))
    noised = item.noise_batch(batch, key)
    assert torch.equal(noised.noise, item.sample_noise(key, (3, 8, 8)))
    assert noised.label is not None
    assert torch.equal(noised.label, labels(item, batch.label))
    phases: list[str] = []

    class Phase:
        def __init__(self, name: str) -> None:
            phases.append(name)

        def __enter__(self) -> None: ...

        def __exit__(self, *_error: object) -> None: ...

    found = item.training_losses(called, batch, key, Phase)
    assert torch.equal(found.losses, item.losses(called, noised))
    assert torch.equal(found.t, noised.t)
    assert phases == ["data and noise", "forward"]


@pytest.mark.parametrize("sigma_min", [1e-4, 2e-6])
@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_a_loss_weighted_by_snr_is_right_at_noise_levels_below_float32(
    sigma_min: float, prediction: Prediction
) -> None:
    """The error of eps times 1 / (1 + SNR), and SNR is 1 / sigma^2 at the first step of EDM."""
    schedule = EdmSchedule(EdmConfig(sigma_min=sigma_min), timesteps=1000)
    process = GaussianDiffusion.from_schedule(schedule, prediction)
    item = Objective(process, P2Loss(P2Config(), prediction=prediction), CPU)
    x0, eps = torch.rand(2, 3, 8, 8) * 2 - 1, torch.randn(2, 3, 8, 8)
    t = torch.zeros(2, dtype=torch.int64)
    wrong = process.target(x0, t, eps) + 0.5

    class Wrong(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            return wrong

    losses = item.losses(Wrong(), NoisedBatch(x0, t, eps))
    # An error of v is 1 / alpha of one of eps, that of x0 alpha / sigma of it.
    of_eps = {"epsilon": 0.5, "v": 0.5, "x0": 0.5 / sigma_min}[prediction]
    expected = of_eps**2 / (1 + sigma_min**-2)
    assert losses.dtype == torch.float32
    assert losses.tolist() == pytest.approx([expected] * 2, rel=1e-3)


def test_the_network_receives_the_labels() -> None:
    class LabelAsOutput(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            assert label is not None
            return label[:, None, None, None] + torch.zeros_like(x)

    x0 = torch.zeros(3, 3, 8, 8)
    batch = NoisedBatch(x0, torch.arange(3), torch.zeros_like(x0), torch.tensor([0, 1, 3]))
    assert objective().losses(LabelAsOutput(), batch).tolist() == [0, 1, 9]


class Conditioned(nn.Module):
    """eps as a weighted sum of x and the estimate that follows it in the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.7, 0.4]))
        self.given: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        first, second = x.chunk(2, dim=1)
        self.given.append(second.detach().clone())
        return self.weights[0] * first + self.weights[1] * second


def self_conditioned(runtime: Runtime = CPU) -> Objective:
    schedule = CosineSchedule(CosineConfig(), timesteps=50)
    process = GaussianDiffusion.from_schedule(schedule, self_conditioning=True)
    return Objective(process, L2Loss(ComponentConfig(), prediction="epsilon"), runtime)


def test_under_self_conditioning_the_network_receives_its_own_estimate() -> None:
    """Chen et al. (2022), algorithm 1, written out for eps."""
    generator, t = torch.Generator().manual_seed(0), torch.tensor([3, 20, 49])
    x0, noise = (torch.randn(3, 2, 8, 8, generator=generator).clamp(-1, 1) for _ in range(2))
    item, network = self_conditioned(), Conditioned()
    losses = item.losses(network, NoisedBatch(x0, t, noise, self_condition=True))
    losses.sum().backward()  # type: ignore[no-untyped-call]

    alpha_bar = item.process.alpha_bar[t][:, None, None, None]
    x = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
    estimate = ((x - (1 - alpha_bar).sqrt() * 0.7 * x) / alpha_bar.sqrt()).clamp(-1, 1)
    weights = torch.tensor([0.7, 0.4], requires_grad=True)
    expected = (weights[0] * x + weights[1] * estimate - noise).square().mean(dim=(1, 2, 3))
    expected.sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(network.weights.grad, weights.grad)
    torch.testing.assert_close(network.given[0], torch.zeros_like(x0))
    torch.testing.assert_close(network.given[1], estimate)

    item.losses(network, NoisedBatch(x0, t, noise))
    assert not network.given[-1].any()


def test_half_of_the_steps_have_an_estimate_under_self_conditioning_and_no_step_without() -> None:
    chosen = [self_conditioned().conditions_on_estimate(7, step) for step in range(4000)]
    assert sum(chosen) / 4000 == pytest.approx(0.5, abs=3 * math.sqrt(0.25 / 4000))
    assert chosen[:64] == [self_conditioned().conditions_on_estimate(7, step) for step in range(64)]
    assert chosen[:64] != [self_conditioned().conditions_on_estimate(8, step) for step in range(64)]
    assert not any(objective().conditions_on_estimate(7, step) for step in range(64))


def test_weights_are_trained_after_an_estimate_in_bfloat16_too() -> None:
    """Weights that autocast stores without a gradient must not serve the pass that needs one."""
    network = nn.Conv2d(4, 2, 3, padding=1)
    called = nn.Module()
    called.forward = lambda x, t, label: network(x)  # type: ignore[method-assign, assignment]
    x0 = torch.zeros(3, 2, 8, 8)
    item = self_conditioned(Runtime(torch.device("cpu"), torch.bfloat16))
    losses = item.losses(called, NoisedBatch(x0, torch.arange(3), torch.ones_like(x0), self_condition=True))
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert network.weight.grad is not None
    assert network.weight.grad.any()
