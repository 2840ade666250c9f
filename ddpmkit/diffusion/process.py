"""`GaussianDiffusion`: the noising process of a schedule, and its posterior."""

import math
from typing import overload

import torch
from torch import Tensor, nn

from ddpmkit.contracts import Prediction, Schedule
from ddpmkit.contracts.denoiser import Denoised, Posterior
from ddpmkit.diffusion.alpha_bar import alpha_bar_fingerprint, coefficients
from ddpmkit.diffusion.checks import check_alphas_cumprod
from ddpmkit.diffusion.parameterization import eps_from_x0, to_denoised, training_target
from ddpmkit.diffusion.sampling_steps import spaced_timesteps
from ddpmkit.errors import InputError

__all__ = ["GaussianDiffusion"]


class GaussianDiffusion(nn.Module):
    """The process of a schedule: x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps for t = 0 .. T-1.

    Buffers, float32 [T], computed in float64:

    - `alpha_t`, and `beta`, which is 1 - alpha_t;
    - `alpha_bar`, `sqrt_alpha_bar`, `sqrt_one_minus_alpha_bar`;
    - `log_snr`: the natural logarithm of alpha_bar / (1 - alpha_bar); -inf if alpha_bar is 0;
    - `posterior_variance`, `log_posterior_variance`, `log_beta`, and the weights `posterior_mean_x0` and
      `posterior_mean_x` of the posterior mean.

    Do not subtract a buffer from 1: in float32, alpha_t and alpha_bar of the first timesteps may round to 1. The
    buffers are computed from the recipe, so they are not part of the state dict.
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
        """`alphas_cumprod`: alpha_bar, float64 [T].

        `self_conditioning`: the network receives an estimate of x0 in addition to x_t. Raises InputError if
        `alphas_cumprod` is not a schedule, or if it ends at 0 and `prediction` is "epsilon".
        """
        super().__init__()
        check_alphas_cumprod(alphas_cumprod)
        if float(alphas_cumprod[-1]) == 0 and prediction == "epsilon":
            raise InputError(
                "this schedule ends at alpha_bar = 0, where x0 cannot be recovered from eps.",
                remedies=["predict x0 or v", "use another schedule"],
            )
        self.prediction: Prediction = prediction
        self.self_conditioning = self_conditioning
        self.timesteps = len(alphas_cumprod)
        # A reverse step subtracts numbers near 1 (1 - alpha_bar is 4e-5 at t = 0, T = 1000), so it needs float64.
        self._alpha_bar: list[float] = alphas_cumprod.tolist()
        self._alpha_bar_float64 = alphas_cumprod.detach().clone()
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
        """Return the process of a schedule component. Raises InputError as the constructor does."""
        return cls(schedule.alphas_cumprod(), prediction, self_conditioning=self_conditioning)

    def truncated(self, timesteps: int) -> "GaussianDiffusion":
        """Return the process of the first `timesteps` timesteps only, on the same device.

        Raises InputError if `timesteps` is not in 1 .. T.
        """
        if not 1 <= timesteps <= self.timesteps:
            raise InputError(f"a process of {self.timesteps} timesteps cannot be truncated to {timesteps}.")
        first = torch.tensor(self._alpha_bar[:timesteps], dtype=torch.float64)
        process = GaussianDiffusion(first, self.prediction, self_conditioning=self.self_conditioning)
        return process.to(self.alpha_bar.device)

    # Noising. Images are [B, C, H, W]; `t` is int64 [B], or an int if all images of the batch are at one timestep.

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return x_t from x0 and standard normal noise [B, C, H, W], t int64 [B]: Ho et al. (2020), eq. 4.

        `composed` is the same for one timestep, with float64 coefficients.
        """
        signal_scale, noise_scale = self._signal_and_noise_scale(t)
        return signal_scale * x0 + noise_scale * noise

    def add_noise(self, x: Tensor, s: int, t: int, noise: Tensor) -> Tensor:
        """Return x_t from x_s [B, C, H, W], s < t, and standard normal noise: Ho et al. (2020), eq. 2, t - s steps."""
        alpha_ts = self.alpha_bar_at(t) / self.alpha_bar_at(s)
        return math.sqrt(alpha_ts) * x + math.sqrt(1 - alpha_ts) * noise

    noised_further = add_noise  # its name in plugin API 1

    def composed(self, x0: Tensor, eps: Tensor, t: int) -> Tensor:
        """Return x_t from the clean image x0 and the noise eps, [B, C, H, W] each; x0 itself if t = -1."""
        alpha_bar_t = self.alpha_bar_at(t)
        return math.sqrt(alpha_bar_t) * x0 + math.sqrt(1 - alpha_bar_t) * eps

    # What the network receives and predicts.

    def network_input(self, x: Tensor, x0_hat: Tensor | None = None) -> Tensor:
        """Return the input of the network: x [B, C, H, W], or with self-conditioning x and x0_hat, [B, 2C, H, W].

        `x0_hat`: an estimate of x0 [B, C, H, W]; None means zeros. Chen et al. (2022), "Analog Bits", section 3
        (https://arxiv.org/abs/2208.04202). This estimate is always clamped to [-1, 1], because an estimate from eps is
        huge at timesteps with little signal. The other clamp, `clip_x0` of `Denoiser`, is for the x0 that a sampler
        receives.
        """
        if not self.self_conditioning:
            return x
        return torch.cat([x, torch.zeros_like(x) if x0_hat is None else x0_hat.clamp(-1, 1)], dim=1)

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the correct output of the network at (x_t, t int64 [B]): eps, x0 or v, [B, C, H, W]."""
        return training_target(self.prediction, x0, noise, *self._signal_and_noise_scale(t))

    def denoised(self, output: Tensor, x: Tensor, t: Tensor | int) -> Denoised:
        """Return x0 and eps from the network's output [B, C, H, W] at (x, t), t int64 [B] or an int."""
        return to_denoised(self.prediction, output, x, *self._signal_and_noise_scale(t))

    def eps(self, x0: Tensor, x: Tensor, t: Tensor | int) -> Tensor:
        """Return the noise in x_t if the clean image is x0; [B, C, H, W] each, t int64 [B] or an int."""
        return eps_from_x0(x0, x, *self._signal_and_noise_scale(t))

    # The reverse process.

    def posterior(self, x0: Tensor, x: Tensor, t: int, s: int) -> Posterior:
        """Return q(x_s | x_t, x0), s < t: Ho et al. (2020), eq. 6-7.

        alpha_ts = alpha_bar_t / alpha_bar_s replaces alpha_t. s = t - 1 is a single step. For longer strides see
        Nichol & Dhariwal (2021), "Improved DDPM", eq. 19 (https://arxiv.org/abs/2102.09672).
        """
        alpha_bar_t, alpha_bar_s = self.alpha_bar_at(t), self.alpha_bar_at(s)
        alpha_ts = alpha_bar_t / alpha_bar_s
        beta_ts = 1 - alpha_ts
        x0_weight = math.sqrt(alpha_bar_s) * beta_ts / (1 - alpha_bar_t)
        x_weight = math.sqrt(alpha_ts) * (1 - alpha_bar_s) / (1 - alpha_bar_t)
        return Posterior(mean=x0_weight * x0 + x_weight * x, variance=(1 - alpha_bar_s) / (1 - alpha_bar_t) * beta_ts)

    def p_sample(
        self, x0_hat: Tensor, x: Tensor, t: int, noise: Tensor, s: int | None = None, spread: Tensor | None = None
    ) -> Tensor:
        """Return x_s after one ancestral step from x_t, with the estimate x0_hat: Ho et al. (2020), algorithm 2.

        `s` is t - 1 by default. The variance is the posterior variance, which is 0 if s = -1; with `spread`
        [B, C, H, W] it is the learned variance of Nichol & Dhariwal (2021), eq. 15.
        """
        s = t - 1 if s is None else s
        mean, variance = self.posterior(x0_hat, x, t, s)
        if spread is None or variance == 0:
            return mean + math.sqrt(variance) * noise
        beta_ts = 1 - self.alpha_bar_at(t) / self.alpha_bar_at(s)
        log_variance = _interpolated(math.log(variance), math.log(beta_ts), spread)
        return mean + torch.exp(0.5 * log_variance) * noise

    def posterior_mean(self, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Return the mean [B, C, H, W] of `posterior` at s = t - 1, with t int64 [B]."""
        return _at(self.posterior_mean_x0, t) * x0 + _at(self.posterior_mean_x, t) * x

    def posterior_log_variance(self, t: Tensor) -> Tensor:
        """Return the log variance [B, 1, 1, 1] of `posterior` at s = t - 1, with t int64 [B].

        At t = 0 it would be minus infinity, so the value at t = 1 is used: Nichol & Dhariwal (2021), section 3.1. If
        T = 1, it is the logarithm of beta.
        """
        return _at(self.log_posterior_variance, t)

    def learned_log_variance(self, spread: Tensor, t: Tensor) -> Tensor:
        """Return the log variance [B, C, H, W] that `spread` [B, C, H, W] selects between posterior and beta.

        Nichol & Dhariwal (2021), eq. 15, with v = (spread + 1) / 2.
        """
        return _interpolated(self.posterior_log_variance(t), _at(self.log_beta, t), spread)

    # Noise levels.

    def alpha_bar_at(self, t: int) -> float:
        """Return alpha_bar_t in float64; 1 at t = -1."""
        return self._alpha_bar[t] if t >= 0 else 1.0

    def alpha_bar_in_double(self, t: Tensor) -> Tensor:
        """Return alpha_bar float64 [B] at t int64 [B], precise enough for 1 - alpha_bar.

        On MPS, which has no float64, it is float32, and at most the largest float32 below 1.
        """
        if t.device.type == "mps":
            return self.alpha_bar[t].clamp(max=1 - 2**-24)
        if self._alpha_bar_float64.device != t.device:
            self._alpha_bar_float64 = self._alpha_bar_float64.to(t.device)
        return self._alpha_bar_float64[t]

    def half_log_snr_at(self, t: int) -> float:
        """Return lambda_t = ln(sqrt(alpha_bar_t) / sqrt(1 - alpha_bar_t)); inf at t = -1, -inf if alpha_bar_t is 0."""
        alpha_bar_t = self.alpha_bar_at(t)
        if alpha_bar_t in (0, 1):
            return math.inf if alpha_bar_t else -math.inf
        return (math.log(alpha_bar_t) - math.log1p(-alpha_bar_t)) / 2

    def sampling_timesteps(self, steps: int, log_snr_spacing: float = 0.0) -> list[int]:
        """Return `steps` timesteps from T-1 down to 0; for one step, T-1 alone.

        `log_snr_spacing`: 0 spaces them evenly in t, 1 in lambda_t (clamped at -5.1), and a value between in the
        weighted mean of both, each scaled to 0 .. 1. Raises InputError if `steps` is not in 1 .. T.
        """
        if not 1 <= steps <= self.timesteps:
            raise InputError(f"the number of sampling steps must be between 1 and {self.timesteps}, not {steps}.")
        half_log_snr = [self.half_log_snr_at(t) for t in range(self.timesteps)]
        return spaced_timesteps(half_log_snr, steps, log_snr_spacing)

    @property
    def alpha_bar_fingerprint(self) -> str:
        """A hash of alpha_bar, for comparing the schedules of two runs."""
        return alpha_bar_fingerprint(self._alpha_bar)

    @overload
    def _signal_and_noise_scale(self, t: Tensor) -> tuple[Tensor, Tensor]: ...

    @overload
    def _signal_and_noise_scale(self, t: int) -> tuple[float, float]: ...

    def _signal_and_noise_scale(self, t: Tensor | int) -> tuple[Tensor, Tensor] | tuple[float, float]:
        """Return sqrt(alpha_bar) and sqrt(1 - alpha_bar): [B, 1, 1, 1] each at t int64 [B], two numbers at an int."""
        if isinstance(t, int):
            return math.sqrt(self.alpha_bar_at(t)), math.sqrt(1 - self.alpha_bar_at(t))
        return _at(self.sqrt_alpha_bar, t), _at(self.sqrt_one_minus_alpha_bar, t)


def _interpolated(lower: Tensor | float, upper: Tensor | float, spread: Tensor) -> Tensor:
    """Return `lower` at spread -1, `upper` at spread 1, and a linear interpolation between them."""
    fraction = (spread + 1) / 2
    return fraction * upper + (1 - fraction) * lower


def _at(values: Tensor, t: Tensor) -> Tensor:
    """Return values[t] as [B, 1, 1, 1], which broadcasts over images."""
    return values[t][:, None, None, None]
