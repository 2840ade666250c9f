import json
from dataclasses import asdict, replace

import pytest

from ddpmkit.cli.run_status import RunStatus, in_clock_time, score_text


def test_pace_is_measured_from_where_this_process_began(started, record, clock):
    standing = RunStatus(clock)
    standing.begin(started(first_step=200))
    clock.now += 30
    standing.advance(record(300))
    # 100 steps in 30 s; 700 more take 210 s. 96 images/s in batches of 32 are 3 steps/s.
    assert standing.seconds_left == pytest.approx(210)
    assert standing.steps_per_second == pytest.approx(3)


def test_nothing_is_claimed_before_the_first_record(started, clock):
    standing = RunStatus(clock)
    standing.begin(started())
    assert (standing.seconds_left, standing.steps_per_second, standing.step) == (None, None, 0)


@pytest.mark.parametrize(("step", "samples"), [(0, 400), (399, 400), (400, 800), (801, 1000), (1000, None)], ids=str)
def test_what_is_due_next(started, record, step, samples):
    standing = RunStatus()
    standing.begin(started())
    if step:
        standing.advance(record(step))
    # An interval of 0 means after the last step only.
    expected = [] if samples is None else [("samples", samples), ("clean-fid", 1000)]
    assert list(standing.upcoming()) == expected


def test_a_run_that_goes_on_knows_the_scores_of_its_log(started, scores, run_folder):
    line = {"event": "scores", **asdict(scores)}
    (run_folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    standing = RunStatus()
    standing.begin(started(first_step=400))
    assert standing.last_scores == {"clean-fid": score_text(scores)}


def test_the_validation_loss_outlives_records_without_one(started, record):
    standing = RunStatus()
    standing.begin(started())
    standing.advance(record(10, validation_loss=0.5))
    standing.advance(record(20))
    assert standing.validation_loss == 0.5


def test_scores_in_words(scores):
    assert score_text(scores) == "fid 102.3 (floor 8.125) at step 400 · 5,000 samples, standard"
    assert "original, not comparable" in score_text(replace(scores, protocol="original", comparable=False))


def test_clock_time():
    assert in_clock_time(723.4) == "0:12:03"
