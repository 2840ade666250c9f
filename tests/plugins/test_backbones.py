"""What all backbones must do, at more sizes than the conformance checks and with all weights nonzero."""

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
    """Build a backbone with the same weights in each call."""

    def build(shape: ImageShape = SHAPE, num_classes: int = 0, out_channels: int = 3) -> nn.Module:
        torch.manual_seed(0)
        return BACKBONES[request.param](image_shape=shape, num_classes=num_classes, out_channels=out_channels)

    return build


def with_nonzero_weights(network: nn.Module) -> nn.Module:
    """Add noise to all weights, because many are initialized to 0."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return network


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 12), (36, 36), (20, 33)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_output_has_the_size_of_the_input(build: Build, height: int, width: int, channels: int) -> None:
    shape = ImageShape(channels, height, width)
    out = build(shape, out_channels=2 * channels)(torch.randn(2, *shape), torch.tensor([0, 49]), None)
    assert out.shape == (2, 2 * channels, height, width)


def test_a_new_network_predicts_zero(build: Build) -> None:
    assert torch.count_nonzero(build()(torch.randn(2, *SHAPE), torch.tensor([0, 9]), None)) == 0


def test_images_of_a_batch_are_independent(build: Build) -> None:
    network = with_nonzero_weights(build())
    x, t = torch.randn(3, *SHAPE), torch.tensor([1, 20, 40])
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1], None) for i in range(3)])
    torch.testing.assert_close(network(x, t, None), alone, rtol=1e-4, atol=1e-5)


def test_t_and_label_have_an_effect_and_every_weight_has_a_gradient(build: Build) -> None:
    network = with_nonzero_weights(build(num_classes=2))
    x, t, label = torch.randn(3, *SHAPE), torch.tensor([1, 20, 40]), torch.tensor([0, 1, 2])
    out = network(x, t, label)
    assert not torch.allclose(out, network(x, t.flip(0), label))
    assert not torch.allclose(out, network(x, t, label.flip(0)))
    out.square().sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name


def test_no_label_means_the_null_label(build: Build) -> None:
    network = with_nonzero_weights(build(num_classes=3))
    x, t = torch.randn(2, *SHAPE), torch.tensor([1, 40])
    unconditional = network(x, t, None)
    assert torch.equal(unconditional, network(x, t, torch.tensor([3, 3])))
    assert not torch.allclose(unconditional, network(x, t, torch.tensor([2, 2])))


def test_an_unconditional_network_ignores_labels(build: Build) -> None:
    network = with_nonzero_weights(build())
    x, t = torch.randn(2, *SHAPE), torch.tensor([3, 40])
    assert torch.equal(network(x, t, torch.tensor([0, 1])), network(x, t, None))
