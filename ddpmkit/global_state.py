"""Restores process-wide settings (of Python and of torch) that the code of a plugin changes.

A component that leaves gradients off, another default dtype or another working directory would silently change the
work of all others. Reading all settings takes ten microseconds, so each call of a component can afford it. This module
does not import torch: plugins are discovered before torch is needed.
"""

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from ddpmkit.interrupts import STOP_SIGNALS

__all__ = ["Guard", "SettingsGuard", "settings_now", "working_folder"]

_log = logging.getLogger(__name__)

Guard = Callable[[str], AbstractContextManager[object]]
"""Guards a call of a component: `guard(kind)` is a context that restores the settings which the call changed."""


class _Setting(NamedTuple):
    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]


def working_folder() -> str | None:
    """Return the current directory; None if it was deleted."""
    try:
        return os.getcwd()  # noqa: PTH109 -- a Path costs more than all other settings together
    except OSError:
        return None


def _handler_setting(number: signal.Signals) -> _Setting:
    def put(handler: Any) -> None:
        # None is a handler that Python did not install and cannot restore.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(number, handler)

    return _Setting(f"the handler of {number.name}", lambda: signal.getsignal(number), put)


_PROCESS_SETTINGS = (
    _Setting("the working directory", working_folder, lambda path: os.chdir(path) if path is not None else None),
    *map(_handler_setting, STOP_SIGNALS),
)

_inference_guards: list[object] = []
"""Inference mode ends when the object that started it is deleted. Objects that restored it are kept here."""


@functools.cache
def _torch_settings() -> tuple[_Setting, ...]:
    import torch  # only if something else has imported it already

    from ddpmkit.float32_products import float32_products, set_float32_products

    devices = ("cpu", "cuda")

    def put_inference_mode(is_enabled: bool) -> None:
        guard = torch.inference_mode(is_enabled)
        guard.__enter__()
        _inference_guards.append(guard)

    def autocast() -> tuple[Any, ...]:
        states = ((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in devices)
        return (autocast_depth(), *states)

    def autocast_depth() -> int:
        """Return how many `torch.autocast` blocks are open; torch returns it only when it changes."""
        torch.autocast_increment_nesting()
        return torch.autocast_decrement_nesting()

    def put_autocast(state: tuple[Any, ...]) -> None:
        depth, *states = state
        # Only the end of the outermost block clears the cache of cast weights: if the depth stayed too high, later
        # steps would use old weights.
        for _ in range(autocast_depth() - depth):
            torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        for device, (is_enabled, dtype) in zip(devices, states, strict=True):
            torch.set_autocast_enabled(device, is_enabled)
            torch.set_autocast_dtype(device, dtype)

    def put_default_device(device: torch.device) -> None:
        # None is the CPU too, and adds no cost to the creation of each tensor.
        torch.set_default_device(None if device.type == "cpu" else device)

    return (
        # Inference mode comes before gradients, which it switches as well.
        _Setting("torch.is_inference_mode_enabled()", torch.is_inference_mode_enabled, put_inference_mode),
        _Setting("torch.is_grad_enabled()", torch.is_grad_enabled, torch.set_grad_enabled),
        _Setting("torch.get_default_dtype()", torch.get_default_dtype, torch.set_default_dtype),
        _Setting("torch.get_default_device()", torch.get_default_device, put_default_device),
        _Setting("torch.is_autocast_enabled()", autocast, put_autocast),
        _Setting("torch.get_num_threads()", torch.get_num_threads, torch.set_num_threads),
        _Setting(
            "torch.are_deterministic_algorithms_enabled()",
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
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
        _Setting("torch.get_float32_matmul_precision()", float32_products, set_float32_products),
    )


def _settings() -> tuple[_Setting, ...]:
    return (*_torch_settings(), *_PROCESS_SETTINGS) if "torch" in sys.modules else _PROCESS_SETTINGS


def settings_now() -> dict[str, Any]:
    """Return the value of each setting, by name. Settings of torch are included if torch has been imported."""
    return {setting.name: setting.get() for setting in _settings()}


class SettingsGuard:
    """Restores the settings that a component changed, and warns once for each component and setting."""

    def __init__(self) -> None:
        self._reported: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def guard(self, who: str) -> Iterator[None]:
        """Restore settings that change within; `who` is the component to name in the warning, as in "loss 'l1'"."""
        before = [(setting, setting.get()) for setting in _settings()]
        try:
            yield
        finally:
            changed = [(setting.name, value, now) for setting, value in before if (now := setting.get()) != value]
            if changed:
                for setting, value in before:
                    if setting.get() != value:
                        setting.put(value)
            for name, value, now in changed:
                if (who, name) not in self._reported:
                    self._reported.add((who, name))
                    _log.warning("the %s changed %s from %s to %s; it was restored.", who, name, value, now)
