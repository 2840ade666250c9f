"""Manners: what every component owes, whatever its kind."""

import json
import subprocess
import sys
import tomllib
from typing import Any

import numpy as np
import torch

from ddpmkit.recipe import toml_text
from ddpmkit.recipe.schema import SECTIONS
from ddpmkit.recipe.validation import unreadable
from ddpmkit.testing.checks import Rule
from ddpmkit.testing.failures import NotApplicable, require
from ddpmkit.testing.subject import Subject

__all__ = ["RULES"]


def _manifest_without_torch(subject: Subject) -> None:
    plugin = subject.registered.plugin
    if plugin.path is not None:
        raise NotApplicable("a single file holds manifest and implementation, and may import what it needs")
    modules = ", ".join(sorted({plugin.module, subject.registered.component.config.partition(":")[0]} - {""}))
    code = f"import sys; sys.path[:] = {sys.path}; import {modules}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    require(done.returncode == 0, done.stderr.strip() or f"importing {modules} imports torch")


def _fields_described(subject: Subject) -> None:
    fields = type(subject.config).model_fields
    bare = [name for name, field in fields.items() if not (field.description or "").strip()]
    require(not bare, f"{len(bare)} of {len(fields)} fields have no description: {', '.join(bare)}")


def _keys_free(subject: Subject) -> None:
    (section,) = (section for section in SECTIONS.values() if section.kind == subject.registered.kind)
    taken = sorted(section.keys & set(type(subject.config).model_fields))
    require(not taken, f"{', '.join(taken)} in {section}: recipes that use it are refused")


def _config_as_toml(subject: Subject) -> None:
    require(not (refused := unreadable(subject.config)), "; ".join(why for _, why in refused))
    written = toml_text(subject.config.model_dump(mode="json", exclude_none=True))
    again = type(subject.config).model_validate_json(json.dumps(tomllib.loads(written)))
    require(again == subject.config, f"{again!r} came back instead of {subject.config!r}")


def _no_global_rng(subject: Subject) -> None:
    moved = subject.observation.generators
    require(not moved, f"after a build and a use, another state of the global generator of {', '.join(moved)}")
    subject.require_use()


def _built_twice(subject: Subject) -> None:
    subject.require_use()
    first, second = subject.observation.results
    differing = [name for name in first if name not in second or not _same(first[name], second[name])]
    require(not differing, "; ".join(f"{name}: {_distance(first[name], second.get(name))}" for name in differing[:5]))


def _silent(subject: Subject) -> None:
    printed = subject.observation.printed
    require(not printed, f"{len(printed)} characters: {printed[:200]!r}")
    subject.require_use()


def _settings_kept(subject: Subject) -> None:
    changed = subject.observation.settings
    require(not changed, "; ".join(changed))
    subject.require_use()


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    return bool(first == second)


def _distance(first: Any, second: Any) -> str:
    first, second = (torch.as_tensor(value) if isinstance(value, np.ndarray) else value for value in (first, second))
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor) and first.shape == second.shape:
        return f"they differ by up to {float((first.double() - second.double()).abs().max()):.3g}"
    return f"{first!r}, then {second!r}"


RULES = (
    Rule(
        "manners.manifest-without-torch",
        "does importing manifest and config leave torch alone?",
        "`ddpmkit plugins list` imports the manifest of everything installed, so it must be light. Keep the "
        "implementation in a module of its own, which the manifest names as `target`; import torch there, and nowhere "
        "on the way to the config.",
        _manifest_without_torch,
    ),
    Rule(
        "manners.fields-described",
        "does every config field have a description?",
        "Put a docstring under each field of the config: `ddpmkit plugins show`, editors and the docs print it.",
        _fields_described,
    ),
    Rule(
        "manners.keys-free",
        "do the config's keys have names that the core does not use in the same section of a recipe?",
        "A component's keys stand beside the core's, and a key cannot be both. Give it another name; docs/recipes.md, "
        "and `ddpmkit recipe keys`, list the core's keys by section.",
        _keys_free,
    ),
    Rule(
        "manners.config-as-toml",
        "does the config survive being written as TOML and read back?",
        "A run writes its recipe down and reads it again when it goes on. Keep to numbers, text, booleans, tuples of "
        "these, and None as the default of an optional key. A default must lie within its own field's range, which "
        "pydantic does not see to; a validator must not change a value that it accepted before.",
        _config_as_toml,
    ),
    Rule(
        "manners.no-global-rng",
        "does it leave the global random generators of torch, numpy and Python alone?",
        "Whoever draws from them, or seeds them, changes what everyone else draws after. Take noise from what the "
        "core gives (a sampler's noise source), or from a generator of your own with a seed from the config. Initial "
        "weights of a backbone are the one exception: torch's generator is seeded for them, and put back afterwards.",
        _no_global_rng,
    ),
    Rule(
        "manners.built-twice",
        "do two builds from one config and one seed answer the same?",
        "Something is drawn without a seed, hashed by Python's `hash`, taken from a clock, read from a set or a "
        "folder without sorting, or kept in a module or class from the build before.",
        _built_twice,
    ),
    Rule(
        "manners.silent",
        "does it print nothing?",
        "The terminal belongs to the display. Use `logging.getLogger(__name__)`, and switch progress bars of "
        "libraries off.",
        _silent,
    ),
    Rule(
        "manners.settings-kept",
        "does it leave the settings of torch and of the process as they were?",
        "Default dtype and device, gradient mode, number of threads, working directory and the like are everyone's. "
        "Set them where they are needed, in a `with`, and put them back; give dtype and device to each tensor instead "
        "of a default.",
        _settings_kept,
    ),
)
"""Put to components of every kind."""
