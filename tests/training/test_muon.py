"""Muon, compared with the singular value decomposition and with torch's own Muon."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from ddpmkit.contracts import ImageShape
from ddpmkit.training import muon
from ddpmkit.training.muon import Muon, hidden_matrices, orthogonalize
from ddpmkit_plugins.adm_unet import AdmUnetConfig
from ddpmkit_plugins.adm_unet.unet import AdmUnet
from ddpmkit_plugins.attention_unet import AttentionUnetConfig
from ddpmkit_plugins.attention_unet.unet import AttentionUnet
from ddpmkit_plugins.diffusers_unet import DiffusersUnetConfig
from ddpmkit_plugins.diffusers_unet.unet import DiffusersUnet
from ddpmkit_plugins.dit import DitConfig
from ddpmkit_plugins.dit.transformer import Dit

RATE, YES = torch.tensor(0.1), torch.tensor(True)


@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e4])
def test_singular_values_come_into_the_stated_interval_and_singular_vectors_stay(magnitude: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in [(2, 16, 16), (3, 96, 24), (2, 16, 144), (1, 128, 130)]:
        u, _, v = torch.linalg.svd(torch.randn(shape, generator=generator, dtype=torch.float64), full_matrices=False)
        before = torch.logspace(0, -4, min(shape[1:]), dtype=torch.float64) * magnitude
        [found] = orthogonalize([(u * before @ v).float()], [1.0], torch.tensor(1.0))
        assert found.shape == shape
        in_basis = u.mT @ found.double() @ v.mT
        after = in_basis.diagonal(dim1=1, dim2=2)
        assert (in_basis - torch.diag_embed(after)).abs().max() < 1e-3
        relative = before / before.pow(8).sum().pow(1 / 8)
        is_large = relative > 0.0121
        assert after[:, is_large].min() > 0.7
        assert after[:, is_large].max() < 1.3
        factors = after[:, ~is_large] / relative[~is_large]
        assert factors.min() > 58
        assert factors.max() < 62


@pytest.mark.parametrize("rank", [1, 24])
def test_equal_singular_values_come_into_the_stated_interval(rank: int) -> None:
    """With one singular value their bound is reached; with many equal ones the bound is far away."""
    q = torch.linalg.qr(torch.randn(40, 24, generator=torch.Generator().manual_seed(0))).Q
    q[:, rank:] = 0
    [found] = orthogonalize([q[None]], [1.0], torch.tensor(1.0))
    factor = (found[0] * q).sum() / rank
    assert 0.7 < factor < 1.3
    torch.testing.assert_close(found[0], factor * q)


@pytest.mark.parametrize("magnitude", [0.0, 1e-20, 1e-12])
def test_a_matrix_that_is_almost_zero_has_a_small_update(magnitude: float) -> None:
    x = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0)) * magnitude
    [found] = orthogonalize([x], [1.0], torch.tensor(1.0))
    assert found.isfinite().all()
    assert found.norm() < 1e-3
    assert found.any() == (magnitude > 0)


def found_in(network: nn.Module) -> set[str]:
    """The names of the weights that Muon updates."""
    hidden = hidden_matrices(network)
    return {name for name, weight in network.named_parameters() if any(weight is each for each in hidden)}


class Layers(nn.Module):
    """One layer of each kind; a backbone that does not name its outer layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.hidden, self.last = nn.Conv2d(3, 16, 7), nn.Conv2d(16, 32, 3), nn.Conv2d(16, 3, 1)
        self.linear, self.up = nn.Linear(64, 32), nn.ConvTranspose2d(32, 16, 2)
        self.label, self.norm = nn.Embedding(200, 64), nn.GroupNorm(8, 16)
        self.attention = nn.MultiheadAttention(32, 4)
        self.tied_embedding, self.tied = nn.Embedding(48, 32), nn.Linear(32, 48)
        self.tied.weight = self.tied_embedding.weight
        self.position = nn.Parameter(torch.zeros(16, 64))


def test_muon_updates_linear_maps_and_convolutions_but_no_embeddings() -> None:
    attention = {"attention.in_proj_weight", "attention.out_proj.weight"}
    assert found_in(Layers()) == {"hidden.weight", "linear.weight", "up.weight"} | attention


def test_outer_layers_that_a_backbone_names_are_left_to_adam() -> None:
    class Named(Layers):
        def outer_layers(self) -> list[nn.Module]:
            return [self.hidden, self.linear]

    assert found_in(Layers()) - found_in(Named()) == {"hidden.weight", "linear.weight"}


def by_shape(network: nn.Module) -> set[str]:
    """What earlier versions chose: the weights with 8 or more rows and columns."""
    return {name for name, p in network.named_parameters() if p.ndim >= 2 and min(p.shape[:2]) >= 8}


