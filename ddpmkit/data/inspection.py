"""A dataset's own look at its files.

It does not know what a file is, or when one is bad.
"""

from collections.abc import Callable

from ddpmkit.contracts import Inspection
from ddpmkit.errors import InputError
from ddpmkit.recipe import DataSection, Part

__all__ = ["inspect_data"]


def inspect_data(data: Part[DataSection], progress: Callable[[int, int], None]) -> Inspection:
    """Have the dataset of a recipe read all of its files; `progress` is told how many it has read, and of how many.

    Raises InputError when the dataset offers no such look, or when there is nothing to look at.
    """
    component, settings = data.component, data.settings
    if not component.implements("inspect"):
        raise InputError(
            f"there is nothing to check: dataset {component.use!r} ({component.origin}) offers no look at its files.",
            remedies=["ddpmkit data check FOLDER  checks a folder of pictures"],
        )
    found: Inspection = data.call(
        "inspect",
        classes=None if settings.classes == "all" else settings.classes,
        image_shape=settings.decoded_shape,
        progress=progress,
    )
    return found
