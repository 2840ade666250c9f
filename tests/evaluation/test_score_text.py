"""Scores in words."""

from ddpmkit.contracts import Scores
from ddpmkit.evaluation import describe_scores

FACTS = {
    "reference": "the training images, re-encoded as JPEG",
    "resize": "bicubic",
    "extractor SHA-256": "f58cb9",
    "floor": "one half against the other",
}


def scores(**changes):
    fields = {
        "step": 1000,
        "metric": "clean-fid",
        "protocol": "standard",
        "comparable": True,
        "num_samples": 5000,
        "num_reference": 4653,
        "values": {"fid": 42.17},
        "floor": {"fid": 5.25},
        "better": {"fid": "lower"},
        "facts": FACTS,
    }
    return Scores(**{**fields, **changes})


def test_a_score_is_told_with_all_its_rules():
    assert describe_scores(scores()) == [
        ("metric", "clean-fid (standard protocol)"),
        ("step", "1,000"),
        ("fid", "42.17 (lower is better, real against real: 5.25)"),
        ("samples", "5,000"),
        ("reference", "4,653 images: the training images, re-encoded as JPEG"),
        ("resize", "bicubic"),
        ("extractor SHA-256", "f58cb9"),
        ("floor", "one half against the other"),
    ]


def test_a_score_without_floor_shows_none():
    assert dict(describe_scores(scores(floor={})))["fid"] == "42.17 (lower is better)"


def test_a_score_that_compares_with_nothing_says_so():
    lines = dict(describe_scores(scores(protocol="original", comparable=False)))
    assert lines["comparable"] == "no: the original protocol compares with nothing else"
