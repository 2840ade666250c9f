"""Run functions and `ddpmkit` commands in separate processes, which can be killed.

Importing torch takes longer than a small run. So a server imports it once, and each process is a fork of that server.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch

__all__ = ["call", "command"]

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("__main__", "ddpmkit.cli.run", "ddpmkit.experiment", "torch._dynamo"),
        *(plugin.module for plugin in entry_points(group="ddpmkit.plugins")),
    ]
)


def call(function: Callable[..., object], *arguments: Any, kill_after: float | None = None) -> int:
    """Call `function` in a new process and return the exit code; after `kill_after` seconds, kill it (-9).

    torch uses one thread, so that the bits of its sums do not depend on the machine.
    """
    child = _FORKS.Process(target=_single_threaded, args=(function, arguments))
    child.start()
    child.join(kill_after)
    if child.exitcode is None:
        child.kill()
        child.join()
    assert child.exitcode is not None
    return child.exitcode


def command(
    arguments: list[str], output: Path, kill_after: float | None = None, *, fresh_interpreter: bool = False
) -> int:
    """Run `ddpmkit ARGUMENTS` like `call`, optionally in a fresh interpreter, and append its output to a file."""
    if not fresh_interpreter:
        return call(_main, arguments, output, kill_after=kill_after)
    with output.open("ab") as out:
        try:
            return subprocess.run(
                [sys.executable, "-m", "ddpmkit", *arguments],
                stdout=out, stderr=out, timeout=kill_after, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:  # `subprocess.run` has sent SIGKILL
            return -signal.SIGKILL


def _single_threaded(function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    function(*arguments)


def _main(arguments: list[str], output: Path) -> None:
    from ddpmkit.cli import main

    with output.open("ab") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    main(arguments)
