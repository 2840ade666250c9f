"""Side effects of building and using a component twice: random generators, settings of the process, output."""

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ddpmkit.errors import ComponentUnavailable
from ddpmkit.global_state import settings_now
from ddpmkit.interrupts import is_interrupt
from ddpmkit.testing.failures import ConformanceError

__all__ = ["Observation", "observe"]


@dataclass(frozen=True)
class Observation:
    """What was observed."""

    results: tuple[Mapping[str, Any], Mapping[str, Any]]
    """Of two builds with the same seed; empty if the component raised."""
    generators: tuple[str, ...]
    """Global random generators whose state changed."""
    settings: tuple[str, ...]
    """Settings of the process that changed: name, before, after."""
    printed: str
    """What was written to standard output and standard error."""
    error: BaseException | None
    """What the component raised."""


def observe(use: Callable[[], Mapping[str, Any]]) -> Observation:
    """Call `use`, which builds and uses a component, twice. Raises ComponentUnavailable if the component does."""
    settings = _settings()
    printed = io.StringIO()
    with _unusual_generator_states(), _captured(printed):
        before = _generator_states()
        results, error = _results(use)
        changed = tuple(name for name, state in _generator_states().items() if state != before[name])
    changed_settings = tuple(
        f"{name}: {settings[name]} to {value}" for name, value in _settings().items() if value != settings[name]
    )
    return Observation(results, changed, changed_settings, printed.getvalue(), error)


def _results(
    use: Callable[[], Mapping[str, Any]],
) -> tuple[tuple[Mapping[str, Any], Mapping[str, Any]], BaseException | None]:
    try:
        return (use(), use()), None
    except ComponentUnavailable:
        raise
    except BaseException as error:
        if is_interrupt(error):
            raise
        # The checks of the kind make the same calls and more, and report what is wrong.
        wraps_another = isinstance(error, ConformanceError) and error.__context__ is not None
        return ({}, {}), error.__context__ if wraps_another else error


def _generator_states() -> dict[str, Any]:
    """The states of the global random generators, comparable by `==`."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": repr(np.random.get_state(legacy=False)),
        "random": random.getstate(),
    }


@contextlib.contextmanager
def _unusual_generator_states() -> Iterator[None]:
    """Put the generators into states that no seed produces, so that a component that seeds them is detected."""
    states = torch.get_rng_state(), np.random.get_state(legacy=True), random.getstate()
    try:
        torch.rand(()), np.random.random(), random.random()
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


@contextlib.contextmanager
def _captured(printed: io.StringIO) -> Iterator[None]:
    """Capture standard output and standard error. Log messages and warnings are allowed, and are discarded."""
    disabled = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _settings() -> dict[str, object]:
    return {"torch.get_default_device()": torch.get_default_device(), **settings_now()}
