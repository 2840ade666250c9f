import math

import numpy as np
import pytest
import torch
from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import Timesteps
from pydantic import ValidationError

from ddpmkit.contracts import ImageShape
from ddpmkit_plugins.dit import DitConfig
from ddpmkit_plugins.dit.blocks import Block
from ddpmkit_plugins.dit.embeddings import TimeEmbedding, grid_embedding
from ddpmkit_plugins.dit.transformer import Dit

SMALL = DitConfig(depth=2, dim=32, heads=2)
SHAPE = ImageShape(3, 16, 16)


def dit(config: DitConfig = SMALL, shape: ImageShape = SHAPE, num_classes: int = 0, out: int = 3) -> Dit:
    torch.manual_seed(0)
    return Dit(config, image_shape=shape, num_classes=num_classes, out_channels=out)


def with_nonzero_weights(network: Dit) -> Dit:
    """Add noise to all weights, because many are initialized to 0."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return network


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 12), (36, 36), (20, 33)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_the_output_has_the_size_of_the_input(height: int, width: int, channels: int, patch_size: int) -> None:
    shape = ImageShape(channels, height, width)
    network = dit(SMALL.model_copy(update={"patch_size": patch_size}), shape, out=2 * channels)
    assert network(torch.randn(2, *shape), torch.tensor([0, 49])).shape == (2, 2 * channels, height, width)


@pytest.mark.parametrize(
    ("millions", "depth", "dim", "heads"),
    [(33, 12, 384, 6), (130, 12, 768, 12), (458, 24, 1024, 16), (675, 28, 1152, 16)],
    ids=["DiT-S/2", "DiT-B/2", "DiT-L/2", "DiT-XL/2"],
)
def test_it_has_as_many_parameters_as_in_the_paper(millions: int, depth: int, dim: int, heads: int) -> None:
    # Peebles & Xie (2023), tables 1 and 4: 4 latent channels, 8 output channels, 1000 classes, patch size 2.
    with torch.device("meta"):
        network = Dit(
            DitConfig(depth=depth, dim=dim, heads=heads),
            image_shape=ImageShape(4, 32, 32),
            num_classes=1000,
            out_channels=8,
        )
    counted = sum(weight.numel() for weight in network.parameters())
    block = (4 * dim * dim + 4 * dim) + (8 * dim * dim + 5 * dim) + (6 * dim * dim + 6 * dim)
    patches, time, classes = (16 + 1) * dim, (256 + 1) * dim + (dim + 1) * dim, 1001 * dim
    assert counted == depth * block + patches + time + classes + (2 * dim * dim + 2 * dim) + (dim + 1) * 32
    assert round(counted / 1e6) == millions


def test_it_equals_the_transformer_of_diffusers() -> None:
    ours = with_nonzero_weights(dit(DitConfig(depth=2, dim=32, heads=4), num_classes=5, out=6)).eval()
    theirs = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=3,
        out_channels=6,
        num_layers=2,
        sample_size=16,
        num_embeds_ada_norm=5,
        norm_eps=1e-6,
    ).eval()
    assert ours.label is not None
    with torch.no_grad():
        theirs.pos_embed.proj.load_state_dict(ours.patches.state_dict())
        theirs.proj_out_1.load_state_dict(ours.final.modulation.linear.state_dict())
        theirs.proj_out_2.load_state_dict(ours.final.linear.state_dict())
        for our, their in zip(ours.blocks, theirs.transformer_blocks, strict=True):
            assert isinstance(our, Block)
            # Each block of diffusers embeds t and label itself, at other frequencies than the code of the paper.
            their.norm1.emb.time_proj = Timesteps(256, flip_sin_to_cos=True, downscale_freq_shift=0)
            their.norm1.emb.timestep_embedder.linear_1.load_state_dict(ours.time.layers[0].state_dict())
            their.norm1.emb.timestep_embedder.linear_2.load_state_dict(ours.time.layers[2].state_dict())
            their.norm1.emb.class_embedder.embedding_table.load_state_dict(ours.label.state_dict())
            their.norm1.linear.load_state_dict(our.modulation.linear.state_dict())
            for part, layer in enumerate((their.attn1.to_q, their.attn1.to_k, their.attn1.to_v)):
                layer.weight.copy_(our.attention.to_qkv.weight.chunk(3)[part])
                layer.bias.copy_(our.attention.to_qkv.bias.chunk(3)[part])
            their.attn1.to_out[0].load_state_dict(our.attention.to_out.state_dict())
            their.ff.net[0].proj.load_state_dict(our.feed_forward[0].state_dict())
            their.ff.net[2].load_state_dict(our.feed_forward[2].state_dict())
        x, t, label = torch.randn(2, *SHAPE), torch.tensor([3, 700]), torch.tensor([0, 5])
        expected = theirs(x, t, label).sample
        assert float(expected.std()) > 0.1
        torch.testing.assert_close(ours(x, t, label), expected, rtol=1e-5, atol=3e-5)


def test_a_new_block_is_the_identity_and_a_new_network_predicts_zero() -> None:
    network = dit()
    tokens, condition = torch.randn(2, 7, 32), torch.randn(2, 32)
    for block in network.blocks:
        assert torch.equal(block(tokens, condition), tokens)
    assert torch.count_nonzero(network(torch.randn(2, *SHAPE), torch.tensor([0, 9]))) == 0


def test_initial_weights_have_the_deviation_of_the_code_of_the_paper() -> None:
    network = dit(DitConfig(depth=1, dim=128), num_classes=50)
    assert network.label is not None
    for weight in (network.label.weight, network.time.layers[0].weight, network.time.layers[2].weight):
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)  # type: ignore[arg-type]
    # Xavier uniform: variance 2 / (fan in + fan out).
    block = network.blocks[0]
    assert isinstance(block, Block)
    assert float(block.attention.to_qkv.weight.detach().std()) == pytest.approx(math.sqrt(2 / (4 * 128)), rel=0.05)
    assert float(network.patches.weight.detach().std()) == pytest.approx(math.sqrt(2 / (128 + 3 * 4)), rel=0.05)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 5)])
def test_the_position_embedding_is_sines_and_cosines_of_column_and_row(rows: int, columns: int) -> None:
    embedding = grid_embedding(rows, columns, 16)
    assert embedding.dtype == torch.float64
    expected = np.zeros((rows * columns, 16))
    for row in range(rows):
        for column in range(columns):
            for i in range(4):
                frequency = 10_000 ** (-i / 4)
                expected[row * columns + column, [i, 4 + i, 8 + i, 12 + i]] = [
                    math.sin(column * frequency),
                    math.cos(column * frequency),
                    math.sin(row * frequency),
                    math.cos(row * frequency),
                ]
    np.testing.assert_allclose(embedding.numpy(), expected, atol=1e-12)


def test_another_image_size_has_the_position_embedding_of_its_grid() -> None:
    # Built for 16 x 16 and called with 12 x 10, it equals a network built for 12 x 10 with the same weights.
    for_16, for_12 = with_nonzero_weights(dit()), with_nonzero_weights(dit(shape=ImageShape(3, 12, 10)))
    x, t = torch.randn(2, 3, 12, 10), torch.tensor([1, 40])
    assert torch.equal(for_16(x, t), for_12(x, t))


def test_an_incomplete_patch_is_padded_with_zeros() -> None:
    network = with_nonzero_weights(dit(SMALL.model_copy(update={"patch_size": 4})))
    x, t = torch.randn(2, 3, 9, 14), torch.tensor([1, 40])
    padded = torch.zeros(2, 3, 12, 16)
    padded[:, :, :9, :14] = x
    torch.testing.assert_close(network(x, t), network(padded, t)[:, :, :9, :14])


def test_the_state_dict_contains_parameters_only() -> None:
    network = dit()
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}


def test_the_input_of_the_time_layers_is_cosines_then_sines() -> None:
    embedding = TimeEmbedding(8)
    embedding.layers = torch.nn.Sequential()
    out = embedding(torch.tensor([0, 3]))
    assert out[0].tolist() == [1.0] * 128 + [0.0] * 128
    assert out[1, 128].item() == pytest.approx(math.sin(3))
    assert out[1, 255].item() == pytest.approx(math.sin(3 * 10_000 ** (-127 / 128)), rel=1e-5)


@pytest.mark.parametrize("keys", [{"dim": 30}, {"heads": 3}, {"depth": 0}, {"patch_size": 0}, {"mlp_ratio": 0.001}])
def test_an_invalid_config_is_rejected(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DitConfig(**keys)  # type: ignore[arg-type]
