"""Python and the packages that ddpmkit asks for, held to its own metadata.

Nothing but torch is imported for it, and it does not know what the packages are used for.
"""

import importlib.metadata
import importlib.util
import platform
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from typing import NamedTuple

from ddpmkit.doctor.guard import in_one_line
from ddpmkit.plugin.diagnosis import Diagnosis

__all__ = ["Requirement", "packages", "python", "requirements", "torch_package"]

_DISTRIBUTION = "ddpmkit"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(\[.*\])?\s*(>=\s*(?P<minimum>[\d.]+))?")


class Requirement(NamedTuple):
    """A distribution and the oldest version of it that serves."""

    name: str
    minimum: str

    def objection(self) -> str | None:
        """Why what is installed does not serve, or None."""
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
    """What ddpmkit's metadata asks for in every installation. Raises PackageNotFoundError where there is none."""
    for text in importlib.metadata.requires(_DISTRIBUTION) or ():
        specification, _, condition = text.partition(";")
        if "extra" not in condition and (found := _REQUIREMENT.match(specification)):
            yield Requirement(found["name"], found["minimum"] or "")


def python() -> Diagnosis:
    """The interpreter."""
    asked = importlib.metadata.metadata(_DISTRIBUTION)["Requires-Python"].removeprefix(">=")
    version = platform.python_version()
    finding = f"{version}, {sys.executable}"
    if _release(version) < _release(asked):
        return Diagnosis("python", "problem", f"{finding}: older than {asked}", (f"install Python {asked} or newer",))
    return Diagnosis("python", "ok", finding)


def packages() -> Diagnosis:
    """All requirements but torch, which has a line of its own."""
    asked = [requirement for requirement in requirements() if requirement.name != "torch"]
    unmet = {requirement: why for requirement in asked if (why := requirement.objection())}
    if unmet:
        command = shlex.join(["pip", "install", *map(str, unmet)])
        return Diagnosis("packages", "problem", "; ".join(unmet.values()), (command,))
    return Diagnosis("packages", "ok", f"all {len(asked)} are there, and new enough")


def torch_package() -> Diagnosis:
    """Whether torch can be imported, and which build it is."""
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
            f"{_origin('torch')} does not work: {in_one_line(error)}",
            (f"pip install --force-reinstall {both}",),
            "".join(traceback.format_exception(error)),
        )
    if objection := wanted.objection():
        return Diagnosis("torch", "problem", objection, (f"pip install --upgrade {both}",))
    return Diagnosis("torch", "ok", f"{version}, built for {f'CUDA {cuda}' if cuda else 'no CUDA'}")


def _origin(module: str) -> str:
    """The file or folder that an import of `module` takes: a folder of that name stands in the way of the package."""
    spec = importlib.util.find_spec(module)
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if place), module)


def _release(version: str) -> tuple[int, ...]:
    """2.10.0a0+git -> (2, 10, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
