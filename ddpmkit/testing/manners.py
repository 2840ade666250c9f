"""Manners: what every component owes, whatever its kind."""

import json
import subprocess
import sys
import tomllib

from ddpmkit.recipe import toml_text
from ddpmkit.testing.checks import Checks, Subject, require

__all__ = ["checks"]


def checks() -> Checks:
    """Id, question, advice, and the function that asks."""
    yield (
        "manifest-without-torch",
        "does importing manifest and config leave torch alone?",
        "Keep the implementation in a module of its own; the manifest names it as `target`.",
        _manifest_without_torch,
    )
    yield (
        "fields-described",
        "does every config field have a description?",
        "Put a docstring under each field of the config.",
        _fields_described,
    )
    yield (
        "config-as-toml",
        "does the config survive being written as TOML and read back?",
        "Keep to numbers, text, booleans, tuples and None as defaults.",
        _config_as_toml,
    )


def _manifest_without_torch(subject: Subject) -> None:
    plugin = subject.registered.plugin
    if plugin.path is not None:
        # A single file holds manifest and implementation; what it imports, it imports.
        return
    modules = ", ".join({plugin.module, subject.registered.component.config.partition(":")[0]} - {""})
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    require(done.returncode == 0, done.stderr.strip() or f"importing {modules} imports torch")


def _fields_described(subject: Subject) -> None:
    bare = [name for name, field in type(subject.config).model_fields.items() if not field.description]
    require(not bare, f"no description: {', '.join(bare)}")


def _config_as_toml(subject: Subject) -> None:
    written = toml_text(subject.config.model_dump(mode="json", exclude_none=True))
    again = type(subject.config).model_validate_json(json.dumps(tomllib.loads(written)))
    require(again == subject.config, f"{again} came back instead of {subject.config}")
