"""What a metric must do."""

from collections.abc import Mapping
from typing import cast, get_args

import torch
from torch import Tensor

from ddpmkit.contracts import Better, Metric, MetricProtocol
from ddpmkit.recipe.scores import declared_scores
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import require
from ddpmkit.testing.subject import Results, Subject

__all__ = ["RULES", "use"]

Scores = dict[str, float]

_NOISES = (0.02, 0.1, 0.5)


def use(subject: Subject) -> Results:
    """Score two batches against one."""
    metric = _metric(subject)
    real = metric.measure_real(_pictures(12, seed=1))
    generated = metric.merge(metric.measure_generated(_pictures(8)), metric.measure_generated(_pictures(4, seed=2)))
    return dict(metric.scores(real, generated))


def _metric(subject: Subject) -> Metric:
    return cast(Metric, subject.build(device=torch.device("cpu")))


def _pictures(count: int, noise: float = 0.0, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    base = torch.rand((count, 3, 1, 1), generator=draw) * torch.linspace(0.2, 0.9, 16)
    grown = base.expand(count, 3, 16, 16) + noise * torch.randn((count, 3, 16, 16), generator=draw)
    return (grown * 255).clamp(0, 255).to(torch.uint8)


def _require_close(first: Scores, second: Scores, how: tuple[str, str]) -> None:
    far = [name for name, value in first.items() if abs(second[name] - value) > 1e-4 * max(1.0, abs(value))]
    seen = (f"{name} is {first[name]:.8g} {how[0]}, {second[name]:.8g} {how[1]}" for name in far)
    require(not far, "; ".join(seen))


def _float64(subject: Subject) -> None:
    metric = _metric(subject)
    for measure in (metric.measure_real, metric.measure_generated):
        wrong = {name: value.dtype for name, value in measure(_pictures(4)).items() if value.dtype != torch.float64}
        require(not wrong, f"{measure.__name__}: {', '.join(f'{name} is {dtype}' for name, dtype in wrong.items())}")


def _grayscale(subject: Subject) -> None:
    metric, pictures = _metric(subject), _pictures(4)[:, :1]
    for measure in (metric.measure_real, metric.measure_generated):
        metric.merge(measure(pictures), measure(pictures))


def _mergeable(subject: Subject) -> None:
    metric, pictures = _metric(subject), _pictures(12)
    real = metric.measure_real(_pictures(12, seed=1))
    whole = metric.measure_generated(pictures)
    merged = metric.merge(metric.measure_generated(pictures[:5]), metric.measure_generated(pictures[5:]))
    how = "of 12 images at once", "of 5 and 7 merged"
    _require_close(metric.scores(real, whole), metric.scores(real, merged), how)


def _order(subject: Subject) -> None:
    metric, pictures = _metric(subject), _pictures(12)
    real = metric.measure_real(_pictures(12, seed=1))
    halves = pictures[:6], pictures[6:]
    states = (
        metric.merge(*(metric.measure_generated(half) for half in order))
        for order in (halves, [half.flip(0) for half in reversed(halves)])
    )
    forward, backward = (metric.scores(real, state) for state in states)
    _require_close(forward, backward, ("of 6 and 6 images", "of the same from last to first"))


def _states_kept(subject: Subject) -> None:
    metric = _metric(subject)
    states = [metric.measure_generated(_pictures(3, seed=seed)) for seed in (0, 1)]
    before = [{name: value.clone() for name, value in state.items()} for state in states]
    metric.merge(*states)
    changed = [name for old, new in zip(before, states, strict=True) for name in old if not old[name].equal(new[name])]
    require(not changed, f"merging changed {', '.join(changed)}")


def _input_kept(subject: Subject) -> None:
    metric = _metric(subject)
    for measure in (metric.measure_real, metric.measure_generated):
        measure(pictures := _pictures(4))
        changed = int((pictures != _pictures(4)).sum())
        require(not changed, f"{measure.__name__} changed {changed} of {pictures.numel()} pixels")


def _better(subject: Subject) -> None:
    subject.require_use()
    metric, (scores, _) = _metric(subject), subject.observation.results
    require(set(scores) == set(metric.better), f"scores {sorted(scores)}, better {sorted(metric.better)}")
    strange = set(metric.better.values()) - set(get_args(Better))
    require(not strange, f"better is {sorted(strange)}, none of {', '.join(get_args(Better))}")
    if declared := declared_scores(subject.registered.component.provides):
        ranks = {name: way != "neither" for name, way in metric.better.items()}
        require(declared == ranks, f"`provides` declares {_listed(declared)}, better says {_listed(ranks)}")


def _listed(scores: Mapping[str, bool]) -> str:
    return ", ".join(sorted(f"{'' if ranks else 'unranked-'}score:{name}" for name, ranks in scores.items()))


def _protocol(subject: Subject) -> None:
    protocol = _metric(subject).protocol
    require(isinstance(protocol, MetricProtocol), f"protocol is {protocol!r}, no MetricProtocol")
    require(bool(protocol.name), "the protocol has no name")
    require(protocol.num_samples >= 1, f"num_samples is {protocol.num_samples}")
    require(protocol.weights in ("ema", "raw"), f"weights is {protocol.weights!r}")
    odd = [name for name, fact in protocol.facts.items() if not (isinstance(fact, str) and fact)]
    require(not odd, f"facts that are no text: {', '.join(odd)}")


def _noise(subject: Subject) -> None:
    metric = _metric(subject)
    real = metric.measure_real(_pictures(32))
    scores = [metric.scores(real, metric.measure_generated(_pictures(32, noise))) for noise in _NOISES]
    for name, way in metric.better.items():
        if way == "neither":
            continue
        values = [score[name] for score in scores]
        worse = [value if way == "lower" else -value for value in values]
        shown = ", ".join(f"{value:.4g} at noise {noise}" for value, noise in zip(values, _NOISES, strict=True))
        require(worse == sorted(worse) and worse[-1] > worse[0], f"{name}: {shown} ({way} is better)")


RULES = (
    Rule(
        "metric.float64",
        "are states tensors of float64?",
        "Sum in torch.float64: 10,000 images summed in float32 lose the digits that tell scores apart. Counts are "
        "float64 too.",
        _float64,
    ),
    Rule(
        "metric.grayscale",
        "does it take pictures of one channel as well as of three?",
        "Repeat the channel where a network wants three: `images.expand(-1, 3, -1, -1)`.",
        _grayscale,
    ),
    Rule(
        "metric.mergeable",
        "does a score not depend on how the images came in batches?",
        "Keep sums and counts, not means: states must add up. A state may grow (features of every image) where sums "
        "do not do.",
        _mergeable,
    ),
    Rule(
        "metric.order-invariant",
        "does a score not depend on the order of images and batches?",
        "Look for a first or a last image that counts for more, for pairs taken in order, and for a merge that keeps "
        "one side.",
        _order,
    ),
    Rule(
        "metric.states-kept",
        "does merging leave both states as they were?",
        "Return new tensors: `first[name] + second[name]`, not `first[name] += second[name]`.",
        _states_kept,
    ),
    Rule(
        "metric.input-kept",
        "does measuring leave the images as they were?",
        "Other metrics see the same tensor. Look for `div_`, `clamp_` and the like on what was not copied.",
        _input_kept,
    ),
    Rule(
        "metric.better",
        "does it say of each score which way it improves?",
        '`better` names exactly the scores that `scores` gives, each "lower" or "higher", or "neither" for one that '
        "ranks no run. `provides` in the manifest may declare the same, as `score:fid`, or `unranked-score:distance` "
        "for one that ranks no run: `recipe check` then checks `train.keep_best`.",
        _better,
    ),
    Rule(
        "metric.protocol",
        "does it state the rules of its measurement?",
        "`protocol` is a ddpmkit.contracts.MetricProtocol: a name, the number of samples, the weights, and as `facts` "
        "what else a reader must know, in text.",
        _protocol,
    ),
    Rule(
        "metric.noise",
        "does growing noise make every score worse that ranks runs?",
        "Look at the sign, at `better`, and at a range so narrow that noise is clipped away. A score that says "
        "something of a run, but not which is the better one, improves neither way.",
        _noise,
    ),
)
