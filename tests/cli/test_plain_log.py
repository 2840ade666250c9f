import io

import pytest
from rich.console import Console

from ddpmkit.cli.plain_log import PlainDisplay
from ddpmkit.contracts import Picture


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def display(out, clock):
    return PlainDisplay(Console(file=out, soft_wrap=True, highlight=False, markup=False), clock)


def test_the_lines_of_a_short_run(display, out, clock, started, record, scores, run_folder):
    with display:
        display.message("[data] is not markup")
        display.run_started(started())
        clock.now += 10
        display.step(record(100, validation_loss=0.25))
        with display.progress("16 samples", 50) as advance:
            clock.now += 6
            advance(50)
        display.picture(Picture(100, "samples", run_folder / "samples" / "step-00000100.png"))
        display.scores(scores)
    assert out.getvalue().splitlines() == [
        "[data] is not markup",
        f"cats: 2.47 M parameters, 1,000 steps, in {run_folder}",
        "step 100/1,000  loss 0.1250  validation 0.2500  it/s 3  images/s 96  left 0:01:30",
        "16 samples ...",
        "16 samples: done in 0:00:06",
        f"step 100: samples in {run_folder}/samples/step-00000100.png",
        "clean-fid: fid 102.3 (floor 8.125) at step 400 · 5,000 samples, standard",
    ]


def test_a_resumed_run_shows_its_first_step(display, out, started):
    display.run_started(started(first_step=400))
    assert "from step 400 to 1,000, in" in out.getvalue()


def test_a_complete_run_shows_that_its_steps_are_done(display, out, started, run_folder):
    display.run_started(started(first_step=1000))
    assert out.getvalue() == f"cats: 2.47 M parameters, all 1,000 steps done already, in {run_folder}\n"


def test_a_long_run_prints_few_lines(display, out, clock, started, record):
    display.run_started(started(last_step=10_000))
    for step in range(10, 10_001, 10):
        clock.now += 10
        display.step(record(step))
    lines = [line for line in out.getvalue().splitlines() if line.startswith("step")]
    # 10,000 s: a line every 5 s would be as many as there are records, 1000.
    assert 50 < len(lines) < 350
    assert lines[-1].startswith("step 10,000/10,000")


def test_steps_with_a_validation_loss_are_always_printed(display, out, started, record):
    display.run_started(started())
    for step in range(10, 60, 10):
        display.step(record(step, validation_loss=step / 100))
    assert out.getvalue().count("validation 0.") == 5


def test_long_work_prints_its_progress(display, out, clock):
    with display.progress("clean-fid: samples", 1000) as advance:
        for _ in range(10):
            clock.now += 6
            advance(100)
    lines = out.getvalue().splitlines()
    assert "clean-fid: samples: 500 of 1,000" in lines
    assert "clean-fid: samples: 1,000 of 1,000" not in lines  # the last line says so


def test_short_work_prints_one_line(display, out, clock):
    with display.progress("16 samples", 50) as advance:
        clock.now += 1
        advance(50)
    assert out.getvalue() == "16 samples ...\n"


def test_failed_work_is_not_reported_as_done(display, out, clock):
    def fail_late():
        with display.progress("16 samples", 50):
            clock.now += 60
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_late()
    assert "done" not in out.getvalue()


def test_plain_lines_contain_no_control_characters(display, out, started, record, scores):
    with display:
        display.run_started(started())
        display.step(record(10))
        display.scores(scores)
        with display.progress("x", 2) as advance:
            advance(2)
    assert all(character.isprintable() or character == "\n" for character in out.getvalue())
