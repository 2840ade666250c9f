"""An evaluation as a recipe asks for it, and its identity: everything that its scores depend on besides the weights.

The log keeps the identity with the scores. So a score is known as one that was made already, or as one by other rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddpmkit.contracts import Scores
from ddpmkit.data.images import ImageSource
from ddpmkit.experiment.build import BuiltMetric, Model
from ddpmkit.recipe import Part, Recipe, parse_weights, toml_value
from ddpmkit.score_log import best_step, made_by_run

__all__ = ["Evaluation", "sampling_identity"]


@dataclass(frozen=True)
class Evaluation:
    """A metric with all that its scores depend on."""

    built: BuiltMetric
    model: Model
    images: ImageSource
    """The real images."""
    num_samples: int

    @classmethod
    def of(cls, built: BuiltMetric, model: Model, images: ImageSource, num_samples: int | None = None) -> "Evaluation":
        """As the recipe of `model` asks for it, or with another number of samples."""
        return cls(built, model, images, num_samples or built.num_samples)

    @property
    def weights(self) -> str:
        """Which weights generate the samples, as in `sampler.weights`."""
        return self.built.weights(self.model.recipe.sampler.settings.weights)

    @property
    def seed(self) -> int:
        """Of the samples."""
        return self.model.recipe.train.seed

    @property
    def identity(self) -> dict[str, Any]:
        """As plain JSON data. How often it is made and in what batches is no part of it."""
        protocol = self.built.metric.protocol
        return {
            "metric": _component(self.built.part),
            "protocol": {"name": protocol.name, "facts": {key: str(fact) for key, fact in protocol.facts.items()}},
            "num_samples": self.num_samples,
            "reference": self.images.dataset.fingerprint,
            **sampling_identity(self.model, self.weights),
        }

    @property
    def facts(self) -> dict[str, str]:
        """What a reader must know of how the samples were generated."""
        facts = {"sampler": _sampler_text(self.model)}
        if self.weights != self.built.metric.protocol.weights:
            facts["weights"] = self.weights
        return facts

    def gave(self, scores: Scores) -> bool:
        """Whether these are scores of this evaluation that the run made itself, after whatever step."""
        if scores.origin != "run":
            return False
        return scores.identity == self.identity if scores.identity else self._gave_earlier(scores)

    def best_step(self, scores: Sequence[Scores], name: str, steps: Sequence[int]) -> int | None:
        """The step of `steps` with the best score `name` of this evaluation."""
        return best_step([each for each in made_by_run(scores) if self.gave(each)], name, steps)

    def _gave_earlier(self, scores: Scores) -> bool:
        """Of a line by an earlier version, which has no identity: whether nothing that it says is otherwise."""
        said = {**self.identity["protocol"]["facts"], "weights": "", **self.facts, "sampler": _sampler_name(self.model)}
        return (
            scores.metric in (self.built.use, self.built.name)
            and scores.protocol == self.built.metric.protocol.name
            and scores.num_samples == self.num_samples
            and scores.num_reference == len(self.images)
            and all(scores.facts.get(name, "") == fact for name, fact in said.items())
        )


def sampling_identity(model: Model, weights: str) -> dict[str, Any]:
    """All that generated images depend on besides the weights and how many they are, as plain JSON data."""
    recipe = model.recipe
    return {
        "sampler": {**_component(recipe.sampler), "steps": _steps(model), "guidance": recipe.sampler.settings.guidance},
        "weights": _canonical(weights, recipe),
        "seed": recipe.train.seed,
        "precision": str(model.runtime.dtype).removeprefix("torch."),
    }


def _component(part: Part[Any]) -> dict[str, Any]:
    """A component by its name, the version of its code, and the keys that a result depends on."""
    component = part.component
    return {"use": component.use, "version": component.plugin.version, "config": part.keys_with_effect()}


def _canonical(weights: str, recipe: Recipe) -> str:
    """`ema` and `decay=D` are one average if D is the recipe's decay."""
    return str(recipe.train.stored_average(parse_weights(weights)) or weights)


def _steps(model: Model) -> int:
    return model.recipe.sampler.settings.steps or model.process.timesteps


def _sampler_text(model: Model) -> str:
    """`ddim, 10 steps`, and the keys that are not at their defaults."""
    part = model.recipe.sampler
    chosen: Mapping[str, Any] = part.config.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    told = [f"{key} = {toml_value(value)}" for key, value in chosen.items()]
    told += [f"guidance = {part.settings.guidance:g}"] if part.settings.guidance != 1 else []
    return ", ".join([_sampler_name(model), *told])


def _sampler_name(model: Model) -> str:
    return f"{model.recipe.sampler.component.use}, {_steps(model)} steps"
