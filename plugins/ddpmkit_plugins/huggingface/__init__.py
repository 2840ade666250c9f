"""Datasets of the Hugging Face hub: manifest and config."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class HuggingFaceConfig(ComponentConfig):
    """Keys of `[data]` when `use = "huggingface"`."""

    path: str = Field(min_length=1)
    """Name of a dataset on the hub (`owner/name`), or a folder that `save_to_disk` wrote."""
    subset: str | None = None
    """Which of a dataset's configurations, where it has several."""
    revision: str | None = None
    """Commit, tag or branch on the hub; when not given, the newest."""
    image_column: str = "image"
    """The column that holds the pictures."""
    label_column: str = "label"
    """The column that holds the classes; when empty, all pictures are of one class."""
    train_split: str = "train"
    """Name of the split to train on."""
    val_split: str | None = None
    """Name of the split for the validation loss; when not given, `validation` or `val` where there is one."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What to do about rows that are not whole images: stop and name them, or name them and go on without them."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the dataset."""
    yield Component(
        kind="dataset",
        name="huggingface",
        target="ddpmkit_plugins.huggingface.dataset:HuggingFaceDataset",
        config="ddpmkit_plugins.huggingface:HuggingFaceConfig",
        summary="a dataset of the Hugging Face hub, or one saved to disk",
        requires=("datasets",),
    )
