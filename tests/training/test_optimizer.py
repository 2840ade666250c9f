"""The optimizer, compared with torch.optim."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.recipe import TrainSection
from ddpmkit.training.optimizer import Optimizer, clip_gradient
from ddpmkit.training.trainer import Trainer

KINDS = ["adam", "adamw", "muon"]
RATE, YES, NO = torch.tensor(0.01), torch.tensor(True), torch.tensor(False)


def network(memory_format: torch.memory_format = torch.contiguous_format) -> nn.Module:
    """Convolutions of two shapes, linear maps and a weight that is never used."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Conv2d(12, 8, 1), nn.Linear(8, 16), nn.Linear(16, 8)
    )
    layers.register_parameter("unused", nn.Parameter(torch.ones(8, 8)))
    out: nn.Module = layers.to(memory_format=memory_format)  # type: ignore[call-overload]
    return out


def set_gradients(item: nn.Module, seed: int, value: float | None = None) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, weight in item.named_parameters():
        if name != "unused":
            gradient = torch.empty_like(weight).copy_(torch.randn(weight.shape, generator=generator))
            weight.grad = gradient if value is None else torch.full_like(weight, value)


def state(item: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in {**item.state_dict(), **optimizer.tensors()}.items()}


def are_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_updates_every_weight(make_trainer: Callable[..., Trainer], kind: str) -> None:
    item = make_trainer(optimizer=kind, weight_decay=0.1)
    before = [weight.detach().clone() for weight in item.network.parameters()]
    item.train_step()
    assert not any(torch.equal(*pair) for pair in zip(before, item.network.parameters(), strict=True))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("kind", "reference"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_is_torchs_fused_adam_bit_for_bit(
    kind: str,
    reference: type[torch.optim.Adam] | type[torch.optim.AdamW],
    weight_decay: float,
    memory_format: torch.memory_format,
) -> None:
    ours, theirs = network(memory_format), network(memory_format)
    settings = TrainSection(optimizer=kind, weight_decay=weight_decay)  # type: ignore[arg-type]
    mine = Optimizer(ours, settings)
    other = reference(theirs.parameters(), lr=RATE, betas=settings.betas, weight_decay=weight_decay, fused=True)
    for seed in range(5):
        for item in (ours, theirs):
            set_gradients(item, seed)
        mine.update(RATE, YES)
        other.step()
    assert are_equal(dict(ours.state_dict()), dict(theirs.state_dict()))
    moments = mine.tensors()
    for name, weight in theirs.named_parameters():
        for moment, value in other.state[weight].items():
            assert torch.equal(moments[f"{name}/{moment}"], value)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("taken", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_is_not_finite_changes_nothing(
    kind: str, taken: int, value: float, memory_format: torch.memory_format
) -> None:
    item = network(memory_format)
    optimizer = Optimizer(item, TrainSection(optimizer=kind, weight_decay=0.1))  # type: ignore[arg-type]
    for seed in range(taken):
        set_gradients(item, seed)
        optimizer.update(RATE, YES)
    before = state(item, optimizer)
    set_gradients(item, 9, value)
    optimizer.update(RATE, NO)
    assert are_equal(state(item, optimizer), before)
    set_gradients(item, 9)
    optimizer.update(RATE, YES)
    assert not are_equal(state(item, optimizer), before)


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_compiles_to_one_graph_with_the_same_bits(kind: str) -> None:
    results = []
    for is_traced in (False, True):
        item = network()
        optimizer = Optimizer(item, TrainSection(optimizer=kind, weight_decay=0.1))  # type: ignore[arg-type]

        def clip_and_update(is_finite: Tensor, item: nn.Module = item, optimizer: Optimizer = optimizer) -> Tensor:
            norm = clip_gradient(item.parameters(), 1.0)
            optimizer.update(RATE, is_finite)
            return norm

        # Sizes stay fixed. If torch traces a new size as a variable, it finds no fake fused kernel.
        compiled = torch.compile(clip_and_update, fullgraph=True, backend="eager", dynamic=False)
        step = compiled if is_traced else clip_and_update
        norms = []
        for seed, is_finite in enumerate([YES, NO, YES]):
            set_gradients(item, seed)
            norms.append(step(is_finite))
        results.append(state(item, optimizer) | {"norms": torch.stack(norms)})
    assert are_equal(*results)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_without_a_gradient_is_left_alone(kind: str) -> None:
    item = network()
    optimizer = Optimizer(item, TrainSection(optimizer=kind, weight_decay=0.1))  # type: ignore[arg-type]
    set_gradients(item, 0)
    optimizer.update(RATE, YES)
    assert torch.equal(item.unused, torch.ones(8, 8))  # type: ignore[arg-type]
    assert not any(value.any() for name, value in optimizer.tensors().items() if name.startswith("unused/"))


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_survive_a_round_trip_and_stay_where_they_are(kind: str) -> None:
    item = network(torch.channels_last)
    first, second = (Optimizer(item, TrainSection(optimizer=kind)) for _ in range(2))  # type: ignore[arg-type]
    set_gradients(item, 0)
    first.update(RATE, YES)
    places = [value.data_ptr() for value in second.tensors().values()]
    second.load(first.tensors())
    assert are_equal(first.tensors(), second.tensors())
    assert places == [value.data_ptr() for value in second.tensors().values()]
    assert set(second.shapes().values()) >= {(8, 3, 3, 3), (16, 8)}


def test_a_gradient_is_clipped_to_a_norm_and_0_only_measures_it() -> None:
    item = network()
    set_gradients(item, 0)
    gradients = torch.cat([weight.grad.flatten() for weight in item.parameters() if weight.grad is not None])
    assert clip_gradient(item.parameters(), 0.0).item() == pytest.approx(gradients.norm().item())
    assert clip_gradient(item.parameters(), 2.0).item() == pytest.approx(gradients.norm().item())
    assert clip_gradient(item.parameters(), 0.0).item() == pytest.approx(2.0, rel=1e-5)
