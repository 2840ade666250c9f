"""Checks all files of a recipe's dataset, for `ddpmkit data check`."""

from collections.abc import Callable

from ddpmkit.contracts import Inspection
from ddpmkit.errors import InputError
from ddpmkit.recipe import DataSection, Part

__all__ = ["inspect_data"]


def inspect_data(data: Part[DataSection], progress: Callable[[int, int], None]) -> Inspection:
    """Let the dataset of a recipe read all of its files. `progress` receives the number of files read and in total.

    Raises InputError if the dataset cannot check its files, or has none.
    """
    component, settings = data.component, data.settings
    if not component.implements("inspect"):
        raise InputError(
            f"dataset {component.use!r} ({component.origin}) cannot check its files: it has no method `inspect`.",
            remedies=["run `ddpmkit data check FOLDER` to check a folder of images"],
        )
    found: Inspection = data.call(
        "inspect",
        classes=None if settings.classes == "all" else settings.classes,
        image_shape=settings.decoded_shape,
        progress=progress,
    )
    return found
