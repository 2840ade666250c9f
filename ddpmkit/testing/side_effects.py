"""A component watched from outside, while it is built and used twice: what it draws, prints and leaves changed.

It does not know what is right.
"""

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ddpmkit.errors import ComponentUnavailable
from ddpmkit.global_state import settings_now
from ddpmkit.interrupts import is_interrupt
from ddpmkit.testing.checks import Answers, ConformanceError, Subject

__all__ = ["Observation", "observe"]


@dataclass(frozen=True)
class Observation:
    """What was seen."""

    answers: tuple[Answers, Answers]
    """Of two builds at one seed; empty where it raised."""
    generators: tuple[str, ...]
    """Global generators that were drawn from, or seeded."""
    settings: tuple[str, ...]
    """Settings of the process that were other afterwards: name, before, after."""
    printed: str
    """To standard output and standard error."""
    error: BaseException | None
    """What it raised."""


def observe(subject: Subject) -> Observation:
    """Build and use the component twice. Raises ComponentUnavailable when it cannot work here."""
    settings = _settings()
    printed = io.StringIO()
    with _disturbed_generators(), _listening(printed):
        before = _generators()
        answers, error = _answers(subject)
        moved = tuple(name for name, state in _generators().items() if state != before[name])
    changed = tuple(
        f"{name}: {settings[name]} to {value}" for name, value in _settings().items() if value != settings[name]
    )
    return Observation(answers, moved, changed, printed.getvalue(), error)


def _answers(subject: Subject) -> tuple[tuple[Answers, Answers], BaseException | None]:
    try:
        return (subject.use(subject), subject.use(subject)), None
    except ComponentUnavailable:
        raise
    except BaseException as error:
        if is_interrupt(error):
            raise
        # The checks of its kind do the same and more, and say what is wrong with it.
        foreseen = isinstance(error, ConformanceError) and error.__context__ is not None
        return ({}, {}), error.__context__ if foreseen else error


def _generators() -> dict[str, Any]:
    """The state of each global generator, comparable by `==`."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy.random": repr(np.random.get_state(legacy=False)),
        "random": random.getstate(),
    }


@contextlib.contextmanager
def _disturbed_generators() -> Iterator[None]:
    """Generators in a state that no seed gives, for one that is seeded again to be seen; put back afterwards."""
    states = torch.get_rng_state(), np.random.get_state(legacy=True), random.getstate()
    try:
        torch.rand(()), np.random.random(), random.random()
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


@contextlib.contextmanager
def _listening(printed: io.StringIO) -> Iterator[None]:
    """Hear what is printed. What is logged or warned of is heard by whoever asked for it, and by nobody here."""
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
