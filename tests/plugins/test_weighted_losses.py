"""min-SNR and P2, compared with the weights of diffusers and of the papers, and among the three predictions."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from ddpmkit.contracts import Loss, Prediction
from ddpmkit.diffusion import GaussianDiffusion
from ddpmkit_plugins.min_snr import MinSnrConfig
from ddpmkit_plugins.min_snr.loss import MinSnrLoss
from ddpmkit_plugins.p2 import P2Config
from ddpmkit_plugins.p2.loss import P2Loss


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_min_snr_weights_equal_the_training_example_of_diffusers(prediction: Prediction) -> None:
    scheduler = DDPMScheduler(1000)
    t = torch.arange(0, 1000, 37)
    snr = compute_snr(scheduler, t)
    theirs = torch.stack([snr, torch.full_like(snr, 5.0)]).min(dim=0)[0] / (snr + 1 if prediction == "v" else snr)
    ours = MinSnrLoss(MinSnrConfig(), prediction=prediction).weight(scheduler.alphas_cumprod[t])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_min_snr_weight_of_x0_is_the_clamped_snr() -> None:
    bar = torch.tensor([0.25, 0.5, 0.8, 0.9, 0.999])
    weight = MinSnrLoss(MinSnrConfig(gamma=4), prediction="x0").weight(bar)
    assert weight.tolist() == pytest.approx([1 / 3, 1, 4, 4, 4], rel=1e-5)


def test_the_p2_weight_of_eps_equals_eq_8() -> None:
    bar = torch.tensor([0.25, 0.5, 0.8])
    assert P2Loss(P2Config(), prediction="epsilon").weight(bar).tolist() == pytest.approx([3 / 4, 1 / 2, 1 / 5])
    halved = P2Loss(P2Config(gamma=0.5, k=2.0), prediction="epsilon").weight(bar)
    assert halved.tolist() == pytest.approx([(2 + 1 / 3) ** -0.5, 3**-0.5, 6**-0.5])
    assert P2Loss(P2Config(gamma=0), prediction="epsilon").weight(bar).tolist() == [1, 1, 1]


def test_weights_are_accurate_if_alpha_bar_rounds_to_1_in_float32() -> None:
    """If sigma is 1e-4, the SNR is 1e8: the weight of P2 for x0 is 1e8 / (1 + 1e8), of min-SNR for eps 5 / 1e8."""
    bar = torch.tensor([1 / (1 + 1e-8)], dtype=torch.float64)
    assert bar.float().item() == 1
    assert P2Loss(P2Config(), prediction="x0").weight(bar).item() == pytest.approx(1 - 1e-8, rel=1e-9)
    assert P2Loss(P2Config(), prediction="epsilon").weight(bar).item() == pytest.approx(1 / (1 + 1e8), rel=1e-6)
    assert MinSnrLoss(MinSnrConfig(), prediction="epsilon").weight(bar).item() == pytest.approx(5e-8, rel=1e-6)
    assert MinSnrLoss(MinSnrConfig(), prediction="v").weight(bar).item() == pytest.approx(5e-8, rel=1e-6)


@pytest.mark.parametrize("kind", ["min-snr", "p2"])
def test_an_error_has_the_same_loss_for_every_prediction(kind: str) -> None:
    """The same estimate of x0 at one x_t, as eps, x0 and v."""

    def loss(prediction: Prediction) -> Loss:
        if kind == "p2":
            return P2Loss(P2Config(), prediction=prediction)
        return MinSnrLoss(MinSnrConfig(), prediction=prediction)

    bar = torch.linspace(0.95, 0.05, 7, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x0, estimate, noise = torch.randn(3, 7, 3, 4, 4, generator=generator, dtype=torch.float64)
    t = torch.arange(7)
    found: list[Tensor] = []
    for prediction in ("epsilon", "x0", "v"):
        process = GaussianDiffusion(bar, prediction).double()  # type: ignore[arg-type]
        x_t = process.q_sample(x0, t, noise)
        signal, sigma = (values[:, None, None, None] for values in (bar.sqrt(), (1 - bar).sqrt()))
        estimated_noise = (x_t - signal * estimate) / sigma
        predicted = process.target(estimate, t, estimated_noise)
        found.append(loss(prediction)(predicted, process.target(x0, t, noise), bar))  # type: ignore[arg-type]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found[2], found[1], rtol=1e-5, atol=1e-9)
