"""Training continues if wandb's service is killed, stopped or has no disk space: tests with real services."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddpmkit_plugins.wandb_tracker.event_queue import EventQueue

TIMEOUT = 2.0
RUN = """
import json, logging, os, resource, signal, sys, time
from pathlib import Path
from ddpmkit.contracts import RunEnded, RunStarted, StepRecord
from ddpmkit.tracking import EventDispatcher, TrackerThread
from ddpmkit_plugins.wandb_tracker import WandbConfig, tracker

fault, folder, timeout = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
tracker._TIMEOUT = tracker._FINISH_TIMEOUT = timeout
messages = []
for name in ("ddpmkit.tracking", "ddpmkit_plugins.wandb_tracker.tracker"):
    logging.getLogger(name).addFilter(lambda found: messages.append(found.getMessage()))
build = lambda: tracker.WandbTracker(WandbConfig(mode="offline"), run_folder=folder)
events = EventDispatcher([TrackerThread("wandb", build)])
events.run_started(RunStarted("cats", folder, {}, 1, 0, 400))

services = []
while not (services and list(folder.rglob("*.wandb"))):
    time.sleep(0.05)
    services = [int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]
(service,) = services

longest = 0.0
for step in range(1, 401):
    if step == 20 and fault == "has no disk":
        resource.prlimit(service, resource.RLIMIT_FSIZE, (1, 1))
    elif step == 20:
        os.kill(service, signal.SIGKILL if fault == "is killed" else signal.SIGSTOP)
    began = time.monotonic()
    events.step(StepRecord(step, 1 / step, (0.4, 0.3, None, 0.1), 0.5, 1e-3, 100.0))
    longest = max(longest, time.monotonic() - began)
    time.sleep(0.005)
began = time.monotonic()
events.run_ended(RunEnded(400, "finished"))
print(json.dumps({"longest": longest, "end": time.monotonic() - began, "messages": messages}))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the service in /proc")
@pytest.mark.parametrize("fault", ["is killed", "hangs", "has no disk"])
def test_a_fault_of_wandb_blocks_no_step_and_is_reported_in_one_line(fault: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, fault, str(tmp_path), str(TIMEOUT)],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("WANDB")},
            **{"HOME": str(tmp_path), "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_ERROR_REPORTING": "false"},
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    assert found["longest"] < 0.5
    assert found["end"] < 3 * TIMEOUT + 2
    assert "Traceback" not in done.stderr
    if fault == "has no disk":
        assert found["messages"] == []  # offline, wandb does not report errors of the disk
    else:
        (line,) = found["messages"]
        assert line.startswith("tracker wandb failed with ")
        assert line.endswith("it is disabled, and the run continues.")


def test_calls_are_made_in_order_and_posting_does_not_wait() -> None:
    queue, made = EventQueue(timeout=5), list[int]()
    queue.post(lambda: time.sleep(0.3))
    began = time.monotonic()
    for number in range(100):
        queue.post(lambda number=number: made.append(number))  # type: ignore[misc]
    assert time.monotonic() - began < 0.2
    queue.wait(5)
    assert made == list(range(100))


def test_the_next_post_raises_the_error_of_an_earlier_call() -> None:
    queue = EventQueue(timeout=5)
    queue.post(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        queue.wait(5)
    with pytest.raises(ZeroDivisionError):
        queue.post(lambda: None)


def test_posting_raises_if_a_call_does_not_return() -> None:
    queue = EventQueue(timeout=0.2)
    queue.post(lambda: time.sleep(60))
    queue.post(lambda: None)
    time.sleep(0.4)
    with pytest.raises(TimeoutError, match="no response"):
        queue.post(lambda: None)
