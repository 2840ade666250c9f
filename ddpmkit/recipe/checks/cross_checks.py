"""Checks that concern several sections of a recipe at the same time.

A component declares capabilities in `needs` and `provides`; each need of a component must be provided by
another one. The diffusion process
itself provides `prediction:epsilon` (or `x0`, `v`) and `terminal-signal`: the last timestep still contains some signal.
Samplers that divide by it need this. A metric provides `score:fid` if its score `fid` ranks runs, and
`unranked-score:distance` if its score `distance` does not.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.checks.table import Table
from ddpmkit.recipe.layers import MergedRecipe
from ddpmkit.recipe.problems import Problem, did_you_mean, listed
from ddpmkit.recipe.recipe import Part
from ddpmkit.recipe.schema.sections import DiffusionSection, MetricSection, SamplerSection
from ddpmkit.recipe.schema.train_section import TrainSection
from ddpmkit.recipe.schema.weights_choice import parse_weights
from ddpmkit.recipe.toml.positions import Key
from ddpmkit.recipe.toml.writer import toml_value

__all__ = ["contradictions", "declared_scores", "unmet_needs", "unusable_keep_best"]

_GUIDANCE_KEYS: tuple[Key, ...] = (("sampler", "guidance"), ("train", "label_dropout"))
_PREDICTION = "prediction:"
_TERMINAL_SIGNAL = "terminal-signal"
_RANKED, _UNRANKED = "score:", "unranked-score:"


def contradictions(recipe: MergedRecipe, sections: Mapping[str, Any], registry: Registry) -> Iterator[Problem]:
    """Yield keys of the checked `sections` that contradict each other.

    A section that has problems is None. Checks that need this section are skipped, so that they report no consequences
    of these problems.
    """
    data, diffusion, backbone, sampler, train = (
        sections[name] for name in ("data", "diffusion", "backbone", "sampler", "train")
    )
    if sampler and diffusion:
        yield from _too_many_steps(recipe, sampler.settings, diffusion)
    if sampler and train:
        yield from _absent_average(recipe, sampler.settings, train)
    if data and backbone and data.settings.labels and "class-labels" not in backbone.component.component.provides:
        message = f"`labels` in [data]: backbone `{backbone.component.use}` does not support class conditioning"
        yield _table(recipe, "data").problem(message, ("labels",), *_remedies(["class-labels"], registry))
    if data and sampler and train:
        yield from _guidance_without_training(recipe, data.settings.labels, sampler.settings.guidance, train)


def _too_many_steps(recipe: MergedRecipe, sampler: SamplerSection, diffusion: DiffusionSection) -> Iterator[Problem]:
    if (sampler.steps or 0) > diffusion.timesteps:
        message = f"`steps` in [sampler] is {sampler.steps}, but diffusion.timesteps is {diffusion.timesteps}"
        hint = "a sampler visits each timestep at most once"
        yield _table(recipe, "sampler").problem(message, ("steps",), hint)


def _absent_average(recipe: MergedRecipe, sampler: SamplerSection, train: TrainSection) -> Iterator[Problem]:
    weights = parse_weights(sampler.weights)
    if train.stored_average(weights) is None:
        message = f"`weights` in [sampler] is {toml_value(sampler.weights)}, but [train] stores no such average"
        hint = (
            f"add {weights.value} to train.ema_decays"
            if weights.kind == "decay"
            else "set train.ema_sigma_rels, for example to [0.05, 0.1], from which any width can be reconstructed"
        )
        yield _table(recipe, "sampler").problem(message, ("weights",), hint)


def _guidance_without_training(
    recipe: MergedRecipe, labels: bool, guidance: float, train: TrainSection
) -> Iterator[Problem]:
    if guidance != 1 and not labels:
        message = f"`guidance` in [sampler] is {guidance}, but guidance needs class labels"
        hint = "set data.labels = true and list the classes in data.classes"
        yield _table(recipe, "sampler").problem(message, ("guidance",), hint)
    # Old locks set both keys. They must still be readable, so only keys that the user wrote are checked.
    written = next((key for key in _GUIDANCE_KEYS if recipe.set_by_user(key)), None)
    if guidance != 1 and labels and not train.label_dropout and written is not None:
        message = (
            f"`guidance` in [sampler] is {guidance}, but train.label_dropout = 0: guidance needs the unconditional "
            "prediction, which is never trained without label dropout"
        )
        hints = (
            "set train.label_dropout = 0.1, the usual value",
            "set sampler.guidance = 1 to sample without guidance",
        )
        yield Table(recipe, (), {}, "the recipe").problem(message, written, *hints)


def unmet_needs(
    parts: Sequence[tuple[Table, Part[Any]]], diffusion: DiffusionSection, registry: Registry
) -> Iterator[Problem]:
    """Yield a problem for each need that no component provides. The need `a|b` is met by a or b."""
    provided = {f"{_PREDICTION}{diffusion.prediction}"}
    provided |= set() if diffusion.zero_terminal_snr else {_TERMINAL_SIGNAL}
    provided |= {capability for _, part in parts for capability in part.component.component.provides}
    for table, part in parts:
        component = f"{part.component.kind} `{part.component.use}`"
        for need in part.component.component.needs:
            alternatives = need.split("|")
            if provided.isdisjoint(alternatives):
                message = f"{component} needs {_need_in_words(alternatives, diffusion)}"
                hints = list(_remedies(alternatives, registry)) or [_remedy_without_provider(part)]
                yield table.problem(message, ("use",), *hints)


def _need_in_words(alternatives: Sequence[str], diffusion: DiffusionSection) -> str:
    if all(need.startswith(_PREDICTION) for need in alternatives):
        predictions = [toml_value(need.removeprefix(_PREDICTION)) for need in alternatives]
        return f"prediction {listed(predictions)}, but diffusion.prediction is {toml_value(diffusion.prediction)}"
    if alternatives == [_TERMINAL_SIGNAL]:
        return "some signal at the last timestep, but diffusion.zero_terminal_snr is true"
    return f"{listed([f'`{need}`' for need in alternatives])}, which nothing in this recipe provides"


def _remedy_without_provider(part: Part[Any]) -> str:
    """Return the hint if no installed component meets a need."""
    kind, origin = part.component.kind, part.component.origin
    return f"no installed component provides it: install what {origin} requires for it, or use another {kind}"


def _remedies(alternatives: Sequence[str], registry: Registry) -> Iterator[str]:
    """Yield the ways to change a recipe so that it meets one of these needs."""
    for alternative in alternatives:
        if alternative.startswith(_PREDICTION):
            yield f"set diffusion.prediction = {toml_value(alternative.removeprefix(_PREDICTION))}"
        if alternative == _TERMINAL_SIGNAL:
            yield "set diffusion.zero_terminal_snr = false"
        for entries in registry.components.values():
            for entry in entries.values():
                if alternative in entry.component.provides:
                    yield f"{entry.kind} `{entry.use}` provides it"


def declared_scores(provides: Sequence[str]) -> dict[str, bool]:
    """Return the names of the scores that a metric declares in `provides`, and whether each ranks runs."""
    ranked = {name.removeprefix(_RANKED): True for name in provides if name.startswith(_RANKED)}
    return ranked | {name.removeprefix(_UNRANKED): False for name in provides if name.startswith(_UNRANKED)}


def unusable_keep_best(
    recipe: MergedRecipe, train: TrainSection, metrics: Sequence[Part[MetricSection]]
) -> Iterator[Problem]:
    """Yield one problem if `train.keep_best` is not the name of a score that ranks runs.

    If a metric does not declare its scores, this can only be checked when the run starts.
    """
    wanted = train.keep_best
    scores = [declared_scores(part.component.component.provides) for part in metrics]
    if not wanted or any(found.get(wanted) for found in scores) or not all(scores):
        return
    ranked = list(dict.fromkeys(name for found in scores for name, ranks in found.items() if ranks))
    usable = [f"scores that can be used: {', '.join(ranked)}"] if ranked else []
    if not metrics:
        why, hints = "the recipe has no [[metric]]", ["add a [[metric]] that reports this score"]
    elif any(wanted in found for found in scores):
        why, hints = "that score does not rank runs", usable
    else:
        close = did_you_mean(wanted, ranked)
        why, hints = "no [[metric]] reports a score of this name", [f"did you mean `{close}`?"] if close else usable
    message = f"`keep_best` in [train] is {toml_value(wanted)}, but {why}"
    yield _table(recipe, "train").problem(
        message, ("keep_best",), *hints, 'set keep_best = "" to keep no best checkpoint'
    )


def _table(recipe: MergedRecipe, section: str) -> Table:
    return Table(recipe, (section,), {}, f"[{section}]")
