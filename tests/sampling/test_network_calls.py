"""Network calls over fixed tensors: the same results as without them, one program a shape, no wait for the device."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode, unset_fake_temporarily

from ddpmkit.contracts import ImageShape, NoiseSource, Sampler, SamplerState
from ddpmkit.diffusion import Denoiser, GaussianDiffusion
from ddpmkit.runtime import Runtime
from ddpmkit.sampling import network_calls
from ddpmkit.sampling.editing import image_to_image, inpainting, sample_interpolation
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.initial_noise import InterpolatedNoise
from ddpmkit.sampling.network_calls import EagerNetwork, NetworkCalls
from host_synchronisations import synchronisations

SHAPE = ImageShape(3, 8, 10)


class Echo(nn.Module):
    """Returns its input itself, and keeps every tensor that it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        self.received.append((x, t, label))
        return x


def calls(network: nn.Module) -> NetworkCalls:
    runtime = Runtime(torch.device("cpu"), torch.float32)
    return NetworkCalls(EagerNetwork(network, SHAPE, runtime, contextlib.nullcontext), lambda _reason: None)


def inputs(count: int, t: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(t)
    return torch.randn((count, *SHAPE), generator=generator), torch.full((count,), t)


def test_calls_of_one_shape_share_their_tensors_and_another_shape_has_its_own() -> None:
    network = Echo()
    call = calls(network)
    with torch.inference_mode():
        for count, t in ((4, 9), (4, 8), (2, 8), (4, 7)):
            call(*inputs(count, t), None)
    first, second, other, last = (x.data_ptr() for x, _, _ in network.received)
    assert first == second == last != other
    assert network.received[0][1].tolist() == [7] * 4


def test_a_result_stays_the_same_when_the_next_call_overwrites_the_tensors() -> None:
    call = calls(Echo())
    with torch.inference_mode():
        x, t = inputs(4, 9)
        before = call(x, t, None)
        call(*inputs(4, 8), None)
    assert torch.equal(before, x)


def test_labels_are_passed_and_change_between_batches() -> None:
    class Labelled(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
            return x + label[:, None, None, None] + 100 * t[:, None, None, None]

    call = calls(Labelled())
    with torch.inference_mode():
        for label, t in (([0, 1], 3), ([2, 0], 1)):
            x, times = inputs(2, t)
            expected = x + torch.tensor(label)[:, None, None, None] + 100 * t
            assert torch.equal(call(x, times, torch.tensor(label)), expected)


def test_the_memory_layout_of_the_input_is_kept() -> None:
    network = Echo()
    call = calls(network)
    x, t = inputs(4, 9)
    with torch.inference_mode():
        call(x.to(memory_format=torch.channels_last), t, None)
        call(x, t, None)
    assert [x.is_contiguous(memory_format=torch.channels_last) for x, _, _ in network.received] == [True, False]


def test_a_sampler_may_leave_inference_mode_and_differentiate_the_network() -> None:
    class Square(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            return x.square()

    call = calls(Square())
    x, t = inputs(2, 1)
    with torch.inference_mode():
        expected = call(x, t, None)
        with torch.inference_mode(False), torch.no_grad():
            assert torch.equal(call(x, t, None), expected)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(call(leaf, t, None).sum(), leaf)
    assert torch.equal(gradient, 2 * x)


class Tiny(nn.Module):
    """A convolution of x, with an offset by t and label, without a constant that is made on the host."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, 1)
        self.of_label = nn.Embedding(4, out_channels)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        offset = 0.001 * t[:, None, None, None]
        if label is not None:
            offset = offset + self.of_label(label)[:, :, None, None]
        out: Tensor = self.convolution(x) + offset
        return out


class Waiting:
    """A sampler that reads a value of x in each step."""

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        x = noise(0)
        for t in denoiser.process.sampling_timesteps(steps):
            x = x / float(x.abs().max())
            yield SamplerState(t + 1, x, x)
        yield SamplerState(0, x, x)

    def network_calls(self, steps: int) -> int:
        return steps


class HostProcess(GaussianDiffusion):
    """Chooses its timesteps with real tensors on the CPU, also under `FakeTensorMode`."""

    def sampling_timesteps(self, steps: int, log_snr_spacing: float = 0.0) -> list[int]:
        with unset_fake_temporarily():
            return super().sampling_timesteps(steps, log_snr_spacing)


def cosine(prediction: Any = "epsilon", self_conditioning: bool = False) -> GaussianDiffusion:
    with unset_fake_temporarily():
        alpha_bar = torch.cos(torch.arange(1, 41, dtype=torch.float64) / 40 * 1.55) ** 2
        return HostProcess(alpha_bar, prediction, self_conditioning=self_conditioning)


def waits_between_frames(generator: ImageGenerator, count: int = 4) -> list[str]:
    """What waits or copies from the first frame, the noise, to the last one."""
    frames = generator.frames(range(count), seed=1)
    with torch.inference_mode():
        next(frames)
    return synchronisations(lambda: [None for _ in frames])


@pytest.fixture(params=["cpu", "cuda"])
def tiny_generator(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., ImageGenerator]]:
    """Generators on the CPU, and on a GPU that exists only as a claim of fake tensors: values are not computed."""

    def eager(function: Callable[[], Tensor], _device: torch.device, **_options: Any) -> Callable[[], Tensor]:
        return function  # a graph needs a real GPU

    def make(sampler: Sampler, process: GaussianDiffusion, channels: int = 3, **others: Any) -> ImageGenerator:
        with torch.device(request.param):
            network = Tiny(channels, channels)
        return ImageGenerator(
            network=network,
            process=process.to(request.param),
            sampler=sampler,
            image_shape=SHAPE,
            steps=5,
            batch_size=4,
            runtime=Runtime(torch.device(request.param), torch.float32),
            **others,
        )

    if request.param == "cpu":
        yield make
        return
    monkeypatch.setattr(network_calls, "DeviceProgram", eager)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield make


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x0"])
def test_the_host_does_not_wait_in_a_sampling_step(
    tiny_generator: Callable[..., ImageGenerator], sampler: Sampler, prediction: str
) -> None:
    assert waits_between_frames(tiny_generator(sampler, cosine(prediction))) == []


def test_guidance_self_conditioning_and_learned_variance_do_not_wait(
    tiny_generator: Callable[..., ImageGenerator], sampler: Sampler
) -> None:
    process = cosine(self_conditioning=True)
    assert waits_between_frames(tiny_generator(sampler, process, 6, num_classes=3, guidance=2.0)) == []


def test_the_editing_modes_do_not_wait(tiny_generator: Callable[..., ImageGenerator], sampler: Sampler) -> None:
    generator = tiny_generator(sampler, cosine())
    if generator.runtime.device.type == "cpu":  # reading the images and the mask needs values
        image = torch.zeros(SHAPE, dtype=torch.uint8)
        mask = torch.ones(SHAPE[1:], dtype=torch.bool)
        assert waits_between_frames(sample_interpolation(generator, 1, 5, 4)) == []
        assert waits_between_frames(image_to_image(generator, image, 0.5)) == []
        assert waits_between_frames(inpainting(generator, image, mask, resample=1)) == []


def test_a_draw_of_interpolated_noise_copies_nothing() -> None:
    process = cosine()
    with FakeTensorMode(allow_non_fake_inputs=True):
        process.to("cuda")
        noise = InterpolatedNoise(1, 5, 4)(
            range(4), lambda _: lambda _: torch.zeros((1, *SHAPE), device="cuda"), process
        )
        assert synchronisations(lambda: noise(1)) == []


def test_a_sampler_that_waits_is_found(tiny_generator: Callable[..., ImageGenerator]) -> None:
    generator = tiny_generator(Waiting(), cosine())
    if generator.runtime.device.type == "cpu":
        found = waits_between_frames(generator)
        assert len(found) == 4  # the first step is before the first frame
        assert all("test_network_calls.py" in each for each in found)
    else:  # a fake tensor has no value
        with pytest.raises(DataDependentOutputException):
            waits_between_frames(generator)


def test_the_last_batch_is_filled_up_on_an_accelerator_only(
    tiny_generator: Callable[..., ImageGenerator], monkeypatch: pytest.MonkeyPatch, sampler: Sampler
) -> None:
    """Both batches then have one shape, that of the graph. The images are those of the first indices."""
    generator = tiny_generator(sampler, cosine())
    seen: list[int] = []
    generator.network.register_forward_pre_hook(lambda _module, arguments: seen.append(len(arguments[0])))
    monkeypatch.setattr("ddpmkit.sampling.generate.to_uint8", lambda images: images)
    batches = list(generator.batches(range(6), seed=1))
    assert [len(batch) for batch in batches] == [4, 2]
    assert set(seen) == ({4, 2} if generator.runtime.device.type == "cpu" else {4})
    seen.clear()
    assert [len(batch) for batch in generator.batches(range(2), seed=1)] == [2]
    assert set(seen) == {2}, "a single batch needs no other shape than its own"


def test_a_refused_capture_is_reported_once_for_all_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(
        function: Callable[[], Tensor], _device: torch.device, refused: Callable[[Exception], None]
    ) -> Callable[[], Tensor]:
        def program() -> Tensor:
            refused(ValueError("it waits"))
            return function()

        return program

    monkeypatch.setattr(network_calls, "DeviceProgram", refusing)
    reasons: list[str] = []
    process = cosine()
    generator = ImageGenerator(
        network=Tiny(3, 3),
        process=process,
        sampler=Waiting(),
        image_shape=SHAPE,
        steps=3,
        batch_size=4,
        runtime=Runtime(torch.device("cpu"), torch.float32),
        not_captured=lambda reason: reasons.append(str(reason)),
    )
    denoiser_calls = generator._network_calls
    with torch.inference_mode():
        for count in (2, 3, 2):
            denoiser_calls(*inputs(count, 1), None)
    assert reasons == ["it waits"]
    assert replace(generator, steps=2).not_captured is generator.not_captured
