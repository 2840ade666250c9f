import math
from collections.abc import Iterator

import pytest
import torch
from diffusers import UNet2DModel
from pydantic import ValidationError
from torch import nn

from ddpmkit.contracts import ImageShape
from ddpmkit_plugins.adm_unet import AdmUnetConfig
from ddpmkit_plugins.adm_unet.blocks import ResidualBlock, SelfAttention, Stage
from ddpmkit_plugins.adm_unet.unet import AdmUnet

SMALL = AdmUnetConfig(dim=16, multipliers=(1, 2), blocks=1, attention_levels=(1,), head_dim=16)
SHAPE = ImageShape(3, 16, 16)


def unet(config: AdmUnetConfig = SMALL, shape: ImageShape = SHAPE, num_classes: int = 0, out: int = 3) -> AdmUnet:
    torch.manual_seed(0)
    return AdmUnet(config, image_shape=shape, num_classes=num_classes, out_channels=out)


def with_nonzero_weights(network: AdmUnet) -> AdmUnet:
    """Add noise to all weights, because many are initialized to 0."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return network


@pytest.mark.parametrize(
    ("millions", "keys"),
    [
        (296, {"dim": 192, "multipliers": (1, 2, 3, 4), "blocks": 3, "attention_levels": (1, 2, 3)}),
        (422, {"dim": 256, "multipliers": (1, 1, 2, 3, 4), "attention_levels": (2, 3, 4)}),
        (554, {"dim": 256, "multipliers": (1, 1, 2, 2, 4, 4), "attention_levels": (3, 4, 5)}),
    ],
    ids=["ImageNet-64", "ImageNet-128", "ImageNet-256"],
)
def test_it_has_as_many_parameters_as_the_networks_of_the_paper(millions: int, keys: dict[str, object]) -> None:
    # Dhariwal & Nichol (2021), appendix I: the networks with labels and 6 output channels.
    with torch.device("meta"):
        network = AdmUnet(
            AdmUnetConfig(groups=32, **keys),  # type: ignore[arg-type]
            image_shape=ImageShape(3, 64, 64),
            num_classes=1000,
            out_channels=6,
        )
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6) == millions


def part(layer: nn.Conv2d, index: int) -> nn.Conv2d:
    """The convolution for queries (0), keys (1) or values (2)."""
    third = nn.Conv2d(layer.in_channels, layer.out_channels // 3, 1)
    third.weight.data, third.bias.data = layer.weight.chunk(3)[index], layer.bias.chunk(3)[index]  # type: ignore[union-attr]
    return third


def pairs(ours: AdmUnet, theirs: UNet2DModel) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Pairs of corresponding layers with weights."""
    yield from ((ours.time[1], theirs.time_embedding.linear_1), (ours.time[3], theirs.time_embedding.linear_2))
    yield from ((ours.stem, theirs.conv_in), (ours.norm, theirs.conv_norm_out), (ours.out, theirs.conv_out))
    yield ours.label, theirs.class_embedding

    their_blocks: list[nn.Module] = []
    their_attentions: list[nn.Module] = []
    for level in theirs.down_blocks:
        their_blocks += [*level.resnets, *(level.downsamplers or ())]
        their_attentions += getattr(level, "attentions", ())
    their_blocks += theirs.mid_block.resnets
    their_attentions += theirs.mid_block.attentions
    for level in theirs.up_blocks:
        their_blocks += [*level.resnets, *(level.upsamplers or ())]
        their_attentions += getattr(level, "attentions", ())

    our_blocks = [module for module in ours.modules() if isinstance(module, ResidualBlock)]
    for our, their in zip(our_blocks, their_blocks, strict=True):
        yield from ((our.norm1, their.norm1), (our.conv1, their.conv1), (our.norm2, their.norm2))
        yield from ((our.conv2, their.conv2), (our.scale_shift, their.time_emb_proj))
        if isinstance(our.skip, nn.Conv2d):
            yield our.skip, their.conv_shortcut
    our_attentions = [module for module in ours.modules() if isinstance(module, SelfAttention)]
    for attention, their in zip(our_attentions, their_attentions, strict=True):
        yield attention.norm, their.group_norm
        yield attention.to_out, their.to_out[0]
        for index, layer in enumerate((their.to_q, their.to_k, their.to_v)):
            yield part(attention.to_qkv, index), layer


