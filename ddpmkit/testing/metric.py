"""What a metric must do."""

from typing import cast

import torch
from torch import Tensor

from ddpmkit.contracts import Metric
from ddpmkit.testing.checks import Checks, Subject, require

__all__ = ["checks"]

State = dict[str, Tensor]


def checks() -> Checks:
    """Id, question, advice, and the function that asks."""
    yield (
        "states",
        "are states float64, of colour and of grayscale pictures alike?",
        "Sum in torch.float64; repeat a single channel where the network wants three.",
        _states,
    )
    yield "merge", "does it not matter how images come in batches, and in which order?", "States must add up.", _merge
    yield "merge-pure", "does merging leave both states as they were?", "Return new tensors.", _merge_pure
    yield "better", "does it say which way each score improves?", "`better` names every score.", _better
    yield "noise", "does growing noise make the scores worse?", "Look at the sign, and at `better`.", _noise


def _metric(subject: Subject) -> Metric:
    return cast(Metric, subject.build(device=torch.device("cpu")))


def _pictures(count: int, noise: float = 0.0, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    base = torch.rand((count, 3, 1, 1), generator=draw) * torch.linspace(0.2, 0.9, 16)
    grown = base.expand(count, 3, 16, 16) + noise * torch.randn((count, 3, 16, 16), generator=draw)
    return (grown * 255).clamp(0, 255).to(torch.uint8)


def _states(subject: Subject) -> None:
    metric, pictures = _metric(subject), _pictures(4)
    for measure in (metric.measure_real, metric.measure_generated):
        for batch in (pictures, pictures[:, :1]):
            wrong = {name: value.dtype for name, value in measure(batch).items() if value.dtype != torch.float64}
            require(not wrong, str(wrong))


def _merge(subject: Subject) -> None:
    metric, pictures = _metric(subject), _pictures(12)
    real = metric.measure_real(_pictures(12, seed=1))
    whole = metric.scores(real, metric.measure_generated(pictures))
    first, second = metric.measure_generated(pictures[:5]), metric.measure_generated(pictures[5:])
    for merged in (metric.merge(first, second), metric.merge(second, first)):
        scores = metric.scores(real, merged)
        close = all(abs(scores[name] - value) <= 1e-4 * max(1.0, abs(value)) for name, value in whole.items())
        require(close, f"{whole} at once, {scores} in parts")


def _merge_pure(subject: Subject) -> None:
    metric = _metric(subject)
    states = [metric.measure_generated(_pictures(3, seed=seed)) for seed in (0, 1)]
    before = [{name: value.clone() for name, value in state.items()} for state in states]
    metric.merge(*states)
    changed = [name for old, new in zip(before, states, strict=True) for name in old if not old[name].equal(new[name])]
    require(not changed, f"changed: {', '.join(changed)}")


def _better(subject: Subject) -> None:
    metric = _metric(subject)
    scores = metric.scores(metric.measure_real(_pictures(8)), metric.measure_generated(_pictures(8, seed=1)))
    require(set(scores) == set(metric.better), f"scores {sorted(scores)}, better {sorted(metric.better)}")


def _noise(subject: Subject) -> None:
    metric = _metric(subject)
    real = metric.measure_real(_pictures(32))
    little, much = (metric.scores(real, metric.measure_generated(_pictures(32, noise))) for noise in (0.02, 0.5))
    for name, way in metric.better.items():
        if way == "neither":
            continue
        worse = much[name] > little[name] if way == "lower" else much[name] < little[name]
        require(worse, f"{name}: {little[name]:.4g} with little noise, {much[name]:.4g} with much ({way} is better)")
