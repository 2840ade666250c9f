"""`ddpmkit doctor`: check that everything a run needs is installed and works, one `Diagnosis` for each check."""

from collections.abc import Iterator
from pathlib import Path

from ddpmkit.doctor.diagnose import diagnose
from ddpmkit.doctor.machine import device, folder
from ddpmkit.doctor.packages import packages, python, torch_package
from ddpmkit.doctor.plugins import installed_plugins, plugin_diagnoses
from ddpmkit.environment import cache_folder
from ddpmkit.plugin.diagnosis import Diagnosis
from ddpmkit.plugin.discovery import Discovery

__all__ = ["Diagnosis", "examine"]


def examine(discovery: Discovery) -> Iterator[Diagnosis]:
    """Run all checks, in the order in which problems are best investigated. Imports torch, and works if that fails."""
    yield diagnose("python", python)
    yield diagnose("packages", packages)
    yield diagnose("torch", torch_package)
    yield diagnose("device", device)
    yield diagnose("this folder", lambda: folder("this folder", Path.cwd(), remedy="start in another folder"))
    elsewhere = "set DDPMKIT_CACHE=/another/folder in the environment"
    yield diagnose("cache folder", lambda: folder("cache folder", cache_folder(), remedy=elsewhere))
    yield from installed_plugins(discovery)
    yield from plugin_diagnoses(discovery)
