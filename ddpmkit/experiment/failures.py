"""Explains a failure during a run: which component raised it, where, and what to do."""

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from ddpmkit.errors import ContractError, DdpmkitError, RunFailed, error_text
from ddpmkit.experiment.interruption import Stopped
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.fault_location import fix_hint
from ddpmkit.recipe import Part, Recipe
from ddpmkit.runtime import is_out_of_memory

__all__ = ["explained", "explaining"]


@contextlib.contextmanager
def explaining(doing: str, recipe: Recipe) -> Iterator[None]:
    """Replace an error that is raised within by what `explained` returns for it."""
    try:
        yield
    except BaseException as error:
        if (failure := explained(error, doing, recipe)) is error:
            raise
        raise failure from error


def explained(error: BaseException, doing: str, recipe: Recipe) -> BaseException:
    """The error to report for one that was raised while `doing` something ("training step 12", "generating 4 samples").

    It names the component whose code raised the error, with its distribution. A requested stop and an error of ddpmkit
    itself are returned unchanged.
    """
    if isinstance(error, DdpmkitError | Stopped) or is_interrupt(error):
        return error
    if is_out_of_memory(error):
        return _out_of_memory(doing, recipe)
    if isinstance(error, ContractError):
        part = next(part for part in recipe.parts if part.component.kind == error.kind)
        return _component_failure(part, f"failed while {doing}: {error}.", error)
    if (culprit := _culprit(error, recipe.parts)) is not None:
        return _component_failure(culprit, f"failed while {doing}, with {error_text(error)} ({_place(error)}).", error)
    if isinstance(error, Exception):
        return error
    # SystemExit and similar would end the process as if it had succeeded.
    return RunFailed(f"{doing} failed with {error_text(error)} ({_place(error)}).")


def _component_failure(part: Part[Any], what: str, error: BaseException) -> RunFailed:
    component = part.component
    return RunFailed(
        f"{component.kind} {component.use!r} {what}",
        remedies=[
            fix_hint(component.plugin, component.component.target, error),
            f"use another {component.kind}",
        ],
    )


def _out_of_memory(doing: str, recipe: Recipe) -> RunFailed:
    """Different keys reduce the memory of training and of sampling."""
    train, sampler = recipe.train, recipe.sampler.settings
    if doing.startswith("training"):
        keys = f"train.batch_size = {train.batch_size}, train.accumulate = {train.accumulate}"
        remedies = [
            f"train.accumulate = {2 * train.accumulate} computes the batch in that many parts, with the same result",
            "train.batch_size: fewer images a step, which is another experiment",
        ]
    else:
        keys = f"sampler.batch_size = {sampler.batch_size}, train.precision = {train.precision!r}"
        remedies = [
            f"sampler.batch_size = {max(1, sampler.batch_size // 2)} generates fewer images at a time, with the same "
            "result",
            'train.precision = "bfloat16" halves the memory of the network, if the device supports it',
        ]
    return RunFailed(f"out of memory while {doing} ({keys}).", remedies=remedies)


def _culprit(error: BaseException, parts: Sequence[Part[Any]]) -> Part[Any] | None:
    """The component whose module, or else whose package, is innermost in the traceback.

    If several components share the module, it is the one with the innermost method.
    """
    frames = [frame for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__)))]
    for frame in frames:
        running = frame.f_globals.get("__name__", "")
        for matches in (_is_module, _is_package):
            found = [part for part in parts if matches(running, part.component.component.target.partition(":")[0])]
            if found:
                methods = (frame.f_code.co_qualname for frame in frames)
                return next((part for method in methods for part in found if _is_method_of(method, part)), found[0])
    return None


def _is_method_of(method: str, part: Part[Any]) -> bool:
    return method.startswith(f"{part.component.component.target.partition(':')[2]}.")


def _is_module(running: str, target: str) -> bool:
    return running == target


def _is_package(running: str, target: str) -> bool:
    package = target.rpartition(".")[0]
    return bool(package) and (running == package or running.startswith(f"{package}."))


def _place(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"
