import pytest

from ddpmkit.cli.run_status import RunStatus
from ddpmkit.cli.summary import summary
from ddpmkit.contracts import RunEnded


@pytest.fixture
def status(clock):
    return RunStatus(clock)


def test_a_finished_run(status, clock, started, record, scores, run_folder):
    status.begin(started())
    clock.now += 75
    status.advance(record(1000, validation_loss=0.25))
    status.score(scores)
    status.ended = RunEnded(1000, "finished")
    (run_folder / "report.html").touch()
    (run_folder / "samples").mkdir()
    (run_folder / "samples" / "step-00001000.png").touch()
    assert list(summary(status)) == [
        f"finished: 1,000 steps in 0:01:15; everything is in {run_folder}:",
        f"  samples          {run_folder}/samples/step-00001000.png",
        f"  report           {run_folder}/report.html",
        "  loss             0.1250",
        "  validation loss  0.2500",
        "  clean-fid        fid 102.3 (floor 8.125) at step 400 · 5,000 samples, standard",
        "next:",
        f"  ddpmkit sample {run_folder} -n 64",
        f"  ddpmkit evaluate {run_folder}",
    ]


def test_the_next_commands_contain_the_plugin_options(status, started, run_folder):
    status.begin(started())
    status.ended = RunEnded(1000, "finished")
    assert list(summary(status, ["--plugin", "my zig.py"]))[-2:] == [
        f"  ddpmkit sample {run_folder} -n 64 --plugin 'my zig.py'",
        f"  ddpmkit evaluate {run_folder} --plugin 'my zig.py'",
    ]


def test_a_run_that_was_already_complete_says_so(status, started):
    status.begin(started(first_step=1000))
    status.ended = RunEnded(1000, "finished")
    assert next(summary(status)).startswith("already complete: all 1,000 steps were done before")


def test_a_resumed_run_counts_its_own_steps(status, started):
    status.begin(started(first_step=600))
    status.ended = RunEnded(1000, "finished")
    assert next(summary(status)).startswith("finished: 400 more steps")


@pytest.mark.parametrize("ending", ["stopped", "failed"])
def test_the_summary_of_an_unfinished_run_names_the_checkpoint_to_resume_from(
    status, started, record, run_folder, ending
):
    status.begin(started())
    status.advance(record(500))
    status.ended = RunEnded(512, ending)
    for name in ("step-00000400", "step-00000200", "step-00000500.damaged"):
        (run_folder / "checkpoints" / name).mkdir(parents=True)
    first, *_, last = summary(status)
    assert first.startswith(f"{ending} at step 512 of 1,000")
    assert last == f"next: the same command resumes from {run_folder}/checkpoints/step-00000400"


def test_the_summary_of_a_run_without_a_checkpoint_says_that_it_starts_again(status, started):
    status.begin(started())
    status.ended = RunEnded(3, "failed")
    assert list(summary(status))[-1] == "next: the same command starts again; there is no checkpoint yet"


def test_a_run_that_never_started_has_no_summary(status):
    assert list(summary(status)) == []
