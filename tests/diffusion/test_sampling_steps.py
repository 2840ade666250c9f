"""The timesteps of a sampler between even in t and even in log-SNR, and the weight of an extrapolation."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpmkit.diffusion import GaussianDiffusion, extrapolation_weight, with_zero_terminal_snr
from ddpmkit_plugins.cosine import CosineConfig
from ddpmkit_plugins.cosine.schedule import CosineSchedule


def cosine(timesteps: int) -> torch.Tensor:
    return CosineSchedule(CosineConfig(), timesteps=timesteps).alphas_cumprod()


@given(timesteps=st.integers(2, 300), spacing=st.floats(0, 1), zero_snr=st.booleans(), data=st.data())
def test_timesteps_are_distinct_and_fall_from_last_to_first(
    timesteps: int, spacing: float, zero_snr: bool, data: st.DataObject
) -> None:
    alphas_cumprod = cosine(timesteps)
    process = GaussianDiffusion(with_zero_terminal_snr(alphas_cumprod) if zero_snr else alphas_cumprod, "v")
    steps = data.draw(st.integers(1, timesteps))
    chosen = process.sampling_timesteps(steps, spacing)
    assert len(chosen) == steps
    assert chosen[0] == timesteps - 1
    assert chosen == sorted(set(chosen), reverse=True)
    assert steps == 1 or chosen[-1] == 0


def test_all_of_a_process_with_little_signal_can_be_spaced() -> None:
    """alpha_bar of the first timestep is below the clamp of lambda."""
    process = GaussianDiffusion(torch.linspace(1e-6, 1e-9, 20, dtype=torch.float64))
    assert process.sampling_timesteps(20, 1.0) == list(range(19, -1, -1))


def test_spacing_1_is_even_in_the_half_log_snr() -> None:
    process = GaussianDiffusion(cosine(1000))
    values = [max(-5.1, process.half_log_snr_at(t)) for t in process.sampling_timesteps(10, 1.0)]
    steps = [after - before for before, after in pairwise(values)]
    assert steps == pytest.approx([(values[-1] - values[0]) / 9] * 9, rel=0.05)


def test_spacing_between_shortens_the_last_step() -> None:
    """In lambda; the network is called where x0_hat still changes."""
    process = GaussianDiffusion(cosine(1000))

    def last_step(spacing: float) -> float:
        *_, t, s = process.sampling_timesteps(20, spacing)
        return process.half_log_snr_at(s) - process.half_log_snr_at(t)

    assert last_step(0.0) > 2.6
    assert last_step(0.5) < 1.1


@pytest.mark.parametrize(
    ("h", "h_before", "weight"),
    [
        (0.4, 0.8, 0.25),  # 1 / (2 r): Lu et al. (2022), algorithm 2
        (0.4, 0.2, 1.0),
        (2.0, 2.0, 0.5),
        (2.0, 4.0, 0.25),
        (2.0, 1.0, 0.125),  # long, and longer than the one before
        (2.0, math.inf, 0.0),
    ],
)
def test_only_a_long_step_after_a_shorter_one_has_less_than_the_weight_of_the_paper(
    h: float, h_before: float, weight: float
) -> None:
    assert extrapolation_weight(h, h_before) == pytest.approx(weight)
