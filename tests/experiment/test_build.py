"""Building the parts of a run, and errors of datasets."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ddpmkit.errors import ContractError, InputError, RunFailed
from ddpmkit.experiment.build import build_images, build_run
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, read_recipe

MakeRecipe = Callable[..., Recipe]


class OddConfig(ComponentConfig):
    fault: str = ""


class OddDataset:
    """Four black images of one class; `fault` is what the contract does not allow."""

    def __init__(self, config: OddConfig, **_runtime: object) -> None:
        self.fault = config.fault

    @property
    def class_names(self) -> Any:
        return {"no names": None, "text as names": "one"}.get(self.fault, ("one",))

    @property
    def fingerprint(self) -> Any:
        return {"no fingerprint": None, "unprintable": "a\udc80"}.get(self.fault, "fine")

    def __len__(self) -> Any:
        return {"negative": -1, "fraction": 4.5, "empty": 0, "numpy": np.int64(4)}.get(self.fault, 4)

    def images(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.zeros((len(indices), 3, 8, 8), dtype=np.uint8)

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.full(len(indices), {"class 1": 1, "class -1": -1}.get(self.fault, 0))


class EndlessDataset:
    """Has no length."""

    def __init__(self, config: OddConfig, **_runtime: object) -> None: ...


@pytest.fixture
def recipe(small: Callable[..., dict[str, Any]], with_parts: Callable[..., Registry]) -> MakeRecipe:
    """A recipe with one of the datasets above."""
    registry = with_parts(
        *(
            Component(
                kind="dataset", name=name, target=f"{__name__}:{target}", config=f"{__name__}:OddConfig", summary="odd"
            )
            for name, target in (("odd", "OddDataset"), ("endless", "EndlessDataset"))
        )
    )

    def read(use: str = "local/odd", **sections: Any) -> Recipe:
        data = {"use": use, "image_size": 8, **sections.pop("data", {})}
        return read_recipe(small(data=data, **sections), registry=registry)

    return read


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("negative", "its length must be an integer of 0 or more, not -1"),
        ("fraction", "its length must be an integer of 0 or more, not 4.5"),
        ("no fingerprint", "its fingerprint must be a text of printable characters, not None"),
        ("unprintable", "its fingerprint must be a text of printable characters, not 'a\\udc80'"),
        ("no names", "its class_names must be a tuple of names, not None"),
        ("text as names", "its class_names must be a tuple of names, not 'one'"),
    ],
)
def test_an_invalid_dataset_is_named(recipe: MakeRecipe, fault: str, said: str) -> None:
    with pytest.raises(RunFailed) as caught:
        build_images(recipe(data={"fault": fault}), "train")
    assert caught.value.message == f"dataset 'local/odd' failed while opening the images of train: {said}."


def test_a_dataset_without_a_length_is_named(recipe: MakeRecipe) -> None:
    with pytest.raises(RunFailed, match=r"dataset 'local/endless' failed while .*: it has no __len__"):
        build_images(recipe("local/endless"), "train")


def test_a_dataset_must_have_the_requested_classes(recipe: MakeRecipe) -> None:
    with pytest.raises(RunFailed, match=r"dataset 'local/odd' failed .* it must have the 2 requested classes, not 1"):
        build_images(recipe(data={"classes": ["one", "two"], "labels": True}), "train")


@pytest.mark.parametrize("fault", ["class 1", "class -1"])
def test_a_label_outside_the_classes_is_an_error_not_the_null_label(recipe: MakeRecipe, fault: str) -> None:
    images = build_images(recipe(data={"fault": fault, "classes": ["one"], "labels": True}), "train")
    with pytest.raises(ContractError, match=r"labels must .* 0 \.\. 0"):
        images.batch(0, range(4), 4)


def test_only_training_images_are_required(recipe: MakeRecipe) -> None:
    empty = recipe(data={"fault": "empty"})
    assert len(build_images(empty, "val")) == 0
    with pytest.raises(InputError, match="the dataset 'local/odd' has no training images"):
        build_images(empty, "train")


def test_the_length_may_be_a_numpy_integer(recipe: MakeRecipe) -> None:
    assert len(build_images(recipe(data={"fault": "numpy"}), "train")) == 4


def test_errors_of_all_parts_are_reported_together(recipe: MakeRecipe) -> None:
    faulty = recipe(data={"fault": "empty"}, metric=[{"use": "fd", "extractor": "none.pt", "num_samples": 4}])
    with pytest.raises(InputError) as caught:
        build_run(faulty, skip_unavailable_metrics=False, message=lambda _text: None)
    for text in ("has no training images", "none.pt", "2 problems."):
        assert text in str(caught.value)


def test_a_run_has_training_and_validation_images(recipe: MakeRecipe) -> None:
    critters = recipe("critters", data={"size": 8, "val_size": 4})
    parts = build_run(critters, skip_unavailable_metrics=False, message=lambda _text: None)
    # For each of the three classes.
    assert (len(parts.images), len(parts.validation_images), parts.metrics) == (3 * 8, 3 * 4, [])
