"""What is made from a network: a grid of samples, a score.

It does not know whether a run is under way or long over.
"""

from dataclasses import replace
from pathlib import Path

from ddpmkit.contracts import Scores
from ddpmkit.data.images import ImageSource
from ddpmkit.evaluation import cached_reference, estimate_cost, evaluate_metric, reference_states
from ddpmkit.experiment.assembly import BuiltMetric
from ddpmkit.rundir import RunFolder
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.pictures import grid, save_png
from ddpmkit.tracking import Onlooker
from ddpmkit.wording import counted

__all__ = ["draw_samples", "evaluate"]


def draw_samples(
    generator: ImageGenerator, folder: RunFolder, count: int, seed: int, step: int, display: Onlooker
) -> Path:
    """Write the grid of the first `count` images of `seed` as the samples of `step`."""
    with display.work(counted(count, "sample"), generator.frame_count(count)) as advance:
        images = generator.images(range(count), seed, advance)
    return save_png(grid(images), folder.samples(step))


def evaluate(
    built: BuiltMetric,
    generator: ImageGenerator,
    sampler: str,
    weights: str,
    images: ImageSource,
    step: int,
    seed: int,
    display: Onlooker,
    num_samples: int | None = None,
) -> Scores:
    """Say what it will cost, measure the real images (once), draw the samples, score them.

    `sampler` and `weights` name those of the generator; a score of another average than the protocol means says so.
    """
    metric, name, settings = built.metric, built.name, built.part.config.model_dump(mode="json")
    count = num_samples or built.num_samples
    known = cached_reference(metric, images, name=name, settings=settings)
    cost = estimate_cost(
        metric,
        name=name,
        num_samples=count,
        network_calls=generator.network_calls(count),
        batch_size=generator.batch_size,
        seconds_per_call=generator.seconds_per_call(),
        image_shape=generator.image_shape,
        reference_images=0 if known else len(images),
    )
    display.remark(cost.describe())
    if known is None:
        with display.work(f"{name}: real images", len(images)) as advance:
            known = reference_states(metric, images, name=name, settings=settings, progress=advance)
    with display.work(f"{name}: samples", count) as advance:
        scores = evaluate_metric(
            metric,
            name=name,
            step=step,
            real=known,
            generated=generator.batches(range(count), seed),
            num_samples=count,
            progress=advance,
        )
    facts = {**scores.facts, "sampler": f"{sampler}, {generator.steps} steps"}
    if weights != metric.protocol.weights:
        facts["weights"] = weights
    return replace(scores, facts=facts)
