import math

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding

from ddpmkit.nn import LabelEmbedding, SinusoidalEmbedding, pad_to_multiple


@pytest.mark.parametrize("endpoint", [False, True])
@pytest.mark.parametrize("cos_first", [False, True])
def test_the_sinusoidal_embedding_equals_diffusers(endpoint: bool, cos_first: bool) -> None:
    t = torch.tensor([0, 1, 17, 999])
    theirs = get_timestep_embedding(t, 32, flip_sin_to_cos=cos_first, downscale_freq_shift=float(endpoint))
    found = SinusoidalEmbedding(32, endpoint=endpoint, cos_first=cos_first)(t)
    torch.testing.assert_close(found, theirs, rtol=0, atol=1e-4)
    torch.testing.assert_close(found[:, 1 if cos_first else 17], torch.cos(t * 1e4 ** (-1 / (15 if endpoint else 16))))


def test_the_sinusoidal_embedding_has_no_state() -> None:
    assert SinusoidalEmbedding(16).state_dict() == {}
    smallest = SinusoidalEmbedding(2, endpoint=True)(torch.tensor([1]))
    assert smallest.tolist()[0] == pytest.approx([math.cos(1), math.sin(1)])


def test_without_labels_the_embedding_is_that_of_the_null_label() -> None:
    embedding = LabelEmbedding(3, 8)
    assert embedding.state_dict().keys() == {"weight"}
    assert embedding.weight.shape == (4, 8)
    assert torch.equal(embedding(None), embedding(torch.tensor([3]))[0])
    assert torch.equal(embedding(torch.tensor([2, 0])), embedding.weight[[2, 0]])


@pytest.mark.parametrize(
    ("size", "multiple", "padded"), [((9, 16), 8, (16, 16)), ((8, 8), 8, (8, 8)), ((5, 7), 1, (5, 7))]
)
def test_padding_adds_zeros_at_the_bottom_and_right(
    size: tuple[int, int], multiple: int, padded: tuple[int, int]
) -> None:
    x = torch.rand(2, 3, *size)
    found = pad_to_multiple(x, multiple)
    assert found.shape == (2, 3, *padded)
    assert torch.equal(found[:, :, : size[0], : size[1]], x)
    assert found.sum().item() == pytest.approx(x.sum().item())
