"""The Gaussian diffusion process: coefficients, the forward process, conversions between eps, x0 and v, one step back.

Notation of Ho et al. (2020), "Denoising Diffusion Probabilistic Models" (https://arxiv.org/abs/2006.11239); arrays are
indexed from 0, so index t here is the paper's t + 1. This module does not know which schedule made the coefficients,
which network predicts, or how a sampler walks.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddpmkit.contracts import Prediction, Schedule
from ddpmkit.errors import InputError, WrongAnswer

__all__ = [
    "Denoised",
    "Denoiser",
    "GaussianDiffusion",
    "Guidance",
    "Known",
    "Posterior",
    "check_alphas_cumprod",
    "with_zero_terminal_snr",
]


class Denoised(NamedTuple):
    """The two estimates at (x, t), of one shape [B, C, H, W], and what a network with learned variance says of it."""

    x0: Tensor
    """The clean image, not clamped."""
    eps: Tensor
    """The noise in x."""
    spread: Tensor | None = None
    """-1: the next step has the variance of the posterior; 1: that of the noising step, beta; logarithmic between."""


class Posterior(NamedTuple):
    """q(x_s | x_t, x0) for s < t."""

    mean: Tensor
    """[B, C, H, W]."""
    variance: float
    """The same for every pixel."""


class GaussianDiffusion(nn.Module):
    """The process that a schedule describes, with its coefficients as float32 buffers computed in float64.

    The buffers, each [T]: `alpha_t`, `beta` (1 - alpha_t), `alpha_bar`, `sqrt_alpha_bar`, `sqrt_one_minus_alpha_bar`,
    `posterior_variance`, `log_snr` (natural logarithm of alpha_bar / (1 - alpha_bar); -inf where alpha_bar is 0), and
    those of `posterior_mean` and `learned_log_variance`. Nothing may be subtracted from 1 in float32: alpha_t and
    alpha_bar of the first steps are 1 there. They are functions of the recipe, so they are in no checkpoint and no
    average of weights.
    """

    alpha_t: Tensor
    beta: Tensor
    alpha_bar: Tensor
    sqrt_alpha_bar: Tensor
    sqrt_one_minus_alpha_bar: Tensor
    posterior_variance: Tensor
    log_snr: Tensor
    posterior_mean_x0: Tensor
    posterior_mean_x: Tensor
    log_posterior_variance: Tensor
    log_beta: Tensor

    def __init__(
        self, alphas_cumprod: Tensor, prediction: Prediction = "epsilon", *, self_conditioning: bool = False
    ) -> None:
        """`alphas_cumprod`: float64 [T]. Raises InputError when it is no schedule, or one that `prediction` forbids.

        `self_conditioning`: the network is given an estimate of x0 beside x.
        """
        super().__init__()
        check_alphas_cumprod(alphas_cumprod)
        if float(alphas_cumprod[-1]) == 0 and prediction == "epsilon":
            raise InputError(
                "this schedule ends at alpha_bar = 0, where x0 cannot be recovered from eps.",
                remedies=['diffusion.prediction = "v" or "x0"', "another schedule"],
            )
        self.prediction: Prediction = prediction
        self.self_conditioning = self_conditioning
        self.timesteps = len(alphas_cumprod)
        # A step back subtracts numbers near 1 (1 - alpha_bar is 4e-5 at t = 0, T = 1000): that is done in float64.
        self._alpha_bar: list[float] = alphas_cumprod.tolist()
        self._double = alphas_cumprod.detach().clone()
        for name, values in coefficients(alphas_cumprod).items():
            self.register_buffer(name, values.float(), persistent=False)

    @classmethod
    def from_schedule(
        cls,
        schedule: Schedule,
        prediction: Prediction = "epsilon",
        *,
        self_conditioning: bool = False,
    ) -> "GaussianDiffusion":
        """The process of a schedule component."""
        return cls(schedule.alphas_cumprod(), prediction, self_conditioning=self_conditioning)

    def truncated(self, timesteps: int) -> "GaussianDiffusion":
        """The first `timesteps` noising steps alone, on the same device: a process too, which ends at a noised image.

        Raises InputError when `timesteps` is not in 1 .. T.
        """
        if not 1 <= timesteps <= self.timesteps:
            raise InputError(f"a process of {self.timesteps} timesteps has no first {timesteps}.")
        first = torch.tensor(self._alpha_bar[:timesteps], dtype=torch.float64)
        return GaussianDiffusion(first, self.prediction, self_conditioning=self.self_conditioning).to(
            self.alpha_bar.device
        )

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t from x0 [B, C, H, W], t int64 [B] and standard noise: Ho et al. (2020), eq. 4."""
        return _at(self.sqrt_alpha_bar, t) * x0 + _at(self.sqrt_one_minus_alpha_bar, t) * noise

    def noised_further(self, x: Tensor, s: int, t: int, noise: Tensor) -> Tensor:
        """x_t from x_s, s < t, and standard noise: q(x_t | x_s), Ho et al. (2020), eq. 2 over t - s steps."""
        alpha = self.alpha_bar_at(t) / self.alpha_bar_at(s)
        return math.sqrt(alpha) * x + math.sqrt(1 - alpha) * noise

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the network should answer at (x_t, t): eps, x0, or v.

        v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0: Salimans & Ho (2022), "Progressive Distillation for Fast
        Sampling of Diffusion Models", section 4 (https://arxiv.org/abs/2202.00512).
        """
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "x0":
            return x0
        return _at(self.sqrt_alpha_bar, t) * noise - _at(self.sqrt_one_minus_alpha_bar, t) * x0

    def network_input(self, x: Tensor, x0_hat: Tensor | None = None) -> Tensor:
        """What the network sees of x [B, C, H, W]; under self-conditioning [B, 2C, H, W], with the estimate behind x.

        None is no estimate: zeros. Chen et al. (2022), "Analog Bits", section 3 (https://arxiv.org/abs/2208.04202).
        The estimate is clamped to [-1, 1], since one from eps is huge where little signal is left.
        """
        if not self.self_conditioning:
            return x
        return torch.cat([x, torch.zeros_like(x) if x0_hat is None else x0_hat.clamp(-1, 1)], dim=1)

    def composed(self, x0: Tensor, eps: Tensor, t: int) -> Tensor:
        """x_t from the clean image and the noise, [B, C, H, W] each; x0 itself at t = -1."""
        bar = self.alpha_bar_at(t)
        return math.sqrt(bar) * x0 + math.sqrt(1 - bar) * eps

    def denoised(self, output: Tensor, x: Tensor, t: Tensor) -> Denoised:
        """x0 and eps from the network's answer: x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps, solved for each."""
        signal, sigma = _at(self.sqrt_alpha_bar, t), _at(self.sqrt_one_minus_alpha_bar, t)
        if self.prediction == "epsilon":
            return Denoised((x - sigma * output) / signal, output)
        if self.prediction == "x0":
            return Denoised(output, self.eps(output, x, t))
        return Denoised(signal * x - sigma * output, sigma * x + signal * output)

    def eps(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The noise in x_t when the clean image is x0."""
        return (x - _at(self.sqrt_alpha_bar, t) * x0) / _at(self.sqrt_one_minus_alpha_bar, t)

    def posterior(self, x0: Tensor, x: Tensor, t: int, s: int) -> Posterior:
        """q(x_s | x_t, x0), s < t: Ho et al. (2020), eq. 6-7, with alpha_t = alpha_bar_t / alpha_bar_s.

        s = t - 1 is the ordinary step, s = -1 the clean image. For longer strides see Nichol & Dhariwal (2021),
        "Improved DDPM", eq. 19 (https://arxiv.org/abs/2102.09672).
        """
        bar_t, bar_s = self.alpha_bar_at(t), self.alpha_bar_at(s)
        alpha = bar_t / bar_s
        mean = math.sqrt(bar_s) * (1 - alpha) / (1 - bar_t) * x0 + math.sqrt(alpha) * (1 - bar_s) / (1 - bar_t) * x
        return Posterior(mean, (1 - bar_s) / (1 - bar_t) * (1 - alpha))

    def p_sample(
        self, x0_hat: Tensor, x: Tensor, t: int, noise: Tensor, s: int | None = None, spread: Tensor | None = None
    ) -> Tensor:
        """One ancestral step from x_t to x_s (t - 1 unless given) by the estimate of x0: Ho et al. (2020), algorithm 2.

        Its sigma is the posterior's own: 0 for s = -1, so the last step adds no noise; or, with `spread` [B, C, H, W],
        the learned one of Nichol & Dhariwal (2021), eq. 15.
        """
        s = t - 1 if s is None else s
        mean, variance = self.posterior(x0_hat, x, t, s)
        if spread is None or variance == 0:
            return mean + math.sqrt(variance) * noise
        beta = 1 - self.alpha_bar_at(t) / self.alpha_bar_at(s)
        return mean + torch.exp(0.5 * _between(math.log(variance), math.log(beta), spread)) * noise

    def posterior_mean(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The mean of `posterior` for s = t - 1, with t int64 [B] of each image its own."""
        return _at(self.posterior_mean_x0, t) * x0 + _at(self.posterior_mean_x, t) * x

    def posterior_log_variance(self, t: Tensor) -> Tensor:
        """[B, 1, 1, 1]; at t = 0, where it is minus infinity, that of t = 1: Nichol & Dhariwal (2021), section 3.1.

        A process of one step has no t = 1: there it is the logarithm of beta.
        """
        return _at(self.log_posterior_variance, t)

    def learned_log_variance(self, spread: Tensor, t: Tensor) -> Tensor:
        """Between posterior and beta: Nichol & Dhariwal (2021), eq. 15, with v = (spread + 1) / 2."""
        return _between(self.posterior_log_variance(t), _at(self.log_beta, t), spread)

    def alpha_bar_in_double(self, t: Tensor) -> Tensor:
        """alpha_bar [B] at t int64 [B], from which 1 may be subtracted: float64.

        On MPS, which has no float64, it is float32, and the next number below 1 where it would be 1.
        """
        if t.device.type == "mps":
            return self.alpha_bar[t].clamp(max=1 - 2**-24)
        if self._double.device != t.device:
            self._double = self._double.to(t.device)
        return self._double[t]

    @property
    def alpha_bar_fingerprint(self) -> str:
        """A hash of alpha_bar to seven of its sixteen digits: machines need not agree on the last."""
        digits = " ".join(f"{bar:.6e}" for bar in self._alpha_bar)
        return hashlib.sha256(digits.encode()).hexdigest()

    def alpha_bar_at(self, t: int) -> float:
        """alpha_bar in double precision; 1 at t = -1, the clean image."""
        return self._alpha_bar[t] if t >= 0 else 1.0

    def half_log_snr_at(self, t: int) -> float:
        """lambda = ln(alpha / sigma), in double precision; infinite at t = -1, minus infinity where alpha_bar is 0."""
        bar = self.alpha_bar_at(t)
        if bar in (0, 1):
            return math.inf if bar else -math.inf
        return (math.log(bar) - math.log1p(-bar)) / 2

    def sampling_timesteps(self, steps: int) -> list[int]:
        """`steps` timesteps from T-1 downwards, evenly spread, ending at 0 (one step: T-1 alone).

        Raises InputError when `steps` is not in 1 .. T.
        """
        if not 1 <= steps <= self.timesteps:
            raise InputError(f"sampler.steps = {steps} is not between 1 and diffusion.timesteps = {self.timesteps}.")
        spread = torch.linspace(self.timesteps - 1, 0, steps, dtype=torch.float64)
        return [int(t) for t in spread.round()]


class Guidance(NamedTuple):
    """Classifier-free guidance: Ho & Salimans (2022), eq. 6, with w + 1 as `scale` (https://arxiv.org/abs/2207.12598).

    A learned variance is not extrapolated: from `scale` 1 on it is the one for the label, as in GLIDE (Nichol et al.
    2022, https://arxiv.org/abs/2112.10741) and DiT (Peebles & Xie 2023, https://arxiv.org/abs/2212.09748).
    """

    scale: float
    """1: the answer for the label; 0: that without one; more than 1 exaggerates what the label changes."""
    untold: int
    """The label of images whose class is not told."""


class Known(NamedTuple):
    """Pixels of the clean image that are given: there, x0 is no estimate."""

    x0: Tensor
    """Float [C, H, W]."""
    where: Tensor
    """bool [H, W]; what `x0` holds elsewhere counts for nothing."""


class Denoiser:
    """A network and its process as one question: what are x0 and eps at (x, t)?

    `network` is called as `(x, t int64 [B], label)`; whatever it predicts, and in whatever precision, the answer is
    both estimates in the precision of x. Under self-conditioning each call gives the network the x0 of the call
    before, and the first none: so one denoiser serves one batch, from noise to image, in the order of the steps. A
    sampler takes timesteps and coefficients from its `process`.
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        process: GaussianDiffusion,
        label: Tensor | None = None,
        guidance: Guidance | None = None,
        known: Known | None = None,
    ) -> None:
        """`label`: int64 [B] of the batch that will be asked about, or None; guidance needs one."""
        self.network = network
        self.process = process
        self.label = label
        self.guidance = guidance
        self.known = known
        self._before: Tensor | None = None

    def __call__(self, x: Tensor, t: int, *, clip_x0: bool = False, keep_eps: bool = False) -> Denoised:
        """x [B, C, H, W] at timestep t in 0 .. T-1.

        `clip_x0`: clamp x0 to [-1, 1]. eps is then the noise in x if the clean image is the clamped one, so that both
        still make up x; with `keep_eps` it stays what the network says, and x0 and eps make up another x, without what
        the clamp takes away.
        """
        estimate = self._estimate(x, t)
        if not clip_x0:
            return estimate
        x0 = estimate.x0.clamp(-1, 1)
        if keep_eps:
            return estimate._replace(x0=x0)
        # What x0 loses, eps gains. Written as a difference, so that eps keeps its bits where nothing is clamped.
        bar = self.process.alpha_bar_at(t)
        return estimate._replace(x0=x0, eps=estimate.eps + math.sqrt(bar / (1 - bar)) * (estimate.x0 - x0))

    def _estimate(self, x: Tensor, t: int) -> Denoised:
        times = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
        output = self._answer(self.process.network_input(x, self._before), times, x.shape[1]).to(x.dtype)
        answer, spread = split_answer(output, x.shape[1])
        estimate = self.process.denoised(answer, x, times)._replace(spread=spread)
        if self.known is not None:
            estimate = self._with_known(self.known, estimate, x, times)
        self._before = estimate.x0 if self.process.self_conditioning else None
        return estimate

    def truncated(self, timesteps: int) -> "Denoiser":
        """The same question of the process that is the first `timesteps` of this one's."""
        return Denoiser(self.network, self.process.truncated(timesteps), self.label, self.guidance, self.known)

    def _with_known(self, known: Known, estimate: Denoised, x: Tensor, times: Tensor) -> Denoised:
        """With x0 known, a step of Ho et al. (2020), eq. 7, draws from the true posterior, whose spread is -1."""
        x0 = torch.where(known.where, known.x0, estimate.x0)
        eps = torch.where(known.where, self.process.eps(x0, x, times), estimate.eps)
        spread = None if estimate.spread is None else estimate.spread.masked_fill(known.where, -1)
        return Denoised(x0, eps, spread)

    def _answer(self, x: Tensor, times: Tensor, channels: int) -> Tensor:
        """The network's output; its first `channels` are the prediction, further ones the spread."""
        if self.guidance is None or self.label is None:
            return self.network(x, times, self.label)
        # eps, x0 and v are affine in one another at one x and t, so guiding one of them guides all.
        labels = torch.cat([self.label, torch.full_like(self.label, self.guidance.untold)])
        told, untold = self.network(x.repeat(2, 1, 1, 1), times.repeat(2), labels).chunk(2)
        guided = torch.lerp(untold[:, :channels], told[:, :channels], self.guidance.scale)
        spread = torch.lerp(untold[:, channels:], told[:, channels:], min(self.guidance.scale, 1))
        return torch.cat([guided, spread], dim=1)


def check_answer(output: Tensor, count: int, image_shape: Sequence[int], device: torch.device) -> None:
    """Raises WrongAnswer unless a network's output is float, for `count` images, in the channels of one or of two.

    It must be on `device`, which is that of the network's input.
    """
    channels, height, width = image_shape
    shapes = [(count, factor * channels, height, width) for factor in (1, 2)]
    if not isinstance(output, Tensor) or tuple(output.shape) not in shapes or not output.is_floating_point():
        raise WrongAnswer("backbone", f"it must return float {list(shapes[0])}, not {described(output)}")
    if output.device != device:
        raise WrongAnswer("backbone", f"it must return a tensor on the device {device}, not {output.device}")


def described(value: object) -> str:
    """`float32 [4, 3, 32, 32]`, or the type of what is not a tensor."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def split_answer(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """A network's output: what it predicts, and beyond `channels` the spread of the step, where that is learned."""
    return output[:, :channels], output[:, channels:] if output.shape[1] > channels else None


def coefficients(alphas_cumprod: Tensor) -> dict[str, Tensor]:
    """The buffers of `GaussianDiffusion` by name, still float64 [T], from alpha_bar: Ho et al. (2020), eq. 4 and 7."""
    previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    alpha_t = alphas_cumprod / previous
    beta, sigma2 = 1 - alpha_t, 1 - alphas_cumprod
    variance = (1 - previous) / sigma2 * beta
    return {
        "alpha_t": alpha_t,
        "beta": beta,
        "alpha_bar": alphas_cumprod,
        "sqrt_alpha_bar": alphas_cumprod.sqrt(),
        "sqrt_one_minus_alpha_bar": sigma2.sqrt(),
        "posterior_variance": variance,
        "log_snr": alphas_cumprod.log() - sigma2.log(),
        "posterior_mean_x0": previous.sqrt() * beta / sigma2,
        "posterior_mean_x": alpha_t.sqrt() * (1 - previous) / sigma2,
        "log_posterior_variance": (torch.cat([variance[1:2], variance[1:]]) if len(variance) > 1 else beta).log(),
        "log_beta": beta.log(),
    }


def with_zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """The schedule float64 [T] with sqrt(alpha_bar) shifted to end at 0 and stretched to begin where it did.

    Lin et al. (2024), "Common Diffusion Noise Schedules and Sample Steps are Flawed", algorithm 1
    (https://arxiv.org/abs/2305.08891). Raises InputError for T = 1, where first and last are one.
    """
    if len(alphas_cumprod) < 2:
        raise InputError("diffusion.zero_terminal_snr needs diffusion.timesteps of 2 or more.")
    signal = alphas_cumprod.sqrt()
    return ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])) ** 2


