"""Self-conditioning from a recipe to images."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import ddpmkit
from ddpmkit.data.images import to_uint8
from ddpmkit.diffusion import Denoiser, GaussianDiffusion, Guidance
from ddpmkit.randomness import ImageNoise
from ddpmkit.recipe import read_recipe

Recipe = Callable[..., dict[str, Any]]
SAMPLERS = ["ancestral", "ddim", "heun", "dpm-solver-2m", "unipc"]
ON = {"timesteps": 6, "self_conditioning": True}


def test_a_resumed_run_equals_an_uninterrupted_one(small: Recipe, tmp_path: Path) -> None:
    recipe = small(diffusion=ON, train={"steps": 9})
    straight = ddpmkit.run(recipe, tmp_path / "straight")
    calls = iter(range(1000))
    ddpmkit.run(recipe, tmp_path / "resumed", stop=lambda: next(calls) == 4)
    resumed = ddpmkit.run(recipe, tmp_path / "resumed")
    for part in ("model", "ema", "optimizer", "progress"):
        first, second = straight.checkpoint.tensors(part), resumed.checkpoint.tensors(part)
        assert all(torch.equal(value, second[name]) for name, value in first.items()), part


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Path]:
    """A run that knows two classes."""
    made: list[Path] = []

    def run(small: Recipe) -> Path:
        if not made:
            made.append(tmp_path_factory.mktemp("results"))
            data = {"classes": ["cat", "dog"], "labels": True}
            train = {"steps": 2, "learning_rate": 0.01}
            ddpmkit.run(small(diffusion=ON, data=data, sampler={"guidance": 2.0}, train=train), made[0])
        return made[0]

    return run


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_is_the_same_in_every_batch(small: Recipe, guided: Callable[[Recipe], Path], sampler: str) -> None:
    def sampled(batch_size: int) -> Tensor:
        section = f'sampler={{use="{sampler}", guidance=2.0, batch_size={batch_size}}}'
        return ddpmkit.load(guided(small), overrides=[section]).sample(5)

    together, alone = sampled(4), sampled(1)
    assert torch.equal(sampled(4), together)
    assert (alone.int() - together.int()).abs().max() <= 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_network_call_of_every_sampler_receives_the_previous_estimate(name: str) -> None:
    given: list[Tensor] = []
    answers: list[Tensor] = []

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        given.append(x[:, 1:])
        answers.append(2 * x[:, :1] + 0.1 * t[:, None, None, None])
        return answers[-1]

    alpha_bar = torch.linspace(0.98, 0.05, 10, dtype=torch.float64)
    denoiser = Denoiser(network, GaussianDiffusion(alpha_bar, "x0", self_conditioning=True))
    recipe = read_recipe({"sampler": {"use": name}})
    list(recipe.sampler.build().sample(denoiser, ImageNoise(0, range(2), (1, 8, 8), torch.device("cpu")), 5))
    assert len(given) == recipe.sampler.build().network_calls(5)
    assert not given[0].any()
    for before, now in pairwise(range(len(given))):
        torch.testing.assert_close(given[now], answers[before].clamp(-1, 1))


def test_every_step_of_ddim_receives_the_estimate_of_the_previous_step(small: Recipe, tmp_path: Path) -> None:
    """Chen et al. (2022), algorithm 2, with eq. 12 of Song et al. (2021) at eta = 0, written out."""
    sampler = {"use": "ddim", "count": 3, "batch_size": 4}
    run = ddpmkit.run(small(diffusion=ON, sampler=sampler, train={"steps": 3, "learning_rate": 0.01}), tmp_path)
    network, bar = run.generator().network, run.model.process.alpha_bar.double().tolist()
    x = ImageNoise(0, range(3), (3, 8, 8), torch.device("cpu"))(0)
    estimate = torch.zeros_like(x)
    with torch.inference_mode():
        for t, s in pairwise([5, 4, 3, 2, 1, 0, -1]):
            eps = network(torch.cat([x, estimate], dim=1), torch.full((3,), t), None)
            estimate = ((x - (1 - bar[t]) ** 0.5 * eps) / bar[t] ** 0.5).clamp(-1, 1)
            kept = bar[s] if s >= 0 else 1.0
            x = kept**0.5 * estimate + (1 - kept) ** 0.5 * eps
    assert (run.sample(3, seed=0).int() - to_uint8(x).int()).abs().max() <= 1


def test_guidance_passes_the_guided_estimate_to_both_branches() -> None:
    given: list[Tensor] = []

    def network(x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        given.append(x[:, 1:])
        return x[:, :1] * (1 + label[:, None, None, None])

    process = GaussianDiffusion(torch.tensor([0.9, 0.5], dtype=torch.float64), "x0", self_conditioning=True)
    denoiser = Denoiser(network, process, torch.tensor([0, 1]), Guidance(3.0, null_label=2))
    x = torch.full((2, 1, 8, 8), 0.1)
    first = denoiser(x, 1).x0
    # Unconditional: 3 x; conditional: 1 x and 2 x. Guidance goes three times the way from the first to the second.
    torch.testing.assert_close(first[:, 0, 0, 0], torch.tensor([-0.3, 0.0]))
    denoiser(x, 0)
    assert not given[0].any()
    torch.testing.assert_close(given[1], first.repeat(2, 1, 1, 1))
    assert not Denoiser(network, process, torch.tensor([0, 1])).process.network_input(x)[:, 1:].any()
