import pytest

from ddpmkit.cli.run_status import RunStatus
from ddpmkit.cli.summary import summary
from ddpmkit.contracts import RunEnded


@pytest.fixture
def standing(clock):
    return RunStatus(clock)


def test_a_finished_run(standing, clock, started, record, scores, run_folder):
    standing.begin(started())
    clock.now += 75
    standing.advance(record(1000, validation_loss=0.25))
    standing.score(scores)
    standing.ended = RunEnded(1000, "finished")
    (run_folder / "report.html").touch()
    (run_folder / "samples").mkdir()
    (run_folder / "samples" / "step-00001000.png").touch()
    assert list(summary(standing)) == [
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


def test_what_to_try_next_can_be_pasted_for_a_run_by_a_plugin_that_is_a_file(standing, started, run_folder):
    standing.begin(started())
    standing.ended = RunEnded(1000, "finished")
    assert list(summary(standing, ["--plugin", "my zig.py"]))[-2:] == [
        f"  ddpmkit sample {run_folder} -n 64 --plugin 'my zig.py'",
        f"  ddpmkit evaluate {run_folder} --plugin 'my zig.py'",
    ]


def test_a_run_that_was_complete_says_so(standing, started):
    standing.begin(started(first_step=1000))
    standing.ended = RunEnded(1000, "finished")
    assert next(summary(standing)).startswith("complete already: all 1,000 steps were done before")


def test_a_resumed_run_counts_its_own_steps(standing, started):
    standing.begin(started(first_step=600))
    standing.ended = RunEnded(1000, "finished")
    assert next(summary(standing)).startswith("finished: 400 more steps")


@pytest.mark.parametrize("status", ["stopped", "failed"])
def test_a_run_cut_short_says_how_to_go_on(standing, started, record, run_folder, status):
    standing.begin(started())
    standing.advance(record(500))
    standing.ended = RunEnded(512, status)
    for name in ("step-00000400", "step-00000200", "step-00000500.damaged"):
        (run_folder / "checkpoints" / name).mkdir(parents=True)
    first, *_, last = summary(standing)
    assert first.startswith(f"{status} at step 512 of 1,000")
    assert last == f"next: the same command goes on from {run_folder}/checkpoints/step-00000400"


def test_a_run_cut_short_before_its_first_checkpoint(standing, started):
    standing.begin(started())
    standing.ended = RunEnded(3, "failed")
    assert list(summary(standing))[-1] == "next: the same command goes on from the start: there is no checkpoint yet"


def test_a_run_that_never_began_leaves_no_words(standing):
    assert list(summary(standing)) == []
