"""Is everything here that a run needs? One `Diagnosis` a question, the questions of plugins among them.

It does not know how the answers are shown.
"""

from collections.abc import Iterator
from pathlib import Path

from ddpmkit.doctor.accelerator import device
from ddpmkit.doctor.guard import answer
from ddpmkit.doctor.packages import packages, python, torch_package
from ddpmkit.doctor.plugins import answers_of_plugins, installed_plugins
from ddpmkit.doctor.storage import folder
from ddpmkit.environment import cache_folder
from ddpmkit.plugin.diagnosis import Diagnosis
from ddpmkit.plugin.discovery import Discovery

__all__ = ["Diagnosis", "examine"]


def examine(discovery: Discovery) -> Iterator[Diagnosis]:
    """Every answer, in the order in which trouble is best looked for. Imports torch, and works when it is broken."""
    yield answer("python", python)
    yield answer("packages", packages)
    yield answer("torch", torch_package)
    yield answer("device", device)
    yield answer("this folder", lambda: folder("this folder", Path.cwd(), remedy="start in another folder"))
    elsewhere = "DDPMKIT_CACHE=/another/folder in the environment moves it"
    yield answer("cache folder", lambda: folder("cache folder", cache_folder(), remedy=elsewhere))
    yield from installed_plugins(discovery)
    yield from answers_of_plugins(discovery)
