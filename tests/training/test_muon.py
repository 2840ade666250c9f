"""Muon against the singular value decomposition, torch's own Muon, and a hand-written step."""

import pytest
import torch
from torch import nn

from ddpmkit.training.muon import Muon, is_matrix, orthogonalized


def test_all_singular_values_come_near_1_and_the_directions_stay() -> None:
    draw = torch.Generator().manual_seed(0)
    matrices = [torch.randn(shape, generator=draw) for shape in [(16, 16), (96, 24), (16, 144), (24, 25)]]
    for matrix, found in zip(matrices, orthogonalized(matrices), strict=True):
        assert found.shape == matrix.shape
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        values = u.T @ found @ v.T
        # Jordan et al. (2024): their coefficients trade exactness for speed; values end in 0.68 .. 1.13.
        assert values.diagonal().min() > 0.6
        assert values.diagonal().max() < 1.3
        assert (values - values.diagonal().diag()).abs().max() < 1e-3


def test_only_what_maps_features_to_features_is_a_matrix() -> None:
    assert is_matrix(nn.Conv2d(16, 32, 3).weight)
    assert is_matrix(nn.Linear(64, 32).weight)
    assert not is_matrix(nn.Conv2d(3, 16, 7).weight)
    assert not is_matrix(nn.Conv2d(16, 3, 1).weight)
    assert not is_matrix(nn.GroupNorm(8, 16).weight)


def test_it_walks_as_torchs_muon_does() -> None:
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 24 * 40).sin().view(24, 40)) for _ in range(2))
    mine = Muon([ours], lr=0.02, weight_decay=0.1)
    # Theirs orthogonalizes in bfloat16.
    other = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        draw = torch.Generator().manual_seed(step)
        ours.grad = theirs.grad = torch.randn(24, 40, generator=draw)
        mine.step()
        other.step()
    moved = (theirs - torch.linspace(-1, 1, 24 * 40).sin().view(24, 40)).norm()
    assert (ours - theirs).norm() < 0.02 * moved


def test_a_filter_is_one_row_of_its_matrix() -> None:
    """A convolution moves as the matrix [outputs, inputs times pixels] does, in whatever order memory has it."""
    weight = torch.randn(8, 12, 3, 3, generator=torch.Generator().manual_seed(0))
    flat, plain = nn.Parameter(weight.permute(0, 2, 3, 1).flatten(1).clone()), nn.Parameter(weight.clone())
    packed = nn.Parameter(weight.clone(memory_format=torch.channels_last))
    for each in (flat, plain, packed):
        each.grad = each.detach().square()
        Muon([each], lr=0.1).step()
    expected = flat.view(8, 3, 3, 12).permute(0, 3, 1, 2)
    torch.testing.assert_close(plain, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-6)
    assert packed.is_contiguous(memory_format=torch.channels_last)


def test_a_step_has_a_fifth_of_the_learning_rate_as_its_root_mean_square() -> None:
    weight = nn.Parameter(torch.zeros(64, 256))
    weight.grad = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    Muon([weight], lr=0.01).step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)
