"""The checks of every component, whatever its kind: side effects, config, manifest."""

import json
import subprocess
import sys
import tomllib
from typing import Any

import numpy as np
import torch

from ddpmkit.recipe import toml_text
from ddpmkit.recipe.checks.validation import unreadable_values
from ddpmkit.recipe.schema.section_list import SECTIONS
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import NotApplicable, require
from ddpmkit.testing.subject import Subject

__all__ = ["RULES"]


def _manifest_without_torch(subject: Subject) -> None:
    plugin = subject.registered.plugin
    if plugin.path is not None:
        raise NotApplicable("a single file contains manifest and implementation, and may import torch")
    modules = ", ".join(sorted({plugin.module, subject.registered.component.config.partition(":")[0]} - {""}))
    code = f"import sys; sys.path[:] = {sys.path}; import {modules}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    require(done.returncode == 0, done.stderr.strip() or f"the import of {modules} imports torch")


def _fields_described(subject: Subject) -> None:
    fields = type(subject.config).model_fields
    bare = [name for name, field in fields.items() if not (field.description or "").strip()]
    require(not bare, f"{len(bare)} of {len(fields)} fields have no description: {', '.join(bare)}")


def _keys_free(subject: Subject) -> None:
    (section,) = (section for section in SECTIONS.values() if section.kind == subject.registered.kind)
    taken = sorted(section.keys & set(type(subject.config).model_fields))
    require(
        not taken, f"the core already uses {', '.join(taken)} in {section}: recipes with this component are rejected"
    )


def _config_as_toml(subject: Subject) -> None:
    require(not (refused := unreadable_values(subject.config)), "; ".join(why for _, why in refused))
    written = toml_text(subject.config.model_dump(mode="json", exclude_none=True))
    again = type(subject.config).model_validate_json(json.dumps(tomllib.loads(written)))
    require(again == subject.config, f"{subject.config!r} was written, {again!r} was read")


def _no_global_rng(subject: Subject) -> None:
    changed = subject.observation.generators
    require(not changed, f"building or using it changed the global generator of {', '.join(changed)}")
    subject.require_use()


def _built_twice(subject: Subject) -> None:
    subject.require_use()
    first, second = subject.observation.results
    differing = [name for name in first if name not in second or not _same(first[name], second[name])]
    require(not differing, "; ".join(f"{name}: {_difference(first[name], second.get(name))}" for name in differing[:5]))


def _silent(subject: Subject) -> None:
    printed = subject.observation.printed
    require(not printed, f"it printed {len(printed)} characters: {printed[:200]!r}")
    subject.require_use()


def _settings_kept(subject: Subject) -> None:
    changed = subject.observation.settings
    require(not changed, f"it changed {'; '.join(changed)}")
    subject.require_use()


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    return bool(first == second)


def _difference(first: Any, second: Any) -> str:
    first, second = (torch.as_tensor(value) if isinstance(value, np.ndarray) else value for value in (first, second))
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor) and first.shape == second.shape:
        return f"they differ by up to {float((first.double() - second.double()).abs().max()):.3g}"
    return f"{first!r}, then {second!r}"


RULES = (
    Rule(
        "manners.manifest-without-torch",
        "importing the manifest and the config does not import torch",
        "`ddpmkit plugins list` imports the manifest of every installed plugin, so it must be light. Put the "
        "implementation into another module, name it as `target` in the manifest, and import torch only there.",
        _manifest_without_torch,
    ),
    Rule(
        "manners.fields-described",
        "every config field has a description",
        "Write a docstring below each field of the config. `ddpmkit plugins show`, editors and the docs display it.",
        _fields_described,
    ),
    Rule(
        "manners.keys-free",
        "no config field has the name of a key that the core uses in the same section of a recipe",
        "The keys of a component and of the core are in the same section. Rename the field; docs/recipes.md and "
        "`ddpmkit recipe keys` list the keys of the core.",
        _keys_free,
    ),
    Rule(
        "manners.config-as-toml",
        "the config is unchanged after it is written as TOML and read back",
        "A run writes its recipe and reads it when it is resumed. Use numbers, strings, booleans, tuples of these, "
        "and None as the default of an optional key. A default must be valid for its own field, which pydantic does "
        "not check. A validator must not change a value that it has already accepted.",
        _config_as_toml,
    ),
    Rule(
        "manners.no-global-rng",
        "the global random generators of torch, numpy and Python are not used",
        "Using or seeding them changes the random numbers of all other code. Use the noise that the core passes (a "
        "sampler's `noise`), or your own generator with a seed from the config. The only exception is the initial "
        "weights of a backbone: the core seeds torch's generator for them and restores it.",
        _no_global_rng,
    ),
    Rule(
        "manners.built-twice",
        "two builds with the same config and seed return the same results",
        "Look for random numbers without a seed, Python's `hash`, the time, the iteration order of a set, a folder "
        "listing without sorting, and state in a module or class that survives a build.",
        _built_twice,
    ),
    Rule(
        "manners.silent",
        "nothing is printed",
        "Use `logging.getLogger(__name__)` instead of `print`, and disable the progress bars of libraries. Output "
        "would disturb the progress display.",
        _silent,
    ),
    Rule(
        "manners.settings-kept",
        "global settings of torch and of the process are not changed",
        "Default dtype and device, gradient mode, number of threads and working directory affect all other code. "
        "Change them in a `with` block that restores them, and pass dtype and device to each tensor instead of a "
        "default.",
        _settings_kept,
    ),
)
