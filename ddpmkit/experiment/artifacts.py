"""What is made from a network: a grid of samples, a score.

It does not know whether a run is under way or long over.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ddpmkit.contracts import Scores
from ddpmkit.display import ProgressDisplay
from ddpmkit.errors import RunFailed
from ddpmkit.evaluation import cached_reference, estimate_cost, evaluate_metric, reference_states
from ddpmkit.experiment.build import Model
from ddpmkit.experiment.evaluation import Evaluation, sampling_identity
from ddpmkit.plural import counted
from ddpmkit.run_folder import RunFolder
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.sampling.image_grid import grid, save_png

__all__ = ["draw_samples", "evaluate", "grid_identity", "strip_identity"]


def draw_samples(
    generator: ImageGenerator, model: Model, folder: RunFolder, step: int, display: ProgressDisplay
) -> Path:
    """Write the grid that the recipe of `model` asks for as the samples of `step`."""
    count, seed = model.recipe.sampler.settings.count, model.recipe.train.seed
    with display.progress(f"sampling steps for {counted(count, 'sample')}", generator.sampling_steps(count)) as advance:
        images = generator.images(range(count), seed, advance)
    return save_png(grid(images), folder.samples(step), grid_identity(model))


def grid_identity(model: Model) -> dict[str, Any]:
    """What a grid of samples depends on besides the weights, as plain JSON data."""
    settings = model.recipe.sampler.settings
    return {"count": settings.count, **sampling_identity(model, settings.weights)}


def strip_identity(model: Model) -> dict[str, Any]:
    """The same of the images of both processes, but for the seed: a person may have chosen another one."""
    settings = model.recipe.sampler.settings
    identity = sampling_identity(model, settings.weights)
    return {name: value for name, value in identity.items() if name != "seed"}


def evaluate(
    evaluation: Evaluation,
    generator: ImageGenerator,
    step: int,
    display: ProgressDisplay,
    origin: Literal["run", "request"] = "run",
) -> Scores:
    """Say what it will cost, measure the real images (once), generate the samples, score them.

    The generator is that of the evaluation's weights, which are those after `step`.
    """
    built, images, count = evaluation.built, evaluation.images, evaluation.num_samples
    metric, settings = built.metric, built.part.keys_with_effect()
    version = built.part.component.plugin.version
    known = cached_reference(metric, images, name=built.use, version=version, settings=settings)
    cost = estimate_cost(
        metric,
        name=built.name,
        num_samples=count,
        network_calls=generator.network_calls(count),
        batch_size=generator.batch_size,
        seconds_per_call=generator.seconds_per_call(),
        image_shape=generator.image_shape,
        reference_images=0 if known else len(images),
    )
    display.message(cost.describe())
    if known is None:
        with display.progress(f"{built.name}: real images", len(images)) as advance:
            known = reference_states(
                metric, images, name=built.use, version=version, settings=settings, progress=advance
            )
    with display.progress(f"{built.name}: samples", count) as advance:
        scores = evaluate_metric(
            metric,
            name=built.name,
            step=step,
            real=known,
            generated=generator.batches(range(count), evaluation.seed),
            num_samples=count,
            progress=advance,
        )
    facts = {**scores.facts, **evaluation.facts}
    return replace(scores, facts=facts, origin=origin, identity=evaluation.identity)


def refuse_unusable(scores: Scores) -> None:
    """Raises RunFailed for scores that are not finite numbers; they have been shown and written down before."""
    if scores.unusable:
        told = ", ".join(f"{name} = {text}" for name, text in scores.unusable.items())
        raise RunFailed(
            f"metric {scores.metric!r} gave {told} at step {scores.step:,}, which is not a finite number.",
            remedies=["look at the samples", "more samples: metric.num_samples", "use another metric"],
        )
