"""The Fréchet distance, compared with clean-fid and with a closed form that is exact for every rank."""

import cleanfid.fid
import numpy as np
import pytest
import torch

from ddpmkit.frechet import Moments, frechet_distance, moments

pytestmark = pytest.mark.usefixtures("sqrtm_with_disp")

# Number of images of both sets, with 64 features: more, fewer in one set, fewer in both, the minimum.
SIZES = [(200, 300), (20, 300), (300, 20), (20, 30), (2, 2)]
FEATURES = 64


def features(count, seed):
    """Non-negative and skewed, as pooled activations are; some are always 0."""
    generator = np.random.default_rng(seed)
    mixed = generator.standard_normal((count, FEATURES)) @ np.random.default_rng(99).standard_normal((FEATURES,) * 2)
    return np.maximum(mixed / 8 + 0.1 * seed, 0) * (np.arange(FEATURES) % 16 > 0)


def moments_of(vectors):
    tensor = torch.from_numpy(vectors)
    return moments(len(tensor), tensor.sum(dim=0), tensor.T @ tensor)


def closed_form(first, second):
    """tr sqrt(S1 S2) is the nuclear norm of A B^T if S1 = A^T A and S2 = B^T B. No singular matrix needs a root."""
    a, b = ((x - x.mean(axis=0)) / np.sqrt(len(x) - 1) for x in (first, second))
    shift = first.mean(axis=0) - second.mean(axis=0)
    return shift @ shift + (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()


@pytest.mark.parametrize(("first", "second"), SIZES)
def test_moments_equal_numpy(first, second):
    vectors = features(first, seed=1)
    found = moments_of(vectors)
    assert found.n == first
    np.testing.assert_allclose(found.mean, vectors.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(vectors, rowvar=False), atol=1e-13)


@pytest.mark.parametrize(("first", "second"), SIZES)
def test_the_distance_equals_clean_fid(first, second):
    x, y = features(first, seed=1), features(second, seed=2)
    # clean-fid's general sqrtm of a singular product is accurate to about 1e-7.
    expected = cleanfid.fid.fid_from_feats(x, y)
    assert frechet_distance(moments_of(x), moments_of(y)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("first", "second"), SIZES)
def test_the_distance_is_exact_for_every_rank(first, second):
    x, y = features(first, seed=1), features(second, seed=2)
    assert frechet_distance(moments_of(x), moments_of(y)) == pytest.approx(closed_form(x, y), rel=1e-10)


def test_the_distance_of_commuting_covariances():
    first = Moments(100, torch.tensor([1.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 9.0])).double())
    second = Moments(100, torch.tensor([1.0, 0.0]).double(), torch.diag(torch.tensor([1.0, 25.0])).double())
    # |m1 - m2|^2 + the sum of (s1 - s2)^2 over the axes.
    assert frechet_distance(first, second) == pytest.approx(2**2 + (2 - 1) ** 2 + (3 - 5) ** 2, rel=1e-12)


@pytest.mark.parametrize("count", [20, 300])
def test_the_distance_of_a_set_to_itself_is_0(count):
    same = moments_of(features(count, seed=1))
    assert 0 <= frechet_distance(same, same) < 1e-8


def test_the_number_of_threads_is_restored(monkeypatch):
    before, seen = torch.get_num_threads(), []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: seen.append(torch.get_num_threads()) or eigh(matrix))
    torch.set_num_threads(3)
    try:
        same = moments_of(features(20, seed=1))
        frechet_distance(same, same)
        assert (seen, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(before)


def test_constant_features_work():
    constant = moments_of(np.ones((5, FEATURES)))
    varied = features(50, seed=1)
    expected = ((varied.mean(axis=0) - 1) ** 2).sum() + varied.var(axis=0, ddof=1).sum()
    assert frechet_distance(constant, moments_of(varied)) == pytest.approx(expected, rel=1e-10)
