from ddpmkit.cli.evaluate import describe_scores
from ddpmkit.contracts import Scores

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


def test_a_score_is_shown_with_its_protocol_and_all_facts():
    assert describe_scores(scores()) == [
        ("metric", "clean-fid (standard protocol)"),
        ("step", "1,000"),
        ("fid", "42.17 (lower is better; floor, real against real: 5.25)"),
        ("samples", "5,000"),
        ("reference", "4,653 images: the training images, re-encoded as JPEG"),
        ("resize", "bicubic"),
        ("extractor SHA-256", "f58cb9"),
        ("floor", "one half against the other"),
    ]


def test_a_score_without_a_floor_shows_no_floor():
    assert dict(describe_scores(scores(floor={})))["fid"] == "42.17 (lower is better)"


def test_a_score_that_is_not_comparable_says_so():
    lines = dict(describe_scores(scores(protocol="original", comparable=False)))
    assert lines["comparable"] == "no: scores of the original protocol cannot be compared with others"