SHAPE = ImageShape(3, 32, 32)
BACKBONES: dict[str, tuple[Callable[..., nn.Module], dict[str, str]]] = {
    "attention-unet": (partial(AttentionUnet, AttentionUnetConfig(dim=16)), {"stem": "stem", "label": "label"}),
    "adm-unet": (partial(AdmUnet, AdmUnetConfig(dim=32)), {"label": "label"}),
    "diffusers-unet": (partial(DiffusersUnet, DiffusersUnetConfig()), {"label": "unet.class_embedding"}),
    "dit": (partial(Dit, DitConfig(dim=32, depth=2, heads=2)), {"label": "label"}),
}


@pytest.mark.parametrize("classes", [0, 3, 12])
@pytest.mark.parametrize("out_channels", [3, 6])
@pytest.mark.parametrize("name", BACKBONES)
def test_first_and_last_layers_and_labels_of_the_backbones_are_left_to_adam(
    name: str, classes: int, out_channels: int
) -> None:
    """The choice by shape included DiT's last layer and every embedding of 8 or more labels; otherwise it was right."""
    build, known = BACKBONES[name]
    network = build(image_shape=SHAPE, num_classes=classes, out_channels=out_channels)
    wrong = {"final.linear.weight"} if name == "dit" else set()
    if classes + 1 >= 8:
        wrong.add(f"{known['label']}.weight")
    assert wrong <= by_shape(network)
    assert found_in(network) == by_shape(network) - wrong
    weights = dict(network.named_parameters())
    left = [weights[each] for each in weights.keys() - found_in(network) if weights[each].ndim >= 2]
    # Apart from the labels, only the first and the last layer.
    assert len(left) == 2 + (classes > 0)


def test_steps_are_those_of_torchs_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coefficients differ, so both orthogonalize exactly: by further rounds, which converge to 1."""
    # The Taylor series of g^(-1/2) around 1.
    exact = (315 / 128, -420 / 128, 378 / 128, -180 / 128, 35 / 128)
    monkeypatch.setattr(muon, "_ROUNDS", (*muon._ROUNDS, exact, exact))
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 24 * 40).sin().view(24, 40)) for _ in range(2))
    mine = Muon([ours], weight_decay=0.1)
    # torch's Muon orthogonalizes in bfloat16.
    other = torch.optim.Muon(
        [theirs],
        lr=0.02,
        weight_decay=0.1,
        ns_coefficients=(15 / 8, -10 / 8, 3 / 8),
        ns_steps=15,
        adjust_lr_fn="match_rms_adamw",
    )
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        ours.grad = theirs.grad = torch.randn(24, 40, generator=generator)
        mine.update(torch.tensor(0.02), YES)
        other.step()
    moved = (theirs - torch.linspace(-1, 1, 24 * 40).sin().view(24, 40)).norm()
    assert (ours - theirs).norm() < 0.02 * moved


def test_a_convolution_is_a_matrix_with_one_row_for_each_filter() -> None:
    """A convolution is updated like the matrix [outputs, inputs times pixels], in any memory format."""
    weight = torch.randn(8, 12, 3, 3, generator=torch.Generator().manual_seed(0))
    flat, plain = nn.Parameter(weight.permute(0, 2, 3, 1).flatten(1).clone()), nn.Parameter(weight.clone())
    packed = nn.Parameter(weight.clone(memory_format=torch.channels_last))
    for each in (flat, plain, packed):
        each.grad = each.detach().square()
        Muon([each]).update(RATE, YES)
    expected = flat.view(8, 3, 3, 12).permute(0, 3, 1, 2)
    torch.testing.assert_close(plain, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(packed, expected, rtol=1e-5, atol=1e-6)
    assert packed.is_contiguous(memory_format=torch.channels_last)


def test_the_root_mean_square_of_a_step_is_a_fifth_of_the_learning_rate() -> None:
    weight = nn.Parameter(torch.zeros(64, 256))
    weight.grad = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    Muon([weight]).update(torch.tensor(0.01), YES)
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)


def test_a_weight_without_a_gradient_is_left_alone() -> None:
    weights = [nn.Parameter(torch.linspace(-1, 1, 128).sin().view(8, 16) * factor) for factor in (1, 2, 3)]
    alone = nn.Parameter(weights[2].detach().clone())
    together, single = Muon(weights, weight_decay=0.1), Muon([alone], weight_decay=0.1)
    before = weights[1].detach().clone()
    for weight in (weights[0], weights[2], alone):
        weight.grad = torch.linspace(0, 5, 128).cos().view(8, 16)
    for _ in range(2):
        together.update(RATE, YES)
        single.update(RATE, YES)
    assert torch.equal(weights[1], before)
    assert not together.momentum[weights[1]].any()
    torch.testing.assert_close(weights[2], alone)
    torch.testing.assert_close(together.momentum[weights[2]], single.momentum[alone])
