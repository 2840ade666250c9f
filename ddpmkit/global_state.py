"""Settings of torch and of the process that belong to everyone, kept as they are across the calls of components.

A component that leaves gradients off, another default dtype or another working directory behind would change the work
of all others without a sign. Reading all settings takes ten microseconds, so each call of a component can afford it.
"""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch

__all__ = ["Around", "StateKeeper", "settings_now"]

_log = logging.getLogger(__name__)

Around = Callable[[str], AbstractContextManager[object]]
"""Entered around each call of a component with its kind."""


class _Setting(NamedTuple):
    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]


def _cwd() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 -- a Path costs more than all other settings together
    except OSError:
        return None


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


_AUTOCAST_DEVICES = ("cpu", "cuda")


def _autocast() -> tuple[Any, ...]:
    states = ((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in _AUTOCAST_DEVICES)
    return (_autocast_depth(), *states)


def _autocast_depth() -> int:
    """How many `torch.autocast` blocks are open; torch says it only when it changes."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def _put_autocast(state: tuple[Any, ...]) -> None:
    depth, *states = state
    # Only the end of the outermost block forgets the weights that were cast: too deep, later steps would use old ones.
    for _ in range(_autocast_depth() - depth):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()
    for device, (is_enabled, dtype) in zip(_AUTOCAST_DEVICES, states, strict=True):
        torch.set_autocast_enabled(device, is_enabled)
        torch.set_autocast_dtype(device, dtype)


def _put_default_device(device: torch.device) -> None:
    # None is the CPU too, and costs nothing for each tensor that is made.
    torch.set_default_device(None if device.type == "cpu" else device)


def _handler_setting(number: signal.Signals) -> _Setting:
    def put(handler: Any) -> None:
        # None is a handler that Python did not install and cannot put back.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)

    return _Setting(f"the handler of {number.name}", lambda: signal.getsignal(number), put)


_SETTINGS = (
    _Setting("torch.is_grad_enabled()", torch.is_grad_enabled, torch.set_grad_enabled),
    _Setting("torch.get_default_dtype()", torch.get_default_dtype, torch.set_default_dtype),
    _Setting("torch.get_default_device()", torch.get_default_device, _put_default_device),
    _Setting("torch.is_autocast_enabled()", _autocast, _put_autocast),
    _Setting("torch.get_num_threads()", torch.get_num_threads, torch.set_num_threads),
    _Setting(
        "torch.are_deterministic_algorithms_enabled()",
        _deterministic,
        lambda state: torch.use_deterministic_algorithms(state[0], warn_only=state[1]),
    ),
    _Setting(
        "torch.backends.cudnn.deterministic",
        lambda: torch.backends.cudnn.deterministic,
        lambda value: setattr(torch.backends.cudnn, "deterministic", value),
    ),
    _Setting(
        "torch.backends.cudnn.benchmark",
        lambda: torch.backends.cudnn.benchmark,
        lambda value: setattr(torch.backends.cudnn, "benchmark", value),
    ),
    _Setting(
        "torch.get_float32_matmul_precision()",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    _Setting("the working directory", _cwd, lambda path: os.chdir(path) if path is not None else None),
    _handler_setting(signal.SIGINT),
    _handler_setting(signal.SIGTERM),
)


def settings_now() -> dict[str, Any]:
    """The value of each setting, by name."""
    return {setting.name: setting.get() for setting in _SETTINGS}


class StateKeeper:
    """Puts back what a component changed, and says so once for each component and setting."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def around(self, who: str) -> Iterator[None]:
        """`who` is called within: "the loss"."""
        before = [setting.get() for setting in _SETTINGS]
        try:
            yield
        finally:
            for setting, value in zip(_SETTINGS, before, strict=True):
                if (now := setting.get()) != value:
                    self._put_back(who, setting, value, now)

    def _put_back(self, who: str, setting: _Setting, value: Any, now: Any) -> None:
        setting.put(value)
        if (who, setting.name) not in self._said:
            self._said.add((who, setting.name))
            _log.warning("the %s changed %s from %s to %s; it was put back.", who, setting.name, value, now)
