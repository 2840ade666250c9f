"""Writes the files of a new plugin from templates."""

from collections.abc import Mapping
from pathlib import Path

import jinja2

from ddpmkit import __version__
from ddpmkit.errors import InputError
from ddpmkit.scaffold.name import PluginName

__all__ = ["write_package"]

_IGNORED = (".git",)
"""A folder that contains only these counts as empty."""


def write_package(name: PluginName, kind: str, folder: Path) -> tuple[Path, ...]:
    """Write a package with one component of `kind` to `folder`, and return the paths of its files, relative to it.

    Raises InputError if `folder` is a file or is not empty. Nothing is overwritten.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder.", remedies=["use --out FOLDER to choose another folder"])
    if folder.is_dir() and (existing := sorted(entry.name for entry in folder.iterdir() if entry.name not in _IGNORED)):
        shown = ", ".join(existing[:3]) + (" ..." if len(existing) > 3 else "")
        raise InputError(
            f"{folder} is not empty ({shown}); no file is overwritten.",
            remedies=["use --out FOLDER to choose another folder"],
        )
    files = {Path(path): text for path, text in _rendered(name, kind).items()}
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("x", encoding="utf-8") as file:
            file.write(text)
    return tuple(files)


def _rendered(name: PluginName, kind: str) -> Mapping[str, str]:
    """The content of each file, by path."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ddpmkit.scaffold"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    package = name.package
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        "example.toml": "example.toml",
        f"{package}/__init__.py": f"{kind}/manifest.py",
        f"{package}/{kind}.py": f"{kind}/{kind}.py",
        f"{package}/py.typed": "py.typed",
        "tests/test_conformance.py": "test_conformance.py",
    }
    facts = {
        "name": name,
        "kind": kind,
        "package": package,
        "class_name": name.class_name(kind),
        "config_name": name.config_name,
        "version": __version__,
    }
    return {path: environment.get_template(f"{template}.jinja").render(facts) for path, template in templates.items()}
