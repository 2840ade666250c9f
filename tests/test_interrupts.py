import os
import signal
import threading
from typing import Any

import pytest

from ddpmkit.interrupts import Interrupted, is_interrupt, own_sigint_handler


def test_a_signal_is_distinguished_from_a_raised_keyboard_interrupt() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with own_sigint_handler():
        assert not is_interrupt(KeyboardInterrupt())
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), signal.SIGINT)
        assert is_interrupt(caught.value)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert is_interrupt(KeyboardInterrupt())  # cannot be distinguished, so it counts as a signal
    assert not is_interrupt(SystemExit(0))


@pytest.mark.parametrize("before", [signal.SIG_IGN, lambda _number, _frame: None], ids=["ignored", "another handler"])
def test_an_existing_handler_is_kept(before: Any) -> None:
    was = signal.signal(signal.SIGINT, before)
    try:
        with own_sigint_handler():
            assert signal.getsignal(signal.SIGINT) == before
        assert signal.getsignal(signal.SIGINT) == before
    finally:
        signal.signal(signal.SIGINT, was)


def test_another_thread_changes_no_handler() -> None:
    seen = []

    def look() -> None:
        with own_sigint_handler():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
