import os
import signal
import threading

import pytest

from ddpmkit.cli.stop_signals import StopRequest


@pytest.fixture
def shown():
    return threading.Event()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_requests_a_stop_and_the_second_raises(number, shown):
    with StopRequest(lambda _text: shown.set()) as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        assert shown.wait(5)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert stop.exit_code == 128 + number


def test_a_signal_before_the_first_poll_raises(shown):
    with StopRequest(lambda _text: shown.set()) as stop:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert stop.exit_code == 143


def test_a_signal_that_was_ignored_stays_ignored(shown, monkeypatch):
    monkeypatch.setattr("ddpmkit.cli.stop_signals.STOP_SIGNALS", (signal.SIGUSR1,))
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with StopRequest(lambda _text: shown.set()) as stop:
            signal.raise_signal(signal.SIGUSR1)
            assert not stop()
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_handler_that_was_replaced_is_reinstalled(shown, number):
    with StopRequest(lambda _text: shown.set()) as stop:
        stop()
        signal.signal(number, signal.SIG_IGN)
        assert not stop()
        signal.raise_signal(number)
        assert stop()


def test_the_previous_handlers_are_restored(shown):
    before = signal.getsignal(signal.SIGINT)
    with StopRequest(lambda _text: shown.set()):
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