def test_it_equals_the_same_network_of_diffusers() -> None:
    config = AdmUnetConfig(dim=16, multipliers=(1, 2, 3), blocks=2, attention_levels=(1, 2), head_dim=16, groups=4)
    ours = with_nonzero_weights(unet(config, num_classes=4)).eval()
    theirs = UNet2DModel(
        in_channels=3,
        out_channels=3,
        block_out_channels=(16, 32, 48),
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=16,
        norm_num_groups=4,
        attn_norm_num_groups=4,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=5,
    ).eval()
    with torch.no_grad():
        for our, their in pairs(ours, theirs):
            for name, weight in their.named_parameters():
                weight.copy_(our.get_parameter(name).reshape(weight.shape))
        x, t, label = torch.randn(2, 3, 16, 24), torch.tensor([3, 700]), torch.tensor([0, 2])
        expected = theirs(x, t, label).sample
        assert float(expected.std()) > 0.1
        torch.testing.assert_close(ours(x, t, label), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("levels", [(), (0,), (1, 2)])
def test_the_chosen_levels_and_the_middle_have_attention(levels: tuple[int, ...]) -> None:
    config = AdmUnetConfig(dim=16, multipliers=(1, 2, 2), blocks=2, attention_levels=levels, head_dim=16)
    network = unet(config, ImageShape(3, 32, 32))
    seen: list[int] = []
    for module in network.modules():
        if isinstance(module, SelfAttention):
            module.register_forward_hook(lambda _module, inputs, _out: seen.append(inputs[0].shape[-1]))
    network(torch.randn(1, 3, 32, 32), torch.tensor([3]), None)
    expected = [32 >> level for level in levels for _ in range(2 + 3)]  # two in the encoder, three in the decoder
    assert sorted(seen) == sorted([*expected, 8])


def test_attention_has_heads_of_head_dim_channels() -> None:
    heads = {module.heads for module in unet(AdmUnetConfig()).modules() if isinstance(module, SelfAttention)}
    assert heads == {1, 2}  # of 64 channels each, at widths 64 and 128


def test_attention_with_two_heads_equals_the_formula() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(8, head_dim=4, groups=2)
    layer.to_out = nn.Identity()  # type: ignore[assignment]
    x = torch.randn(1, 8, 3, 5)
    q, k, v = (part.reshape(2, 4, 15) for part in layer.to_qkv(layer.norm(x))[0].flatten(1).chunk(3))
    heads = [v[head] @ torch.softmax(q[head].T @ k[head] / math.sqrt(4), dim=1).T for head in range(2)]
    torch.testing.assert_close(layer(x), x + torch.cat(heads).reshape(1, 8, 3, 5), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("resample", "expected"), [("down", [[2.5]]), ("up", None), (None, None)])
def test_a_new_block_returns_its_skip(resample: str | None, expected: list[list[float]] | None) -> None:
    block = ResidualBlock(8, 8, time_dim=4, groups=4, dropout=0.0, resample=resample)  # type: ignore[arg-type]
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).expand(1, 8, 2, 2)
    out = block(x, torch.randn(1, 4))
    if resample == "up":
        expected = [[1.0, 1.0, 2.0, 2.0]] * 2 + [[3.0, 3.0, 4.0, 4.0]] * 2
    assert out[0, 0].tolist() == (expected or x[0, 0].tolist())


def test_adaptive_group_norm_multiplies_by_1_plus_scale_and_adds_shift() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(8, 8, time_dim=4, groups=4, dropout=0.0)
    nn.init.normal_(block.conv2.weight)
    nn.init.zeros_(block.scale_shift.weight)
    with torch.no_grad():
        block.scale_shift.bias.copy_(torch.cat([torch.full((8,), 0.5), torch.full((8,), 2.0)]))
    x = torch.randn(1, 8, 6, 6)
    silu = nn.functional.silu
    inner = silu(1.5 * block.norm2(block.conv1(silu(block.norm1(x)))) + 2.0)
    torch.testing.assert_close(block(x, torch.zeros(1, 4)), x + block.conv2(inner))


def test_dropout_applies_in_training_only() -> None:
    network = with_nonzero_weights(unet(SMALL.model_copy(update={"dropout": 0.5})))
    x, t = torch.randn(1, *SHAPE), torch.tensor([3])
    assert not torch.equal(network(x, t), network(x, t))
    network.eval()
    assert torch.equal(network(x, t), network(x, t))
    assert torch.equal(with_nonzero_weights(unet())(x, t), network(x, t))


def test_the_decoder_uses_skips_in_reverse_order() -> None:
    # The first stage of the decoder receives the widest skip, the last one the skip of the stem.
    network = unet(AdmUnetConfig(dim=8, multipliers=(1, 2, 3), blocks=1, attention_levels=(), head_dim=8, groups=4))
    taken = [part.block.conv1.in_channels for part in network.up if isinstance(part, Stage)]
    assert taken == [24 + 24, 24 + 16, 24 + 16, 16 + 8, 16 + 8, 8 + 8]


def test_the_time_embedding_is_cosines_then_sines() -> None:
    embedding = unet().time[0](torch.tensor([0, 3]))
    assert embedding[0].tolist() == [1.0] * 8 + [0.0] * 8
    assert embedding[1, 8].item() == pytest.approx(math.sin(3))
    assert embedding[1, 15].item() == pytest.approx(math.sin(3 * 10_000 ** (-7 / 8)), rel=1e-5)


@pytest.mark.parametrize(
    "keys",
    [
        {"dim": 12},
        {"multipliers": (1, 0)},
        {"multipliers": ()},
        {"attention_levels": (3,)},
        {"attention_levels": (0,)},  # 32 channels are less than a head of 64
        {"multipliers": (1, 2, 3)},  # 96 channels in the middle are not a multiple of 64
        {"groups": 5},
        {"groups": 32},
        {"dropout": 1.0},
    ],
)
def test_an_invalid_config_is_rejected(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AdmUnetConfig(**keys)  # type: ignore[arg-type]
