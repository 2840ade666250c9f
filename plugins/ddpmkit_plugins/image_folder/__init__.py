"""Datasets of images in folders or in an archive, with one folder for each class: manifest and configs."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class ImageFolderConfig(ComponentConfig):
    """Keys of `[data]` when `use = "image-folder"`."""

    root: str = Field(min_length=1)
    """Folder with `train/<class>/*.jpg` and, for the validation loss, `val/<class>/*.jpg`; or a folder that contains
    only images."""
    on_bad_image: Literal["error", "skip"] = "error"
    """If a file is not an intact image: stop with an error, or skip the file with a warning."""


class ImageArchiveConfig(ComponentConfig):
    """Keys of `[data]` when `use = "image-archive"`."""

    path: str = Field(min_length=1)
    """A .zip, .tar or .tar.gz with `train/<class>/*.jpg` and, for the validation loss, `val/<class>/*.jpg`; or with all
    images in one folder."""
    on_bad_image: Literal["error", "skip"] = "error"
    """If a file in the archive is not an intact image: stop with an error, or skip the file with a warning."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare both datasets."""
    yield Component(
        kind="dataset",
        name="image-folder",
        target="ddpmkit_plugins.image_folder.dataset:ImageFolder",
        config="ddpmkit_plugins.image_folder:ImageFolderConfig",
        summary="JPEG, PNG and other images, one folder for each class (the layout of AFHQ)",
    )
    yield Component(
        kind="dataset",
        name="image-archive",
        target="ddpmkit_plugins.image_folder.dataset:ImageArchive",
        config="ddpmkit_plugins.image_folder:ImageArchiveConfig",
        summary="an image folder in a .zip, .tar or .tar.gz, read without extracting it",
    )
