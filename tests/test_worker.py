import threading
import time

import pytest

from ddpmkit.worker import Worker


def test_calls_are_made_in_order_in_one_daemon_thread() -> None:
    worker, seen = Worker("orderly"), []
    for number in range(5):
        worker.post(lambda number=number: seen.append((number, threading.current_thread())))  # type: ignore[misc]
    (thread,) = {worker.call(threading.current_thread, 10)} | {thread for _, thread in seen}
    assert [number for number, _ in seen] == list(range(5))
    assert (thread.name, thread.daemon) == ("orderly", True)


def test_a_call_returns_or_raises_what_the_function_does() -> None:
    worker = Worker("calls")
    assert worker.call(lambda: 7, 10) == 7
    for error in (ZeroDivisionError, SystemExit, KeyboardInterrupt):
        with pytest.raises(error):
            worker.call(lambda error=error: (_ for _ in ()).throw(error()), 10)  # type: ignore[misc]
    assert worker.call(lambda: 8, 10) == 8


def test_a_call_that_hangs_raises_a_timeout_and_is_visible() -> None:
    worker, let_go = Worker("hanging"), threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.2 seconds"):
        worker.call(let_go.wait, 0.2)
    assert worker.busy_since is not None
    assert time.monotonic() - worker.busy_since > 0.1
    let_go.set()
    assert worker.call(lambda: 9, 10) == 9
