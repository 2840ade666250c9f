"""From generated images to scores.

It does not know which network or sampler drew the images, nor what the metric measures.
"""

from collections.abc import Callable, Iterable

from torch import Tensor

from ddpmkit.contracts import Metric, Scores
from ddpmkit.evaluation.metric_state import measured
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

    `name` is the metric's; `progress` is told how many more images are done. Raises ValueError when the batches are of
    another type or number, InputError when the metric cannot score so few, RunFailed when it gives no tensors by name
    or no numbers by name.
    """
    count, state = measured(name, metric, metric.measure_generated, generated, progress)
    if count != num_samples:
        raise ValueError(f"{num_samples} samples were asked for, {count} came")
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
