"""Profiles compared with numerical integrals, and mixtures with the averages themselves."""

import numpy as np
import pytest
from numpy.typing import NDArray

from ddpmkit.training.posthoc_ema import WeightProfile, exponent, mixture

FINE = 200_000


def sampled(profile: WeightProfile, last: int) -> NDArray[np.float64]:
    """The profile at the middles of FINE equal parts of 0 .. last, from its definition."""
    tau = (np.arange(FINE) + 0.5) / FINE * last
    gamma = exponent(profile.sigma_rel)
    return np.where(tau < profile.step, (gamma + 1) * (tau / profile.step) ** gamma / profile.step, 0.0)


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.97), (0.10, 6.94)])
def test_exponents_are_those_of_the_paper(sigma_rel: float, gamma: float) -> None:
    assert exponent(sigma_rel) == pytest.approx(gamma, abs=0.005)


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_width_is_the_standard_deviation_of_the_profile(sigma_rel: float) -> None:
    tau, weight = (np.arange(FINE) + 0.5) / FINE, sampled(WeightProfile(1, sigma_rel), 1) / FINE
    assert weight.sum() == pytest.approx(1, rel=1e-6)
    mean = (weight * tau).sum()
    assert np.sqrt((weight * (tau - mean) ** 2).sum()) == pytest.approx(sigma_rel, rel=1e-4)


@pytest.mark.parametrize("wanted", [0.03, 0.07, 0.15, 0.25])
def test_a_mixture_is_the_nearest_one_and_states_its_error(wanted: float) -> None:
    """Compared with least squares on sampled profiles, with the last coefficient eliminated."""
    kept = [WeightProfile(step, width) for step in (100, 250, 400, 500) for width in (0.05, 0.1)]
    target = sampled(WeightProfile(500, wanted), 500)
    basis = np.stack([sampled(profile, 500) for profile in kept], axis=1)
    free = np.linalg.lstsq(basis[:, :-1] - basis[:, -1:], target - basis[:, -1], rcond=None)[0]
    expected = np.append(free, 1 - free.sum())
    found = mixture(kept, WeightProfile(500, wanted))
    np.testing.assert_allclose(found.coefficients, expected, rtol=1e-3, atol=1e-4)
    assert found.coefficients.sum() == pytest.approx(1, abs=1e-12)
    error = np.linalg.norm(basis @ expected - target) / np.linalg.norm(target)
    assert found.error == pytest.approx(error, rel=1e-3)


def test_a_stored_profile_is_exact_and_more_snapshots_reduce_the_error() -> None:
    two = [WeightProfile(1000, 0.05), WeightProfile(1000, 0.1)]
    np.testing.assert_allclose(mixture(two, WeightProfile(1000, 0.1)).coefficients, [0, 1], atol=1e-9)
    errors = [
        mixture(
            [WeightProfile(1000 * part // count, width) for part in range(1, count + 1) for width in (0.05, 0.1)],
            WeightProfile(1000, 0.075),
        ).error
        for count in (1, 4, 16, 64, 250)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.02
    assert errors[-1] < 1e-4
