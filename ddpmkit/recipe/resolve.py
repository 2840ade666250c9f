"""Turns the merged values into a recipe: selects the components and checks every key.

All problems are collected before any is raised. No component is built, and nothing heavy is imported.
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
from ddpmkit.recipe.checks.cross_checks import contradictions, unmet_needs, unusable_keep_best
from ddpmkit.recipe.checks.hints import key_hints, unknown_top_level_key
from ddpmkit.recipe.checks.requirements import unmet_requirements
from ddpmkit.recipe.checks.table import Table
from ddpmkit.recipe.checks.unused_keys import repeated_metrics, too_long_warmup, unused_core_keys, unused_key_notes
from ddpmkit.recipe.checks.validation import unreadable_values, validate
from ddpmkit.recipe.layers import MergedRecipe
from ddpmkit.recipe.problems import MAX_PROBLEMS, RecipeError, one_line
from ddpmkit.recipe.provenance import provenance_of
from ddpmkit.recipe.recipe import Part, Recipe
from ddpmkit.recipe.schema.key_descriptions import KeyDescriptions
from ddpmkit.recipe.schema.section_list import LOCK_TABLE, SECTIONS, SWEEP_TABLE, Header, SectionKind
from ddpmkit.recipe.schema.sections import ComponentSection
from ddpmkit.recipe.toml.positions import Key
from ddpmkit.recipe.trust import untrusted_code

__all__ = ["resolve"]

_MAX_TABLES = 100


def resolve(merged: MergedRecipe, registry: Registry, default_name: str) -> Recipe:
    """Select the components and check every key. Raises RecipeError with every problem."""
    return _Resolution(merged, registry).recipe(default_name)


class _Resolution:
    """Collects the checked sections of one recipe; problems and notes are added to `merged`."""

    def __init__(self, merged: MergedRecipe, registry: Registry) -> None:
        self.merged, self.registry = merged, registry
        self.provenance = provenance_of(merged.values)
        self.parts: list[tuple[Table, Part[Any]]] = []
        self.components_with_errors: list[RegisteredComponent] = []
        """The components that rejected a key of a recipe file."""

    def recipe(self, default_name: str) -> Recipe:
        name = self._header(default_name)
        sections = {
            section.name: self._tables(section) if section.repeatable else self._single_table(section)
            for section in SECTIONS.values()
        }
        self._check_together(sections)
        if not self.merged.problems:
            self._note_unused_keys(sections)
        if self.merged.problems:
            raise self._error()
        sections = {name: self._with_untrusted_code(value) for name, value in sections.items()}
        sections |= {"metrics": sections.pop("metric"), "trackers": sections.pop("tracker")}
        return Recipe(
            name=name,
            notes=(*self.merged.notes, *self.merged.unused_key_notes),
            unused_key_notes=tuple(self.merged.unused_key_notes),
            origins=self.merged.origins,
            **sections,
        )

    def _header(self, default_name: str) -> str:
        """Check the keys above the sections, and return the name of the run."""
        table = Table(self.merged, (), {"name": default_name}, "the recipe")
        unknown = []
        for key, value in self.merged.values.items():
            if key == "extends":
                self.merged.problems.append(table.problem("`extends` works only in a recipe file", (key,)))
            elif key in Header.model_fields:
                table = replace(table, values={**table.values, key: value})
            elif key == SWEEP_TABLE:
                message = "this recipe is a sweep of several runs"
                hint = "use `ddpmkit sweep`; with --dry-run, it only lists the runs"
                self.merged.problems.append(table.problem(message, (key,), hint, at_key=True))
            elif key not in SECTIONS and key != LOCK_TABLE:
                unknown.append(key)
        for key in unknown[:MAX_PROBLEMS]:
            message, *hints = unknown_top_level_key(self.registry, key, self.merged.values[key])
            self.merged.problems.append(table.problem(message, (key,), *hints, at_key=True))
        header = validate(Header, table)
        return header.name if header is not None else default_name

    def _single_table(self, section: SectionKind) -> Any:
        values = self.merged.values.get(section.name, {})
        if not isinstance(values, Mapping):
            return self._misshapen(section)
        return self._section(section, (section.name,), values)

    def _tables(self, section: SectionKind) -> Any:
        entries = self.merged.values.get(section.name, [])
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            return self._misshapen(section)
        if len(entries) > _MAX_TABLES:
            table = Table(self.merged, (section.name, _MAX_TABLES), {}, str(section))
            self.merged.problems.append(table.problem(f"there can be at most {_MAX_TABLES} tables {section}"))
            return None
        parts = [self._section(section, (section.name, index), entry) for index, entry in enumerate(entries)]
        return tuple(parts) if None not in parts else None

    def _misshapen(self, section: SectionKind) -> None:
        message = f"`{section.name}` must be {'a list of tables' if section.repeatable else 'a single table'}"
        table = Table(self.merged, (), {}, "the recipe")
        value = self.merged.values[section.name]
        hint = f"write {section} above its keys"
        if self.merged.origin((section.name,)).position is None:  # not from a file
            example = '[{ use = "NAME" }]' if section.repeatable else "{ KEY = VALUE }"
            hint = f"write it as in {section.name} = {example}"
        if section.repeatable and isinstance(value, Mapping):
            hint = f"write {section} instead of [{section.name}]"
        if not section.repeatable and isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
            hint = f"write {section} instead of [[{section.name}]]"
        self.merged.problems.append(table.problem(message, (section.name,), hint, at_key=True))

    def _section(self, section: SectionKind, key: Key, values: Mapping[str, Any]) -> Any:
        """Return the model of the section, or its part if it selects a component; None if there is a problem."""
        table = Table(self.merged, key, values, str(section), key_hints=partial(key_hints, self.registry, section))
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
            other_keys=(KeyDescriptions(section.model),),
            how_to_fix_model=partial(fix_hint, component.plugin, component.component.config),
        )
        known = len(self.merged.problems)
        config = validate(model, own)
        if any(not problem.source.startswith("--") for problem in self.merged.problems[known:]):
            self.components_with_errors.append(component)
        if not isinstance(settings, ComponentSection) or config is None:
            return None
        self._check_readable(table, component, config)
        # The shortest name, so that a resolved recipe has one name for a component.
        part = Part(component, settings.model_copy(update={"use": component.use}), config)
        self.parts.append((table, part))
        return part

    def _component(self, section: SectionKind, table: Table) -> RegisteredComponent | None:
        """Return the component that `use` names; None if it does not exist, or if `use` is not a string.

        A `use` that is not a string is reported with the section's other keys.
        """
        use = table.values.get("use", section.default_use)
        if not isinstance(use, str) or not use or section.kind is None:
            return None
        try:
            return self.registry.get(section.kind, use)
        except PluginError as error:
            is_written = self.merged.origin((*table.key, "use")).position is not None
            hints = self.provenance.install_hints(use, self.registry) if self.provenance and is_written else ()
            message = f"there is no {section.kind} `{use}`"
            self.merged.problems.append(table.problem(message, ("use",), *hints, *error.remedies))
            return None

    def _config_model(
        self, section: SectionKind, table: Table, component: RegisteredComponent
    ) -> type[ComponentConfig] | None:
        """Return the component's config model. A broken plugin is a problem of the recipe that uses it."""
        try:
            model = component.config_model()
        except PluginError as error:
            self.merged.problems.append(table.problem(error.message.rstrip("."), ("use",), *error.remedies))
            return None
        if taken := sorted(section.keys & set(model.model_fields)):
            message = f"{component.kind} `{component.use}` defines keys that {section} already has: {', '.join(taken)}"
            fix = fix_hint(component.plugin, component.component.config)
            self.merged.problems.append(table.problem(message, ("use",), fix))
            return None
        return model

    def _check_readable(self, table: Table, component: RegisteredComponent, config: ComponentConfig) -> None:
        """Check that the lock of a run with this config can be read again."""
        for path, why in unreadable_values(config):
            given = bool(path) and path[0] in table.values
            self.merged.problems.append(
                table.problem(
                    f"{component.kind} `{component.use}`: {why}",
                    path if given else ("use",),
                    fix_hint(component.plugin, component.component.config),
                    f"until then, set `{path[0]}` in {table.title}" if path and not given else None,
                )
            )

    def _check_together(self, sections: Mapping[str, Any]) -> None:
        """Check the sections against each other; a section that has problems is None."""
        if sections["requires"] is not None:
            table = Table(self.merged, ("requires",), {}, "[requires]")
            requires = sections["requires"]
            self.merged.problems += unmet_requirements(table, requires.plugins, requires.sources)
        if None not in sections.values():
            self.merged.problems += unmet_needs(self.parts, sections["diffusion"], self.registry)
        self.merged.problems += contradictions(self.merged, sections, self.registry)
        train, metrics = sections["train"], sections["metric"]
        if metrics is not None:
            self.merged.notes += repeated_metrics(metrics)
        if train is not None:
            self.merged.notes += too_long_warmup(self.merged, train)
        # Not checked in a lock: a finished run whose `keep_best` is unusable can still be opened.
        if self.provenance is None and metrics is not None and train is not None:
            self.merged.problems += unusable_keep_best(self.merged, train, metrics)

    def _note_unused_keys(self, sections: Mapping[str, Any]) -> None:
        """Add a note for each key that is written and has no effect."""
        unused = list(unused_core_keys(sections))
        for table, part in self.parts:
            component = part.component
            try:
                unused += [((*table.key, name), why) for name, why in part.config.unused_keys()]
            except Exception as error:  # code of a plugin may raise anything
                config = f"the config of {component.kind} `{component.use}`"
                message = f"{config} failed with {type(error).__name__}: {error}"
                fix = fix_hint(component.plugin, component.component.config)
                self.merged.problems.append(table.problem(message, ("use",), fix))
        self.merged.unused_key_notes += unused_key_notes(self.merged, unused)

    def _with_untrusted_code(self, value: Any) -> Any:
        """Return a part that names untrusted code with all such code of the recipe, and other values unchanged."""
        if isinstance(value, tuple):
            return tuple(map(self._with_untrusted_code, value))
        own = [table.key for table, part in self.parts if part is value]
        if not own or not any(untrusted_code(self.merged, own[0], value.config)):
            return value
        codes = tuple(
            code for table, part in self.parts for code in untrusted_code(self.merged, table.key, part.config)
        )
        return replace(value, untrusted_code=codes, source=self.merged.origin(codes[0].key).source)

    def _error(self) -> RecipeError:
        """Return the error with all problems.

        If a component rejects a key of a lock, the error also states how the component has changed since the run.
        """
        changes = list(dict.fromkeys(self._component_changes()))
        if not changes:
            return RecipeError(self.merged.problems)
        reasons, remedies = zip(*changes, strict=True)
        other_run = "run `ddpmkit run RECIPE --out DIR` to start another run"
        hints = dict.fromkeys(hint for several in remedies for hint in several)
        return RecipeError(self.merged.problems, reasons, remedies=[other_run, *hints])

    def _component_changes(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """For each component that rejects keys of a run's lock and has changed since: the change, and remedies."""
        for component in self.components_with_errors:
            if self.provenance is not None and (why := self.provenance.plugin_change(component.plugin)) is not None:
                run = f"this is the lock of a run made with another version of {component.kind} `{component.use}`"
                yield one_line(f"{run}: {why}"), tuple(self.provenance.restore_hints(component.plugin))
