"""Evaluates weights by a metric of the recipe.

The identity of an evaluation contains everything that its scores depend on besides the weights. The log stores the
identity with the scores, so a resumed run detects which scores exist already, and which were computed in another way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ddpmkit.contracts import Scores
from ddpmkit.data.images import ImageSource
from ddpmkit.display import ProgressDisplay
from ddpmkit.errors import RunFailed
from ddpmkit.evaluation import cached_reference, estimate_cost, evaluate_metric, reference_states
from ddpmkit.experiment.metrics import BuiltMetric
from ddpmkit.experiment.model import Model
from ddpmkit.experiment.output_identity import component_identity, sampling_identity
from ddpmkit.recipe import toml_value
from ddpmkit.sampling.generate import ImageGenerator
from ddpmkit.score_log import best_step, made_by_run

__all__ = ["Evaluation", "check_finite", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """A metric with everything that its scores depend on."""

    built: BuiltMetric
    model: Model
    images: ImageSource
    """The real images."""
    num_samples: int

    @classmethod
    def of(cls, built: BuiltMetric, model: Model, images: ImageSource, num_samples: int | None = None) -> "Evaluation":
        """Return the evaluation that the recipe of `model` defines, with `num_samples` samples if that is given."""
        return cls(built, model, images, num_samples or built.num_samples)

    @property
    def weights(self) -> str:
        """The weights that generate the samples, as in `sampler.weights`."""
        return self.built.weights(self.model.recipe.sampler.settings.weights)

    @property
    def seed(self) -> int:
        """The seed of the samples."""
        return self.model.recipe.train.seed

    @property
    def identity(self) -> dict[str, Any]:
        """The identity as plain JSON data. The interval of the metric and the batch size do not belong to it."""
        protocol = self.built.metric.protocol
        return {
            "metric": component_identity(self.built.part),
            "protocol": {"name": protocol.name, "facts": {key: str(fact) for key, fact in protocol.facts.items()}},
            "num_samples": self.num_samples,
            "reference": self.images.dataset.fingerprint,
            **sampling_identity(self.model, self.weights),
        }

    @property
    def facts(self) -> dict[str, str]:
        """How the samples were generated, for the reader of a score."""
        facts = {"sampler": _sampler_text(self.model)}
        if self.weights != self.built.metric.protocol.weights:
            facts["weights"] = self.weights
        return facts

    def produced(self, scores: Scores) -> bool:
        """Return whether this evaluation of the run itself computed these scores, at any step."""
        if scores.origin != "run":
            return False
        return scores.identity == self.identity if scores.identity else self._matches_old_record(scores)

    def best_step(self, scores: Sequence[Scores], name: str, steps: Sequence[int]) -> int | None:
        """Return the step of `steps` with the best score `name` of this evaluation; None if there is no such score."""
        return best_step([each for each in made_by_run(scores) if self.produced(each)], name, steps)

    def _matches_old_record(self, scores: Scores) -> bool:
        """Return whether old scores, which have no identity, agree with this evaluation in all facts they contain."""
        expected = {**self.identity["protocol"]["facts"], "weights": "", **self.facts}
        expected["sampler"] = _sampler_name(self.model)
        return (
            scores.metric in (self.built.use, self.built.name)
            and scores.protocol == self.built.metric.protocol.name
            and scores.num_samples == self.num_samples
            and scores.num_reference == len(self.images)
            and all(scores.facts.get(name, "") == fact for name, fact in expected.items())
        )


def evaluate(
    evaluation: Evaluation,
    generator: ImageGenerator,
    step: int,
    display: ProgressDisplay,
    origin: Literal["run", "request"] = "run",
) -> Scores:
    """Show the expected cost, generate samples, compute the scores and return them.

    The real images are measured first if their result is not in the cache.

    `generator` must have the weights of the evaluation after optimizer step `step`.
    """
    built, images, count = evaluation.built, evaluation.images, evaluation.num_samples
    metric, settings = built.metric, built.part.keys_with_effect()
    version = built.part.component.plugin.version
    real = cached_reference(metric, images, name=built.use, version=version, settings=settings)
    cost = estimate_cost(
        metric,
        name=built.name,
        num_samples=count,
        network_calls=generator.network_calls(count),
        batch_size=generator.images_per_batch,
        seconds_per_call=generator.seconds_per_call(),
        image_shape=generator.image_shape,
        reference_images=0 if real else len(images),
    )
    display.message(cost.describe())
    if real is None:
        with display.progress(f"{built.name}: real images", len(images)) as advance:
            real = reference_states(
                metric, images, name=built.use, version=version, settings=settings, progress=advance
            )
    with display.progress(f"{built.name}: samples", count) as advance:
        scores = evaluate_metric(
            metric,
            name=built.name,
            step=step,
            real=real,
            generated=generator.batches(range(count), evaluation.seed),
            num_samples=count,
            progress=advance,
        )
    facts = {**scores.facts, **evaluation.facts}
    return replace(scores, facts=facts, origin=origin, identity=evaluation.identity)


def check_finite(scores: Scores) -> None:
    """Raise RunFailed if a score is NaN or infinity. Call it after the scores were shown and logged."""
    if scores.unusable:
        values = ", ".join(f"{name} = {text}" for name, text in scores.unusable.items())
        raise RunFailed(
            f"metric {scores.metric!r} returned {values} at step {scores.step:,}, which is not a finite number.",
            remedies=["look at the samples", "raise metric.num_samples", "use another metric"],
        )


def _sampler_text(model: Model) -> str:
    """Return `ddim, 10 steps`, and the keys that differ from their defaults."""
    part = model.recipe.sampler
    chosen: Mapping[str, Any] = part.config.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    keys = [f"{key} = {toml_value(value)}" for key, value in chosen.items()]
    keys += [f"guidance = {part.settings.guidance:g}"] if part.settings.guidance != 1 else []
    return ", ".join([_sampler_name(model), *keys])


def _sampler_name(model: Model) -> str:
    return f"{model.recipe.sampler.component.use}, {model.sampling_steps} steps"
