"""The entry point of the program `ddpmkit`: opens the standard streams, runs the command line, sets the exit code."""

import contextlib
import os
import sys
import threading
import time

__all__ = ["start"]

_EXIT_TIMEOUT = 10.0
"""Seconds that threads and exit hooks of plugins may take after the command is done."""


def start() -> None:
    """Run the command line and exit with its code, even if plugins left threads or exit hooks running."""
    _open_standard_streams()
    from ddpmkit.cli.root import main

    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except OSError as error:  # from click's own `--help` and `--version`
        with contextlib.suppress(OSError, ValueError):
            print(f"error: {error.strerror or error}", file=sys.stderr)  # noqa: T201
    finally:
        _flush()
        threading.Thread(target=_end, args=(code,), name="exit of the process", daemon=True).start()
    sys.exit(code)


def _open_standard_streams() -> None:
    """Open closed standard streams, so that no other file gets their descriptors and receives printed text."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # uses the lowest free descriptor
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # TextIO does not declare it


def _flush() -> None:
    """Flush the streams, or redirect them to nothing: Python would exit with its own code if its flush failed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end(code: int) -> None:
    """Exit after a timeout: Python waits indefinitely for every thread that is not a daemon and for every exit hook."""
    time.sleep(_EXIT_TIMEOUT)
    threads = [
        thread for thread in threading.enumerate() if not thread.daemon and thread is not threading.main_thread()
    ]
    names = ", ".join(f"thread {thread.name!r} ({_current_line(thread)})" for thread in threads) or "an exit hook"
    with contextlib.suppress(OSError, ValueError):
        print(f"warning: {names} is still running; the process exits without it.", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(code)


def _current_line(thread: threading.Thread) -> str:
    """Return the file and line that the thread is executing: the outermost frame outside Python's `threading`."""
    frame = sys._current_frames().get(thread.ident or 0)
    place = "unknown"
    while frame is not None:
        if frame.f_code.co_filename != threading.__file__:
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return place
