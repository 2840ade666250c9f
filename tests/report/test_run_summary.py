from dataclasses import asdict
from typing import Any

import pytest

from ddpmkit.contracts import Scores, StepRecord
from ddpmkit.report.history import History
from ddpmkit.report.run_summary import facts, sentence

RECIPE: dict[str, Any] = {
    "data": {"use": "image-folder", "classes": ["cat"], "image_size": 32},
    "diffusion": {"timesteps": 50},
    "train": {"steps": 1000, "batch_size": 32},
}


def step(number: int, images_per_second: float = 64.0, validation_loss: float | None = None) -> dict[str, Any]:
    return asdict(StepRecord(number, 0.5, (None,) * 4, 1.0, 1e-3, images_per_second, validation_loss))


def history(*steps: dict[str, Any]) -> History:
    read = History()
    for each in steps:
        read.add(each)
    return read


def score(protocol: str, number: int, value: float, *, comparable: bool = True) -> Scores:
    return Scores(
        number, "clean-fid", protocol, comparable, 10, 20, values={"fid": value}, floor={"fid": 5.31}, better={}
    )


def test_the_sentence_contains_the_latest_scores_and_validation_loss() -> None:
    steps = history(step(500, validation_loss=0.2), step(990, validation_loss=0.15), step(1000))
    scores = [
        score("standard", 500, 120.0),
        score("standard", 1000, 81.25),
        score("original", 1000, 9.0, comparable=False),
    ]
    assert sentence(RECIPE, steps, scores) == (
        "A diffusion model of cat images (image-folder, 32 x 32 px), trained for 1,000 steps; "
        "clean-fid fid (standard) 81.25; validation loss 0.1500."
    )


def test_the_sentence_of_an_unfinished_run_says_so_far() -> None:
    assert "trained for 500 of 1,000 steps so far." in sentence(RECIPE, history(step(500)), [])


def test_one_step_is_singular() -> None:
    assert "trained for 1 step." in sentence({**RECIPE, "train": {"steps": 1}}, history(step(1)), [])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "A diffusion model of images, "),
        ({"use": "critters", "classes": "all"}, "of images (critters), "),
        ({"classes": ["cat", "dog"], "image_size": [36, 48]}, "of cat and dog images (36 x 48 px), "),
        ({"classes": ["cat", "dog", "wild"]}, "of cat, dog and wild images, "),
    ],
)
def test_the_sentence_names_the_images(data: dict[str, Any], words: str) -> None:
    assert words in sentence({"data": data}, history(step(1)), [])


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [((64.0, 32.0), "about 25 min"), ((3200.0, 3200.0), "about 20 s"), ((6.4, 6.4), "about 2 h 47 min")],
)
def test_the_training_time_is_computed_from_the_speeds(speeds: tuple[float, float], expected: str) -> None:
    """1000 steps of 32 images before the first record, and as many before the second."""
    steps = history(step(1000, speeds[0]), step(2000, speeds[1]))
    assert dict(facts(RECIPE, steps, []))["training time"] == expected


def test_facts_show_each_score_with_its_floor_and_mark_incomparable_ones() -> None:
    expected = dict(facts({}, history(), [score("standard", 1, 81.25), score("original", 1, 9.0, comparable=False)]))
    assert expected == {
        "clean-fid fid (standard)": "81.25, floor 5.31",
        "clean-fid fid (original, not comparable)": "9, floor 5.31",
    }
