"""Datasets from the Hugging Face Hub: manifest and config."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class HuggingFaceConfig(ComponentConfig):
    """Keys of `[data]` when `use = "huggingface"`."""

    path: str = Field(min_length=1)
    """Name of a dataset on the Hub (`owner/name`), or a folder written by `save_to_disk`."""
    subset: str | None = None
    """The configuration of the dataset, if it has several."""
    revision: str | None = None
    """Commit, tag or branch on the Hub; by default the newest commit."""
    image_column: str = "image"
    """The column with the images."""
    label_column: str = "label"
    """The column with the classes; if empty, all images have one class."""
    train_split: str = "train"
    """The split for training."""
    val_split: str | None = None
    """The split for the validation loss; by default `validation` or `val`, if one of them exists."""
    on_bad_image: Literal["error", "skip"] = "error"
    """If a row has no intact image: stop with an error, or skip the row with a warning."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the dataset."""
    yield Component(
        kind="dataset",
        name="huggingface",
        target="ddpmkit_plugins.huggingface.dataset:HuggingFaceDataset",
        config="ddpmkit_plugins.huggingface:HuggingFaceConfig",
        summary="a dataset from the Hugging Face Hub, or one saved to disk",
        requires=("datasets",),
    )
