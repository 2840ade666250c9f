import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ddpmkit.contracts import ImageShape
from ddpmkit_plugins.attention_unet import AttentionUnetConfig
from ddpmkit_plugins.attention_unet.attention import LinearAttention
from ddpmkit_plugins.attention_unet.blocks import ResidualBlock, WeightStandardizedConv2d
from ddpmkit_plugins.attention_unet.unet import AttentionUnet


def unet(shape: ImageShape, config: AttentionUnetConfig | None = None, num_classes: int = 0) -> AttentionUnet:
    torch.manual_seed(0)
    config = config or AttentionUnetConfig(dim=8)
    return AttentionUnet(config, image_shape=shape, num_classes=num_classes, out_channels=shape.channels)


def test_it_has_as_many_parameters_as_the_original_network() -> None:
    config = AttentionUnetConfig(dim=16, linear_attention_levels=(0, 1, 2, 3))
    parameters = sum(weight.numel() for weight in unet(ImageShape(3, 32, 32), config).parameters())
    assert parameters == pytest.approx(2.47e6, rel=0.005)


@pytest.mark.parametrize("levels", [(), (0,), (1, 3), (0, 1, 2, 3)])
def test_the_chosen_levels_have_linear_attention(levels: tuple[int, ...]) -> None:
    network = unet(ImageShape(3, 32, 32), AttentionUnetConfig(dim=8, linear_attention_levels=levels))
    seen: dict[int, int] = {}
    for module in network.modules():
        if isinstance(module, LinearAttention):
            module.register_forward_hook(
                lambda _module, inputs, _out: seen.update({inputs[0].shape[-1]: seen.get(inputs[0].shape[-1], 0) + 1})
            )
    network(torch.randn(1, 3, 32, 32), torch.tensor([3]), None)
    assert seen == {32 >> level: 2 for level in levels}


def test_convolution_filters_are_standardized() -> None:
    torch.manual_seed(0)
    conv = WeightStandardizedConv2d(6, 4, 3, padding=1)
    x = torch.randn(2, 6, 8, 8)
    weight = conv.weight.detach().double()
    mean = weight.mean(dim=(1, 2, 3), keepdim=True)
    std = (weight.var(dim=(1, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = torch.nn.functional.conv2d(x.double(), (weight - mean) / std, conv.bias.detach().double(), padding=1)  # type: ignore[union-attr]
    torch.testing.assert_close(conv(x).double(), expected, rtol=1e-5, atol=1e-5)


def test_film_multiplies_by_1_plus_scale_and_adds_shift() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(8, 8, time_dim=4, groups=8)
    nn.init.zeros_(block.film.weight)
    with torch.no_grad():
        block.film.bias.copy_(torch.cat([torch.full((8,), 0.5), torch.full((8,), 2.0)]))
    x = torch.randn(1, 8, 6, 6)
    silu = torch.nn.functional.silu
    inner = silu(1.5 * block.norm1(block.conv1(x)) + 2.0)
    expected = silu(block.norm2(block.conv2(inner))) + x
    torch.testing.assert_close(block(x, torch.zeros(1, 4)), expected)


def test_linear_attention_equals_the_formula_of_efficient_attention() -> None:
    torch.manual_seed(0)
    layer = LinearAttention(8, heads=2, head_dim=4)
    layer.norm_out = nn.Identity()  # type: ignore[assignment]
    x = torch.randn(1, 8, 3, 5)
    pixels = layer.norm(x).flatten(2).transpose(1, 2)
    qkv = torch.cat([project(pixels) for project in (layer.to_q, layer.to_k, layer.to_v)], dim=2)[0].T
    q, k, v = (part.reshape(2, 4, 15) for part in qkv.chunk(3, dim=0))
    expected = torch.zeros(2, 4, 15)
    for head in range(2):
        for pixel in range(15):
            weights = torch.softmax(k[head], dim=1) @ v[head].T
            expected[head, :, pixel] = torch.softmax(q[head, :, pixel], dim=0) / math.sqrt(4) @ weights
    projected = layer.to_out(expected.reshape(8, 15).T).T.reshape(1, 8, 3, 5)
    torch.testing.assert_close(layer(x), x + projected, rtol=1e-5, atol=1e-5)


def test_the_time_embedding_is_sines_then_cosines_down_to_1_over_10000() -> None:
    embedding = unet(ImageShape(3, 8, 8), AttentionUnetConfig(dim=16)).time[0](torch.tensor([0, 3]))
    assert embedding[0].tolist() == [0.0] * 8 + [1.0] * 8
    assert embedding[1, 0].item() == pytest.approx(math.sin(3))
    assert embedding[1, 7].item() == pytest.approx(math.sin(3 / 10_000), rel=1e-5)


@pytest.mark.parametrize(
    "keys", [{"dim": 12}, {"dim": 0}, {"linear_attention_levels": (4,)}, {"multipliers": (1, 0)}, {"groups": 5}]
)
def test_an_invalid_config_is_rejected(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AttentionUnetConfig(**keys)  # type: ignore[arg-type]
