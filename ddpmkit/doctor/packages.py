"""Checks of Python and the required packages, against the metadata of ddpmkit. Only torch is imported."""

import importlib.metadata
import importlib.util
import platform
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from typing import NamedTuple

from ddpmkit.doctor.diagnose import one_line
from ddpmkit.plugin.diagnosis import Diagnosis

__all__ = ["Requirement", "packages", "python", "requirements", "torch_package"]

_DISTRIBUTION = "ddpmkit"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(\[.*\])?\s*(>=\s*(?P<minimum>[\d.]+))?")


class Requirement(NamedTuple):
    """A distribution and its oldest supported version."""

    name: str
    minimum: str

    def unmet_reason(self) -> str | None:
        """Why the installed version does not satisfy the requirement, or None."""
        try:
            found = importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return f"{self.name} is not installed"
        if _release(found) < _release(self.minimum):
            return f"{self.name} {found} is older than {self.minimum}"
        return None

    def __str__(self) -> str:
        return f"{self.name}>={self.minimum}" if self.minimum else self.name


def requirements() -> Iterator[Requirement]:
    """The requirements of ddpmkit without its extras. Raises PackageNotFoundError if ddpmkit has no metadata."""
    for text in importlib.metadata.requires(_DISTRIBUTION) or ():
        specification, _, condition = text.partition(";")
        if "extra" not in condition and (found := _REQUIREMENT.match(specification)):
            yield Requirement(found["name"], found["minimum"] or "")


def python() -> Diagnosis:
    """The version and the path of the interpreter."""
    minimum = importlib.metadata.metadata(_DISTRIBUTION)["Requires-Python"].removeprefix(">=")
    version = platform.python_version()
    finding = f"{version}, {sys.executable}"
    if _release(version) < _release(minimum):
        return Diagnosis(
            "python", "problem", f"{finding}: older than {minimum}", (f"install Python {minimum} or newer",)
        )
    return Diagnosis("python", "ok", finding)


def packages() -> Diagnosis:
    """All requirements except torch, which has its own check."""
    required = [requirement for requirement in requirements() if requirement.name != "torch"]
    unmet = {requirement: reason for requirement in required if (reason := requirement.unmet_reason())}
    if unmet:
        command = shlex.join(["pip", "install", *map(str, unmet)])
        return Diagnosis("packages", "problem", "; ".join(unmet.values()), (command,))
    return Diagnosis("packages", "ok", f"all {len(required)} are installed and recent enough")


def torch_package() -> Diagnosis:
    """Whether torch can be imported, its version and build."""
    (wanted,) = (requirement for requirement in requirements() if requirement.name == "torch")
    both = f"{shlex.quote(str(wanted))} torchvision"
    if importlib.util.find_spec("torch") is None:
        return Diagnosis("torch", "problem", "not installed", (f"pip install {both}",))
    try:
        import torch

        version, cuda = torch.__version__, torch.version.cuda
        torch.ones(2)
    except (Exception, SystemExit) as error:
        return Diagnosis(
            "torch",
            "problem",
            f"{_origin('torch')} does not work: {one_line(error)}",
            (f"pip install --force-reinstall {both}",),
            "".join(traceback.format_exception(error)),
        )
    if reason := wanted.unmet_reason():
        return Diagnosis("torch", "problem", reason, (f"pip install --upgrade {both}",))
    return Diagnosis("torch", "ok", f"{version}, built {f'for CUDA {cuda}' if cuda else 'without CUDA'}")


def _origin(module: str) -> str:
    """The file or folder that an import of `module` loads. A folder of that name can hide the package."""
    spec = importlib.util.find_spec(module)
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if place), module)


def _release(version: str) -> tuple[int, ...]:
    """2.10.0a0+git -> (2, 10, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
