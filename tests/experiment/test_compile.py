"""A run with `train.compile`. The compiler's front end is torch's own; its back end computes operator by operator."""

from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ddpmkit
from ddpmkit.contracts import ImageShape
from ddpmkit.errors import RunFailed
from ddpmkit.experiment.loaded_run import Run
from ddpmkit.experiment.profile import profile
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import read_recipe


@pytest.fixture(autouse=True)
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of operators in each graph that was compiled."""
    found: list[int] = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> Callable[..., Any]:
        found.append(len(graph.graph.nodes))
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    yield found
    torch.compiler.reset()


def weights(run: Run) -> dict[str, Tensor]:
    return dict(run.checkpoint.tensors("model"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_compiled_run_has_the_same_weights_and_images(
    small: Callable[..., dict[str, Any]], tmp_path: Path, graphs: list[int], precision: str
) -> None:
    runs = {}
    for compiles in (False, True):
        train = {"steps": 4, "validate_every": 2, "sample_every": 4, "compile": compiles, "precision": precision}
        recipe = small(train=train, diffusion={"self_conditioning": True})
        runs[compiles] = ddpmkit.run(recipe, out=tmp_path / str(compiles))
        assert bool(graphs) == compiles
    plain, compiled = weights(runs[False]), weights(runs[True])
    assert plain.keys() == compiled.keys()
    for name, weight in plain.items():
        # In bfloat16 the compiler may cast elsewhere.
        torch.testing.assert_close(compiled[name], weight, rtol=0, atol=1e-5 if precision == "float32" else 1e-2)
    graphs.clear()
    torch.compiler.reset()
    assert runs[True].sample(2).shape == runs[False].sample(2).shape
    assert graphs


class Untraceable(nn.Module):
    """A backbone that asks for a value in the middle, where a graph must end."""

    def __init__(
        self, config: ComponentConfig, *, image_shape: ImageShape, num_classes: int, out_channels: int
    ) -> None:
        super().__init__()
        self.layer = nn.Conv2d(image_shape.channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        x = x / (1 + float(x.abs().mean()))
        torch._dynamo.graph_break()
        return self.layer(x)  # type: ignore[no-any-return]  # a module call is Any


def test_a_network_that_is_not_one_graph_runs(
    small: Callable[..., dict[str, Any]], with_parts: Callable[..., Registry], tmp_path: Path, graphs: list[int]
) -> None:
    part = Component(kind="backbone", name="untraceable", target=f"{__name__}:Untraceable", summary="for a test")
    registry = with_parts(part)
    recipe = read_recipe(
        small(backbone={"use": "local/untraceable"}, train={"steps": 2, "compile": True}), registry=registry
    )
    assert ddpmkit.run(recipe, out=tmp_path / "run", registry=registry).step == 2
    assert len(graphs) > 1


def test_a_compiler_that_fails_is_named_with_the_key(
    small: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backend(_graph: object, _inputs: object) -> None:
        raise FileNotFoundError("no C++ compiler")

    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    with pytest.raises(RunFailed, match=r"torch\.compile failed while training step 1, .*no C\+\+ compiler") as caught:
        ddpmkit.run(small(train={"compile": True}), out=tmp_path / "run")
    assert "train.compile = false" in str(caught.value)


def test_a_profile_of_a_compiled_network_counts_its_work(small: Callable[..., dict[str, Any]]) -> None:
    found = profile(read_recipe(small(train={"compile": True})), 1)
    plain = profile(read_recipe(small()), 1)
    assert found.flops == plain.flops > 0
