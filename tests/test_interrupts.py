import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ddpmkit.interrupts import STOP_SIGNALS, Interrupted, handlers_kept, is_interrupt, marked_interrupts


def test_a_real_interrupt_is_told_from_one_that_is_raised() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with marked_interrupts():
        assert not is_interrupt(KeyboardInterrupt())
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGINT)
        assert is_interrupt(caught.value)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert is_interrupt(KeyboardInterrupt())  # nobody can tell, so a person's
    assert not is_interrupt(SystemExit(0))


@pytest.mark.parametrize("before", [signal.SIG_IGN, lambda _number, _frame: None], ids=["ignored", "of someone else"])
def test_a_handler_of_someone_else_stays(before: Any) -> None:
    was = signal.signal(signal.SIGINT, before)
    try:
        with marked_interrupts():
            assert signal.getsignal(signal.SIGINT) == before
        assert signal.getsignal(signal.SIGINT) == before
    finally:
        signal.signal(signal.SIGINT, was)


def test_another_thread_changes_nothing() -> None:
    seen = []

    def look() -> None:
        with marked_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_handler_that_code_within_replaces_is_put_back_and_that_is_said(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(number)
    with contextlib.suppress(KeyError), handlers_kept("plugin acme"):
        signal.signal(number, signal.SIG_IGN)
        raise KeyError
    assert signal.getsignal(number) == before
    assert caplog.messages == [f"plugin acme changed the handler of {number.name}; it was put back."]


def test_handlers_are_left_alone_in_another_thread() -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(lambda: handlers_kept("plugin acme").__enter__()).result()
