"""Sampling on the device: graphs, filled-up batches, networks without a graph, and the automatic batch size."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.device_program import DeviceProgram
from ddpmkit.experiment.model import build_model
from ddpmkit.recipe import read_recipe
from ddpmkit.sampling import network_calls
from ddpmkit.sampling.generate import ImageGenerator

pytestmark = pytest.mark.gpu

Recipe = Callable[..., dict[str, Any]]


def generator_of(recipe: dict[str, Any]) -> ImageGenerator:
    """The generator of a recipe with its initial weights. The last layer is not zero, as it is after training."""
    model = build_model(read_recipe(recipe))
    with torch.no_grad():
        for weight in model.network.parameters():
            if weight.ndim > 1 and not weight.any():
                weight.copy_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    return model.generator(model.network)


class Waiting(nn.Module):
    """Reads a value of its input on the host."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return 0.5 * x if float(x.abs().max()) > 0 else x


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm-solver-2m", "heun", "unipc"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_replay_gives_the_images_of_eager_calls(
    small: Recipe, device: torch.device, sampler: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(sampler={"use": sampler, "batch_size": 4}, train={"precision": precision})
    captured = generator_of(recipe)
    calls: list[int] = []
    captured.network.register_forward_pre_hook(lambda _module, arguments: calls.append(len(arguments[0])))
    images = captured.images(range(8), seed=3)
    assert images.float().std() > 10
    # Python runs the network twice, and a third time for the capture.
    assert len(calls) == (3 if device.type == "cuda" else captured.network_calls(8))

    monkeypatch.setattr(network_calls, "DeviceProgram", functools.partial(DeviceProgram, capture=False))
    eager = generator_of(recipe)
    assert torch.equal(eager.images(range(8), seed=3), images)


def test_guidance_and_self_conditioning_are_replayed_with_the_labels_of_each_batch(
    small: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(
        data={"labels": True, "classes": ["cat", "dog"]},
        diffusion={"self_conditioning": True},
        sampler={"use": "ddim", "guidance": 2.0},
        train={"label_dropout": 0.1},
    )
    images = generator_of(recipe).images(range(12), seed=3)
    monkeypatch.setattr(network_calls, "DeviceProgram", functools.partial(DeviceProgram, capture=False))
    assert torch.equal(generator_of(recipe).images(range(12), seed=3), images)


def test_the_images_of_a_filled_up_batch_are_those_of_a_full_batch(small: Recipe) -> None:
    generator = generator_of(small(sampler={"batch_size": 4}))
    full, filled_up = generator.images(range(8), seed=3).int(), generator.images(range(6), seed=3).int()
    assert filled_up.shape == full[:6].shape
    assert (full[:6] - filled_up).abs().max() <= 1


def test_the_images_are_those_of_the_cpu(small: Recipe) -> None:
    """In float32, up to rounding, which each step may amplify."""
    recipe = small(sampler={"use": "ddim", "batch_size": 4})
    on_device = generator_of(recipe).images(range(6), seed=3).int()
    recipe["train"]["device"] = "cpu"
    on_cpu = generator_of(recipe).images(range(6), seed=3).int()
    assert (on_device - on_cpu).abs().max() <= 2


def test_a_network_that_waits_for_the_device_is_called_eagerly_and_named_once(
    small: Recipe, device: torch.device, caplog: pytest.LogCaptureFixture
) -> None:
    generator = replace(generator_of(small()), network=Waiting())
    for count in (4, 2):  # two shapes
        assert generator.images(range(count), seed=3).shape[0] == count
    messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    if device.type != "cuda":
        assert messages == []
        return
    (message,) = messages
    assert "the backbone 'attention-unet' is called without a CUDA graph" in message
    assert "test_generate.py" in message


def test_the_automatic_batch_size_needs_at_most_a_quarter_of_the_free_memory(
    small: Recipe, device: torch.device
) -> None:
    generator = generator_of(small(sampler={"batch_size": "auto"}))
    size = generator.images_per_batch
    if device.type != "cuda":
        assert size == 64
        return
    assert size in (2**power for power in range(11))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    free, before = torch.cuda.mem_get_info(device)[0], torch.cuda.memory_allocated(device)
    assert len(generator.images(range(size), seed=3)) == size
    assert torch.cuda.max_memory_allocated(device) - before < free / 2
