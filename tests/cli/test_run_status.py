import json
from dataclasses import asdict, replace

import pytest

from ddpmkit.cli.run_status import RunStatus, format_duration, score_text


def test_the_pace_is_measured_from_the_first_step_of_this_process(started, record, clock):
    status = RunStatus(clock)
    status.begin(started(first_step=200))
    clock.now += 30
    status.advance(record(300))
    # 100 steps in 30 s; 700 more take 210 s. 96 images/s in batches of 32 are 3 steps/s.
    assert status.seconds_left == pytest.approx(210)
    assert status.steps_per_second == pytest.approx(3)


def test_nothing_is_estimated_before_the_first_record(started, clock):
    status = RunStatus(clock)
    status.begin(started())
    assert (status.seconds_left, status.steps_per_second, status.step) == (None, None, 0)


@pytest.mark.parametrize(("step", "samples"), [(0, 400), (399, 400), (400, 800), (801, 1000), (1000, None)], ids=str)
def test_upcoming_samples_and_evaluations(started, record, step, samples):
    status = RunStatus()
    status.begin(started())
    if step:
        status.advance(record(step))
    # An interval of 0 means after the last step only.
    expected = [] if samples is None else [("samples", samples), ("clean-fid", 1000)]
    assert list(status.upcoming()) == expected


def test_a_resumed_run_has_the_scores_of_its_log(started, scores, run_folder):
    line = {"event": "scores", **asdict(scores)}
    (run_folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    status = RunStatus()
    status.begin(started(first_step=400))
    assert status.last_scores == {"clean-fid": score_text(scores)}


def test_the_validation_loss_stays_if_a_record_has_none(started, record):
    status = RunStatus()
    status.begin(started())
    status.advance(record(10, validation_loss=0.5))
    status.advance(record(20))
    assert status.validation_loss == 0.5


def test_scores_are_formatted_in_one_line(scores):
    assert score_text(scores) == "fid 102.3 (floor 8.125) at step 400 · 5,000 samples, standard"
    assert "original, not comparable" in score_text(replace(scores, protocol="original", comparable=False))


def test_a_duration_is_formatted_as_a_clock_time():
    assert format_duration(723.4) == "0:12:03"
