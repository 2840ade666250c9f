import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ddpmkit.contracts import Prediction
from ddpmkit.diffusion import Denoiser, GaussianDiffusion, Guidance, KnownPixels

Make = Callable[..., Tensor]
MakeProcess = Callable[..., GaussianDiffusion]
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "x0", "v")


def test_the_network_receives_one_t_and_one_label_per_image(process: MakeProcess, noise: Make) -> None:
    received = []

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        received.append((t.tolist(), label))
        return torch.zeros_like(x, dtype=torch.bfloat16)

    label = torch.tensor([1, 2])
    found = Denoiser(network, process(), label)(noise(2), 7)
    assert received == [([7, 7], label)]
    assert found.x0.dtype == found.eps.dtype == torch.float32


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guidance_extrapolates_eps_for_every_prediction(
    process: MakeProcess, prediction: Prediction, scale: float
) -> None:
    """Ho & Salimans (2022), eq. 6: (1 + w) eps(z, c) - w eps(z), with scale = 1 + w."""

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        return torch.sin(x + label[:, None, None, None] + 0.1 * t[:, None, None, None])

    diffusion = process(prediction=prediction)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    label, null_label = torch.tensor([0, 2]), torch.tensor([3, 3])
    conditional, unconditional = (Denoiser(network, diffusion, each)(x, 20).eps for each in (label, null_label))
    guided = Denoiser(network, diffusion, label, Guidance(scale, null_label=3))(x, 20)
    expected = scale * conditional - (scale - 1) * unconditional
    torch.testing.assert_close(guided.eps, expected, rtol=1e-4, atol=1e-4)
    signal = math.sqrt(diffusion.alpha_bar_at(20))
    sigma = math.sqrt(1 - diffusion.alpha_bar_at(20))
    torch.testing.assert_close(signal * guided.x0 + sigma * guided.eps, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("scale", "expected"), [(0.0, -0.8), (0.5, -0.05), (1.0, 0.7), (4.0, 0.7)])
def test_guidance_does_not_extrapolate_a_learned_variance(
    process: MakeProcess, noise: Make, scale: float, expected: float
) -> None:
    """Peebles & Xie (2023): the guided eps goes with the conditional variance. Extrapolated by 4 it would be 5.2."""

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        spread = torch.where(label == 3, -0.8, 0.7)[:, None, None, None].expand_as(x)
        return torch.cat([torch.sin(x + label[:, None, None, None]), spread], dim=1)

    x, label = noise(2), torch.tensor([0, 2])
    guided = Denoiser(network, process(), label, Guidance(scale, null_label=3))(x, 20)
    assert guided.spread is not None
    torch.testing.assert_close(guided.spread, torch.full_like(x, expected))
    eps = torch.lerp(torch.sin(x + 3), torch.sin(x + label[:, None, None, None]), scale)
    torch.testing.assert_close(guided.eps, eps)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("keep_eps", [True, False])
def test_eps_follows_a_clamped_x0_unless_it_is_kept(
    process: MakeProcess, noise: Make, prediction: Prediction, keep_eps: bool
) -> None:
    denoiser = Denoiser(lambda x, t, label: 3 * torch.sin(x), process(prediction=prediction))
    x = noise()
    plain, found = denoiser(x, 20), denoiser(x, 20, clip_x0=True, keep_eps=keep_eps)
    outside = plain.x0.abs() > 1
    assert 0 < outside.sum() < outside.numel()
    assert torch.equal(found.x0, plain.x0.clamp(-1, 1))
    assert torch.equal(found.eps[~outside], plain.eps[~outside])
    composed = denoiser.process.composed(found.x0, found.eps, 20)
    if keep_eps:
        assert torch.equal(found.eps, plain.eps)
        assert not torch.isclose(composed[outside], x[outside], rtol=0, atol=1e-4).any()
    else:
        torch.testing.assert_close(composed, x)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_known_pixels_replace_the_estimates_of_the_network(
    process: MakeProcess, images: Make, noise: Make, prediction: Prediction
) -> None:
    diffusion = process(prediction=prediction)
    image, x = images(1)[0], noise()
    where = torch.zeros(8, 8, dtype=torch.bool)
    where[2:5] = True

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return torch.cat([x.sin(), x.cos()], dim=1)

    plain = Denoiser(network, diffusion)(x, 20)
    found = Denoiser(network, diffusion, known=KnownPixels(image, where))(x, 20)
    assert torch.equal(found.x0[:, :, where], image[:, where].expand(4, -1, -1))
    for name in ("x0", "eps", "spread"):
        assert torch.equal(getattr(found, name)[:, :, ~where], getattr(plain, name)[:, :, ~where])
    bar = diffusion.alpha_bar_at(20)
    torch.testing.assert_close(math.sqrt(bar) * found.x0 + math.sqrt(1 - bar) * found.eps, x)
    assert found.spread is not None
    assert (found.spread[:, :, where] == -1).all()


def test_a_truncated_denoiser_makes_the_same_estimates(process: MakeProcess, images: Make, noise: Make) -> None:
    received = []

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        received.append((t.tolist(), None if label is None else label.tolist()))
        return x

    known = KnownPixels(images(1)[0], torch.ones(8, 8, dtype=torch.bool))
    full = Denoiser(network, process(), torch.tensor([1, 0]), Guidance(2.0, null_label=3), known)
    first, x = full.truncated(20), noise(2)
    assert first.process.timesteps == 20
    assert torch.equal(first(x, 19).eps, full(x, 19).eps)
    assert received[0] == received[1] == ([19] * 4, [1, 0, 3, 3])