def check_alphas_cumprod(alphas_cumprod: Tensor, timesteps: int | None = None) -> None:
    """Raises InputError for what is no schedule, float64 [T], by type, range and order: at which t, by which numbers.

    `timesteps` is T, where it is known beforehand.
    """
    if not isinstance(alphas_cumprod, Tensor):
        raise InputError(f"alpha_bar must be a float64 tensor [T], and is {described(alphas_cumprod)}.")
    wanted = timesteps or max(1, alphas_cumprod.numel())
    if alphas_cumprod.dtype != torch.float64 or alphas_cumprod.shape != (wanted,):
        raise InputError(f"alpha_bar must be float64 [{timesteps or 'T'}], and is {described(alphas_cumprod)}.")
    inside = (alphas_cumprod > 0) & (alphas_cumprod < 1)
    inside[-1] |= alphas_cumprod[-1] == 0
    if not bool(inside.all()):
        t = int(inside.int().argmin())
        raise InputError(
            f"alpha_bar must lie above 0 and below 1 (the last may be 0), and is {alphas_cumprod[t]:.9g} at t = {t}."
        )
    rises = alphas_cumprod.diff() >= 0
    if bool(rises.any()):
        t = int(rises.int().argmax())
        raise InputError(
            f"alpha_bar must fall strictly, and goes from {alphas_cumprod[t]:.9g} at t = {t} "
            f"to {alphas_cumprod[t + 1]:.9g} at t = {t + 1}."
        )


def _between(lower: Tensor | float, upper: Tensor | float, spread: Tensor) -> Tensor:
    """From `lower` at spread -1 to `upper` at 1."""
    share = (spread + 1) / 2
    return share * upper + (1 - share) * lower


def _at(values: Tensor, t: Tensor) -> Tensor:
    """values[t] as [B, 1, 1, 1], to multiply images with."""
    return values[t][:, None, None, None]
