"""How the process of a command exits if a plugin left something running, in real processes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

BEGIN = """
import sys, threading, time, atexit
import click
from ddpmkit.cli import entry_point, root

entry_point._EXIT_TIMEOUT = 1.0

@click.command()
def finished():
    {left}
    print("done")
    sys.stdout.flush()
    raise click.exceptions.Exit({code})

root.COMMANDS["finished"] = "__main__:finished"
sys.argv = ["ddpmkit", "finished"]
entry_point.start()
"""
THREAD = "threading.Thread(target=lambda: time.sleep(600), name='uploader').start()"
HOOK = "atexit.register(time.sleep, 600)"


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize(("left", "named"), [(THREAD, "thread 'uploader' (<string>:10)"), (HOOK, "an exit hook")])
def test_a_thread_or_an_exit_hook_that_hangs_is_named_and_the_process_ends(left: str, named: str, code: int) -> None:
    script = BEGIN.format(left=left, code=code)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (code, "done\n")
    assert done.stderr == f"warning: {named} is still running; the process exits without it.\n"
    assert time.monotonic() - began < 60


def test_the_process_waits_briefly_for_a_thread() -> None:
    left = "threading.Thread(target=lambda: (time.sleep(0.3), print('uploaded', flush=True))).start()"
    script = BEGIN.format(left=left, code=0)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\nuploaded\n", "")


def test_a_file_of_a_run_never_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom ddpmkit.cli import entry_point\nentry_point._open_standard_streams()\n"
        f"file = open({str(tmp_path / 'log')!r}, 'w')\nos._exit(file.fileno())"
    )
    done = subprocess.run(["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, script], check=False)
    assert done.returncode > 2
