"""The checks of a metric."""

from collections.abc import Mapping
from typing import cast, get_args

import torch
from torch import Tensor

from ddpmkit.contracts import Better, Metric, MetricProtocol
from ddpmkit.recipe.checks.cross_checks import declared_scores
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import require
from ddpmkit.testing.subject import Results, Subject

__all__ = ["RULES", "use"]

Scores = dict[str, float]

_NOISE_LEVELS = (0.02, 0.1, 0.5)


def use(subject: Subject) -> Results:
    """Score two merged batches against one."""
    metric = _metric(subject)
    real = metric.measure_real(_images(12, seed=1))
    generated = metric.merge(metric.measure_generated(_images(8)), metric.measure_generated(_images(4, seed=2)))
    return dict(metric.scores(real, generated))


def _metric(subject: Subject) -> Metric:
    return cast(Metric, subject.build(device=torch.device("cpu")))


def _images(count: int, noise: float = 0.0, seed: int = 0) -> Tensor:
    """Gradients of random colours, with noise of this standard deviation: uint8 [count, 3, 16, 16]."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.rand((count, 3, 1, 1), generator=generator) * torch.linspace(0.2, 0.9, 16)
    noisy = base.expand(count, 3, 16, 16) + noise * torch.randn((count, 3, 16, 16), generator=generator)
    return (noisy * 255).clamp(0, 255).to(torch.uint8)


def _require_close(first: Scores, second: Scores, labels: tuple[str, str]) -> None:
    far = [name for name, value in first.items() if abs(second[name] - value) > 1e-4 * max(1.0, abs(value))]
    found = (f"{name} is {first[name]:.8g} {labels[0]}, {second[name]:.8g} {labels[1]}" for name in far)
    require(not far, "; ".join(found))


def _float64(subject: Subject) -> None:
    metric = _metric(subject)
    for measure in (metric.measure_real, metric.measure_generated):
        wrong = {name: value.dtype for name, value in measure(_images(4)).items() if value.dtype != torch.float64}
        require(not wrong, f"{measure.__name__}: {', '.join(f'{name} is {dtype}' for name, dtype in wrong.items())}")


def _grayscale(subject: Subject) -> None:
    metric, images = _metric(subject), _images(4)[:, :1]
    for measure in (metric.measure_real, metric.measure_generated):
        metric.merge(measure(images), measure(images))


def _mergeable(subject: Subject) -> None:
    metric, images = _metric(subject), _images(12)
    real = metric.measure_real(_images(12, seed=1))
    one_batch = metric.measure_generated(images)
    merged = metric.merge(metric.measure_generated(images[:5]), metric.measure_generated(images[5:]))
    labels = "for one batch of 12 images", "for batches of 5 and 7, merged"
    _require_close(metric.scores(real, one_batch), metric.scores(real, merged), labels)


def _order(subject: Subject) -> None:
    metric, images = _metric(subject), _images(12)
    real = metric.measure_real(_images(12, seed=1))
    halves = images[:6], images[6:]
    states = (
        metric.merge(*(metric.measure_generated(half) for half in order))
        for order in (halves, [half.flip(0) for half in reversed(halves)])
    )
    forward, backward = (metric.scores(real, state) for state in states)
    _require_close(forward, backward, ("for two batches of 6 images", "for the same images in reverse order"))


def _states_kept(subject: Subject) -> None:
    metric = _metric(subject)
    states = [metric.measure_generated(_images(3, seed=seed)) for seed in (0, 1)]
    before = [{name: value.clone() for name, value in state.items()} for state in states]
    metric.merge(*states)
    changed = [name for old, new in zip(before, states, strict=True) for name in old if not old[name].equal(new[name])]
    require(not changed, f"merge changed {', '.join(changed)}")


def _input_kept(subject: Subject) -> None:
    metric = _metric(subject)
    for measure in (metric.measure_real, metric.measure_generated):
        measure(images := _images(4))
        changed = int((images != _images(4)).sum())
        require(not changed, f"{measure.__name__} changed {changed} of {images.numel()} pixels")


def _better(subject: Subject) -> None:
    subject.require_use()
    metric, (scores, _) = _metric(subject), subject.observation.results
    require(
        set(scores) == set(metric.better),
        f"`scores` returns {sorted(scores)}, but the keys of `better` are {sorted(metric.better)}",
    )
    invalid = set(metric.better.values()) - set(get_args(Better))
    require(not invalid, f"`better` contains {sorted(invalid)}; the values are {', '.join(get_args(Better))}")
    if declared := declared_scores(subject.registered.component.provides):
        ranks = {name: way != "neither" for name, way in metric.better.items()}
        require(declared == ranks, f"`provides` declares {_listed(declared)}, but `better` defines {_listed(ranks)}")


def _listed(scores: Mapping[str, bool]) -> str:
    return ", ".join(sorted(f"{'' if ranks else 'unranked-'}score:{name}" for name, ranks in scores.items()))


def _protocol(subject: Subject) -> None:
    protocol = _metric(subject).protocol
    require(isinstance(protocol, MetricProtocol), f"`protocol` is {protocol!r}, which is not a MetricProtocol")
    require(bool(protocol.name), "`name` of the protocol is empty")
    require(protocol.num_samples >= 1, f"`num_samples` is {protocol.num_samples}")
    require(protocol.weights in ("ema", "raw"), f"`weights` is {protocol.weights!r}")
    invalid = [name for name, fact in protocol.facts.items() if not (isinstance(fact, str) and fact)]
    require(not invalid, f"these facts are not strings, or are empty: {', '.join(invalid)}")


def _noise(subject: Subject) -> None:
    metric = _metric(subject)
    real = metric.measure_real(_images(32))
    scores = [metric.scores(real, metric.measure_generated(_images(32, noise))) for noise in _NOISE_LEVELS]
    for name, way in metric.better.items():
        if way == "neither":
            continue
        values = [score[name] for score in scores]
        worse = [value if way == "lower" else -value for value in values]
        shown = ", ".join(f"{value:.4g} at noise {noise}" for value, noise in zip(values, _NOISE_LEVELS, strict=True))
        require(worse == sorted(worse) and worse[-1] > worse[0], f"{name}: {shown} ({way} is better)")


RULES = (
    Rule(
        "metric.float64",
        "states are float64 tensors",
        "Accumulate in torch.float64: sums over 10,000 images in float32 lose the digits in which scores differ. "
        "Counts are float64 too.",
        _float64,
    ),
    Rule(
        "metric.grayscale",
        "images with one channel and with three channels are accepted",
        "If a network needs three channels, repeat the channel: `images.expand(-1, 3, -1, -1)`.",
        _grayscale,
    ),
    Rule(
        "metric.mergeable",
        "the score does not depend on how the images are split into batches",
        "Store sums and counts instead of means, so that states can be added. If sums are not sufficient, a state "
        "may store values of every image, for example its features.",
        _mergeable,
    ),
    Rule(
        "metric.order-invariant",
        "the score does not depend on the order of images and batches",
        "Look for a first or last image with a special role, for pairs of consecutive images, and for a merge that "
        "keeps only one side.",
        _order,
    ),
    Rule(
        "metric.states-kept",
        "`merge` does not modify its arguments",
        "Return new tensors: `first[name] + second[name]`, not `first[name] += second[name]`.",
        _states_kept,
    ),
    Rule(
        "metric.input-kept",
        "`measure_real` and `measure_generated` do not modify the images",
        "Other metrics receive the same tensor. Look for in-place operations such as `div_` and `clamp_` without a "
        "copy.",
        _input_kept,
    ),
    Rule(
        "metric.better",
        "`better` defines for each score whether lower or higher is better",
        'The keys of `better` are the names that `scores` returns, and the values are "lower", "higher", or '
        '"neither" for a score that does not rank runs. `provides` in the manifest may declare the same as '
        "`score:fid`, or `unranked-score:distance`; `recipe check` then validates `train.keep_best`.",
        _better,
    ),
    Rule(
        "metric.protocol",
        "`protocol` describes how the score is measured",
        "`protocol` is a ddpmkit.contracts.MetricProtocol: a name, the number of samples, the weights, and `facts`, "
        "strings that a reader needs to compare scores.",
        _protocol,
    ),
    Rule(
        "metric.noise",
        "more noise in the images makes each ranking score worse",
        "Check the sign, `better`, and that the score does not saturate when noise is added. A score that describes a "
        'run without ranking it has `better = "neither"`.',
        _noise,
    ),
)
