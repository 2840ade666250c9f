"""From the merged tree to a recipe: choose the components, check every key, let the parts check each other.

Nothing is built and nothing heavy is imported; all problems are found before any is raised. It does not know how the
tree came about.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ddpmkit.errors import PluginError
from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.fault_location import fix_hint
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe.compatibility import providers, unmet_needs
from ddpmkit.recipe.hints import guidance_for, unknown_at_top
from ddpmkit.recipe.layers import Layered
from ddpmkit.recipe.problems import MOST, RecipeError, one_line
from ddpmkit.recipe.provenance import made_with
from ddpmkit.recipe.recipe import Part, Recipe
from ddpmkit.recipe.requirements import unmet_requirements
from ddpmkit.recipe.schema import LOCK_TABLE, SECTIONS, SWEEP_TABLE, ComponentSection, Header, SectionKind, TrainSection
from ddpmkit.recipe.scores import repeated_metrics, unusable_keep_best
from ddpmkit.recipe.toml_positions import Key
from ddpmkit.recipe.toml_writer import toml_value
from ddpmkit.recipe.trust import foreign_code
from ddpmkit.recipe.unused_keys import idle_core_keys, idle_notes, is_written
from ddpmkit.recipe.validation import Table, unreadable, validate
from ddpmkit.recipe.value_descriptions import Expectations
from ddpmkit.recipe.weights_choice import parse_weights

__all__ = ["resolve"]

_MOST_TABLES = 100
_GUIDANCE_KEYS: tuple[Key, ...] = (("sampler", "guidance"), ("train", "label_dropout"))


def resolve(tree: Layered, registry: Registry, default_name: str) -> Recipe:
    """The recipe that the tree describes. Raises RecipeError with everything that is wrong."""
    return _Resolution(tree, registry).recipe(default_name)


class _Resolution:
    """The tree's `problems` grow on the way."""

    def __init__(self, tree: Layered, registry: Registry) -> None:
        self.tree, self.registry = tree, registry
        self.made_with = made_with(tree.values)
        self.parts: list[tuple[Table, Part[Any]]] = []
        self.misfits: list[RegisteredComponent] = []
        """Components that do not take the keys that are written for them."""

    def recipe(self, default_name: str) -> Recipe:
        name = self._header(default_name)
        found = {
            section.name: self._many(section) if section.many else self._one(section) for section in SECTIONS.values()
        }
        if found["requires"] is not None:
            table = Table(self.tree, ("requires",), {}, "[requires]")
            self.tree.problems += unmet_requirements(table, found["requires"].plugins, found["requires"].sources)
        self._check_steps(found["sampler"], found["diffusion"])
        # A check that lacks one of its sections is left out, so that it shows no problem that follows from another.
        usable = {name for name, value in found.items() if value is not None}
        if usable == found.keys():
            self.tree.problems += unmet_needs(self.parts, found["diffusion"], self.registry)
        if usable >= {"data", "backbone", "sampler", "train"}:
            self._check_labels(found)
        if usable >= {"sampler", "train"}:
            self._check_weights(found["sampler"].settings.weights, found["train"])
        if usable >= {"metric"}:
            self.tree.notes += repeated_metrics(found["metric"])
        # A run that has such a value in its lock can still be looked at.
        if self.made_with is None and usable >= {"train", "metric"}:
            train = Table(self.tree, ("train",), {}, "[train]")
            self.tree.problems += unusable_keep_best(train, found["train"], found["metric"])
        if usable >= {"train"}:
            self.tree.notes += self._short_of_warmup(found["train"])
        if not self.tree.problems:
            self._check_effects(found)
        if self.tree.problems:
            raise self._error()
        found = {name: self._guarded(value) for name, value in found.items()}
        found |= {"metrics": found.pop("metric"), "trackers": found.pop("tracker")}
        return Recipe(
            name=name,
            notes=(*self.tree.notes, *self.tree.idle),
            idle=tuple(self.tree.idle),
            origins=self.tree.origins,
            **found,
        )

    def _guarded(self, value: Any) -> Any:
        """A part that names code of a run from elsewhere, told of all such code of the recipe; all else as it is."""
        if isinstance(value, tuple):
            return tuple(map(self._guarded, value))
        own = [table.key for table, part in self.parts if part is value]
        if not own or not any(foreign_code(self.tree, own[0], value.config)):
            return value
        codes = tuple(code for table, part in self.parts for code in foreign_code(self.tree, table.key, part.config))
        return replace(value, foreign_code=codes, source=self.tree.origin(codes[0].key).source)

    def _error(self) -> RecipeError:
        """All problems; where keys of a run's own lock do not fit any more, also what was changed since."""
        reasons, remedies = [], ["ddpmkit run RECIPE --out DIR starts another run"]
        for component in self.misfits:
            if self.made_with is not None and (why := self.made_with.why_unlike(component.plugin)) is not None:
                run = f"this is the lock of a run made with another version of {component.kind} `{component.use}`"
                reasons.append(one_line(f"{run}: {why}"))
                remedies += self.made_with.ways_back(component.plugin)
        if not reasons:
            return RecipeError(self.tree.problems)
        return RecipeError(self.tree.problems, reasons, remedies=list(dict.fromkeys(remedies)))

    def _header(self, default_name: str) -> str:
        """Check what stands above the sections, and that nothing else does."""
        table = Table(self.tree, (), {"name": default_name}, "the recipe")
        unknown = []
        for key, value in self.tree.values.items():
            if key == "extends":
                self.tree.problems.append(table.problem("`extends` belongs in a recipe file", (key,)))
            elif key in Header.model_fields:
                table = replace(table, values={**table.values, key: value})
            elif key == SWEEP_TABLE:
                message = "[sweep] describes many runs, and this is to be one"
                hint = "`ddpmkit sweep` makes them all; `--dry-run` shows which"
                self.tree.problems.append(table.problem(message, (key,), hint, at_key=True))
            elif key not in SECTIONS and key != LOCK_TABLE:
                unknown.append(key)
        for key in unknown[:MOST]:
            message, *hints = unknown_at_top(self.registry, key, self.tree.values[key])
            self.tree.problems.append(table.problem(message, (key,), *hints, at_key=True))
        header = validate(Header, table)
        return header.name if header is not None else default_name

    def _one(self, section: SectionKind) -> Any:
        values = self.tree.values.get(section.name, {})
        if not isinstance(values, Mapping):
            return self._misshapen(section)
        return self._section(section, (section.name,), values)

    def _many(self, section: SectionKind) -> Any:
        entries = self.tree.values.get(section.name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            return self._misshapen(section)
        if len(entries) > _MOST_TABLES:
            table = Table(self.tree, (section.name, _MOST_TABLES), {}, str(section))
            self.tree.problems.append(table.problem(f"there can be no more than {_MOST_TABLES} of {section}"))
            return None
        parts = [self._section(section, (section.name, index), entry) for index, entry in enumerate(entries)]
        return tuple(parts) if None not in parts else None

    def _misshapen(self, section: SectionKind) -> None:
        message = f"`{section.name}` must be {'a list of tables' if section.many else 'a single table'}"
        whole = Table(self.tree, (), {}, "the recipe")
        hint = f"write {section} above its keys"
        self.tree.problems.append(whole.problem(message, (section.name,), hint, at_key=True))

    def _section(self, section: SectionKind, key: Key, values: Mapping[str, Any]) -> Any:
        """The section's model, or the part that fills the section; None when there was a problem."""
        table = Table(self.tree, key, values, str(section), guidance=partial(guidance_for, self.registry, section))
        if section.kind is None:
            return validate(section.model, table)
        core = {name: value for name, value in values.items() if name in section.keys}
        rest = {name: value for name, value in values.items() if name not in section.keys}
        settings = validate(section.model, replace(table, values=core))
        component = self._component(section, table)
        model = self._config_model(section, table, component) if component is not None else None
        if component is None or model is None:
            return None
        own = replace(
            table,
            values=rest,
            owner=f"{component.kind} `{component.use}`",
            others=(Expectations(section.model),),
            mend=partial(fix_hint, component.plugin, component.component.config),
        )
        known = len(self.tree.problems)
        config = validate(model, own)
        if any(not problem.source.startswith("--") for problem in self.tree.problems[known:]):
            self.misfits.append(component)
        if not isinstance(settings, ComponentSection) or config is None:
            return None
        self._check_readable(table, component, config)
        # In its shortest form, so that one component has one spelling in a resolved recipe.
        part = Part(component, settings.model_copy(update={"use": component.use}), config)
        self.parts.append((table, part))
        return part

    def _component(self, section: SectionKind, table: Table) -> RegisteredComponent | None:
        """What `use` names; one that is no string at all is reported with the section's other keys."""
        use = table.values.get("use", section.default_use)
        if not isinstance(use, str) or not use or section.kind is None:
            return None
        try:
            return self.registry.get(section.kind, use)
        except PluginError as error:
            is_written = self.tree.origin((*table.key, "use")).position is not None
            ways = self.made_with.ways_to(use, self.registry) if self.made_with and is_written else ()
            message = f"there is no {section.kind} `{use}`"
            self.tree.problems.append(table.problem(message, ("use",), *ways, *error.remedies))
            return None

    def _config_model(
        self, section: SectionKind, table: Table, component: RegisteredComponent
    ) -> type[ComponentConfig] | None:
        """The component's model. A broken plugin is a problem of the recipe that uses it."""
        try:
            model = component.config_model()
        except PluginError as error:
            self.tree.problems.append(table.problem(error.message.rstrip("."), ("use",), *error.remedies))
            return None
        if taken := sorted(section.keys & set(model.model_fields)):
            message = (
                f"{component.kind} `{component.use}` claims keys of {section} that are the core's: {', '.join(taken)}"
            )
            mend = fix_hint(component.plugin, component.component.config)
            self.tree.problems.append(table.problem(message, ("use",), mend))
            return None
        return model

    def _check_readable(self, table: Table, component: RegisteredComponent, config: ComponentConfig) -> None:
        """That the lock of a run with this config can be read again."""
        for path, why in unreadable(config):
            given = bool(path) and path[0] in table.values
            self.tree.problems.append(
                table.problem(
                    f"{component.kind} `{component.use}`: {why}",
                    path if given else ("use",),
                    fix_hint(component.plugin, component.component.config),
                    f"until then, set `{path[0]}` in {table.title}" if path and not given else None,
                )
            )

    def _check_labels(self, found: Mapping[str, Any]) -> None:
        """That the backbone can be told classes where there are labels, and that there are labels where they matter."""
        backbone, guidance = found["backbone"].component, found["sampler"].settings.guidance
        labels = found["data"].settings.labels
        if labels and "class-labels" not in backbone.component.provides:
            table = Table(self.tree, ("data",), {}, "[data]")
            message = f"`labels` in [data]: backbone `{backbone.use}` cannot be told the class of an image"
            self.tree.problems.append(table.problem(message, ("labels",), *providers(["class-labels"], self.registry)))
        if guidance != 1 and not labels:
            table = Table(self.tree, ("sampler",), {}, "[sampler]")
            message = f"`guidance` in [sampler] is {guidance}, but the network is told no class"
            hint = "data.labels = true tells it, and data.classes names the classes"
            self.tree.problems.append(table.problem(message, ("guidance",), hint))
        if guidance != 1 and labels and not found["train"].label_dropout:
            self._refuse_guidance_without_dropout(guidance)

    def _refuse_guidance_without_dropout(self, guidance: float) -> None:
        """Such a run may be there already, from before this was refused: it is still read."""
        written = next((key for key in _GUIDANCE_KEYS if is_written(self.tree, key)), None)
        if written is None:
            return
        table = Table(self.tree, (), {}, "the recipe")
        message = (
            f"`guidance` in [sampler] is {guidance}, but train.label_dropout = 0: guidance compares with the network's "
            "answer without a label, which is never trained then"
        )
        hints = ("train.label_dropout = 0.1 is usual", "sampler.guidance = 1 samples without guidance")
        self.tree.problems.append(table.problem(message, written, *hints))

    def _check_effects(self, found: Mapping[str, Any]) -> None:
        """What is written and changes nothing is kept as a note."""
        idle = list(idle_core_keys(found))
        for table, part in self.parts:
            component = part.component
            try:
                idle += [((*table.key, name), why) for name, why in part.config.unused_keys()]
            except Exception as error:  # a method of someone else's model may do anything
                message = f"the config of {component.kind} `{component.use}` broke with {type(error).__name__}: {error}"
                mend = fix_hint(component.plugin, component.component.config)
                self.tree.problems.append(table.problem(message, ("use",), mend))
        self.tree.idle += idle_notes(self.tree, idle)

    def _check_weights(self, weights: str, train: TrainSection) -> None:
        wanted = parse_weights(weights)
        if train.average(wanted) is None:
            key = "ema_decays" if wanted.kind == "decay" else "ema_sigma_rels"
            table = Table(self.tree, ("sampler",), {}, "[sampler]")
            message = f"`weights` in [sampler] is {toml_value(weights)}, but [train] keeps nothing to have that from"
            self.tree.problems.append(table.problem(message, ("weights",), f"train.{key} keeps it"))

    def _short_of_warmup(self, train: TrainSection) -> Iterator[str]:
        """A note if a person wrote a warm-up that is longer than the training."""
        key = ("train", "warmup_steps")
        if train.warmup_steps > train.steps and is_written(self.tree, key):
            yield one_line(
                f"{self.tree.origin(key)}: `warmup_steps` in [train] is {train.warmup_steps}, but steps is "
                f"{train.steps}: training ends before the learning rate reaches {train.learning_rate}"
            )

    def _check_steps(self, sampler: Any, diffusion: Any) -> None:
        if sampler is None or diffusion is None or (sampler.settings.steps or 0) <= diffusion.timesteps:
            return
        table = Table(self.tree, ("sampler",), {}, "[sampler]")
        message = f"`steps` in [sampler] is {sampler.settings.steps}, but diffusion.timesteps is {diffusion.timesteps}"
        self.tree.problems.append(table.problem(message, ("steps",), "a sampler visits each timestep at most once"))
