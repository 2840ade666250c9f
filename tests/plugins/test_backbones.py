"""What the backbones have in common; the checks that every plugin runs, at more sizes and with more weights awake."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from ddpmkit.contracts import ImageShape
from ddpmkit_plugins.adm_unet import AdmUnetConfig
from ddpmkit_plugins.adm_unet.unet import AdmUnet
from ddpmkit_plugins.attention_unet import AttentionUnetConfig
from ddpmkit_plugins.attention_unet.unet import AttentionUnet
from ddpmkit_plugins.diffusers_unet import DiffusersUnetConfig
from ddpmkit_plugins.diffusers_unet.unet import DiffusersUnet
from ddpmkit_plugins.dit import DitConfig
from ddpmkit_plugins.dit.transformer import Dit

SHAPE = ImageShape(3, 16, 16)
Build = Callable[..., nn.Module]
BACKBONES: dict[str, Build] = {
    "adm-unet": lambda **runtime: AdmUnet(
        AdmUnetConfig(dim=16, multipliers=(1, 2), blocks=1, attention_levels=(1,), head_dim=16), **runtime
    ),
    # dim 16: a group of one channel would cancel the bias of the convolution before it.
    "attention-unet": lambda **runtime: AttentionUnet(AttentionUnetConfig(dim=16), **runtime),
    "diffusers-unet": lambda **runtime: DiffusersUnet(
        DiffusersUnetConfig(
            block_out_channels=(16, 32, 32), layers_per_block=1, attention_levels=(1,), attention_head_dim=16
        ),
        **runtime,
    ),
    "dit": lambda **runtime: Dit(DitConfig(depth=2, dim=32, heads=2), **runtime),
}


@pytest.fixture(params=BACKBONES)
def build(request: pytest.FixtureRequest) -> Build:
    """A backbone for images of this shape, with the same weights each time."""

    def build(shape: ImageShape = SHAPE, num_classes: int = 0, out_channels: int = 3) -> nn.Module:
        torch.manual_seed(0)
        return BACKBONES[request.param](image_shape=shape, num_classes=num_classes, out_channels=out_channels)

    return build


def awake(network: nn.Module) -> nn.Module:
    """Much of it starts at zero: nudge every weight, so that something can be seen."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return network


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 12), (36, 36), (20, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_from_eight_up_keeps_its_shape(build: Build, height: int, width: int, channels: int) -> None:
    shape = ImageShape(channels, height, width)
    out = build(shape, out_channels=2 * channels)(torch.randn(2, *shape), torch.tensor([0, 49]), None)
    assert out.shape == (2, 2 * channels, height, width)


def test_it_starts_by_predicting_zero(build: Build) -> None:
    assert torch.count_nonzero(build()(torch.randn(2, *SHAPE), torch.tensor([0, 9]), None)) == 0


def test_images_of_a_batch_do_not_see_each_other(build: Build) -> None:
    network = awake(build())
    x, t = torch.randn(3, *SHAPE), torch.tensor([1, 20, 40])
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1], None) for i in range(3)])
    torch.testing.assert_close(network(x, t, None), alone, rtol=1e-4, atol=1e-5)


def test_time_and_label_matter_and_gradients_reach_every_weight(build: Build) -> None:
    network = awake(build(num_classes=2))
    x, t, label = torch.randn(3, *SHAPE), torch.tensor([1, 20, 40]), torch.tensor([0, 1, 2])
    out = network(x, t, label)
    assert not torch.allclose(out, network(x, t.flip(0), label))
    assert not torch.allclose(out, network(x, t, label.flip(0)))
    out.square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name


def test_no_label_is_the_label_beyond_the_last(build: Build) -> None:
    network = awake(build(num_classes=3))
    x, t = torch.randn(2, *SHAPE), torch.tensor([1, 40])
    untold = network(x, t, None)
    assert torch.equal(untold, network(x, t, torch.tensor([3, 3])))
    assert not torch.allclose(untold, network(x, t, torch.tensor([2, 2])))


def test_labels_are_ignored_where_there_are_no_classes(build: Build) -> None:
    network = awake(build())
    x, t = torch.randn(2, *SHAPE), torch.tensor([3, 40])
    assert torch.equal(network(x, t, torch.tensor([0, 1])), network(x, t, None))
