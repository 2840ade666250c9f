"""Computes the scores of generated images."""

from collections.abc import Callable, Iterable

from torch import Tensor

from ddpmkit.contracts import Metric, Scores
from ddpmkit.evaluation.metric_state import measure_batches
from ddpmkit.evaluation.reference import Reference
from ddpmkit.evaluation.score_values import check_scores

__all__ = ["evaluate_metric"]


def evaluate_metric(
    metric: Metric,
    *,
    name: str,
    step: int,
    real: Reference,
    generated: Iterable[Tensor],
    num_samples: int,
    progress: Callable[[int], None],
) -> Scores:
    """The scores of `num_samples` images, given as uint8 batches [B, C, H, W] of any size, after step `step`.

    `name` is the metric's name; `progress` is called with the number of images just done. Raises ValueError if the
    batches have another type or number of images, InputError if the metric needs more images, RunFailed if it does not
    return a mapping of tensors or of numbers.
    """
    count, state = measure_batches(name, metric, metric.measure_generated, generated, progress)
    if count != num_samples:
        raise ValueError(f"expected {num_samples} samples, received {count}")
    protocol = metric.protocol
    found = check_scores(name, metric.scores(dict(real.state), state))
    return Scores(
        step=step,
        metric=name,
        protocol=protocol.name,
        comparable=protocol.comparable,
        num_samples=num_samples,
        num_reference=real.num_images,
        values=found.values,
        floor=real.floor,
        better=dict(metric.better),
        facts={key: str(fact) for key, fact in {**protocol.facts, **real.facts}.items()},
        unusable=found.unusable,
    )
