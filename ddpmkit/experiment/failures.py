"""Explains a failure during a run: which component raised it, where, and what to do."""

import contextlib
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from ddpmkit.errors import ContractError, DdpmkitError, RunFailed, error_text
from ddpmkit.experiment.stop_requests import Stopped
from ddpmkit.interrupts import is_interrupt
from ddpmkit.plugin.fault_location import fix_hint
from ddpmkit.recipe import Part, Recipe, toml_value
from ddpmkit.runtime import is_compiler_error, is_out_of_memory

__all__ = ["explain_failure", "explain_failures"]

_FEW_IMAGES = 8
"""A batch size to try if the automatic one is too large."""


@contextlib.contextmanager
def explain_failures(activity: str, recipe: Recipe) -> Iterator[None]:
    """Replace an error from the block by the explained error (see `explain_failure`)."""
    try:
        yield
    except BaseException as error:
        if (failure := explain_failure(error, activity, recipe)) is error:
            raise
        raise failure from error


def explain_failure(error: BaseException, activity: str, recipe: Recipe) -> BaseException:
    """Return the error to report for `error`, which was raised during `activity`.

    `activity` is for example "training step 12" or "generating 4 samples". The returned error names the component whose
    code raised `error`, with its distribution. A requested stop and an error of ddpmkit itself are returned unchanged.
    """
    if isinstance(error, DdpmkitError | Stopped) or is_interrupt(error):
        return error
    if is_out_of_memory(error):
        return _out_of_memory(activity, recipe)
    if is_compiler_error(error):
        # The first line names the compiler's back end, the second its error. A stack of the compiler follows.
        reason = " ".join(error_text(error).splitlines()[:2]).rstrip(".")
        return RunFailed(
            f"torch.compile failed while {activity}, with {reason}.",
            remedies=["set train.compile = false to compute the network without the compiler"],
        )
    if isinstance(error, ContractError):
        part = next(part for part in recipe.parts if part.component.kind == error.kind)
        return _component_failure(part, f"failed while {activity}: {error}.", error)
    if (failing := _failing_component(error, recipe.parts)) is not None:
        return _component_failure(
            failing, f"failed while {activity}, with {error_text(error)} ({_file_and_line(error)}).", error
        )
    if isinstance(error, Exception):
        return error
    # SystemExit could end the process with exit code 0.
    return RunFailed(f"{activity} failed with {error_text(error)} ({_file_and_line(error)}).")


def _component_failure(part: Part[Any], what: str, error: BaseException) -> RunFailed:
    component = part.component
    return RunFailed(
        f"{component.kind} {component.use!r} {what}",
        remedies=[
            fix_hint(component.plugin, component.component.target, error),
            f"use another {component.kind}",
        ],
    )


def _out_of_memory(activity: str, recipe: Recipe) -> RunFailed:
    """Return an error that names the keys which reduce the memory use: training and sampling have different ones."""
    train, sampler = recipe.train, recipe.sampler.settings
    if activity.startswith("training"):
        keys = f"train.batch_size = {train.batch_size}, train.accumulate = {train.accumulate}"
        remedies = [
            f"set train.accumulate = {2 * train.accumulate} to compute the batch in that many parts, with the same "
            "result",
            "lower train.batch_size, which changes the experiment",
        ]
    else:
        keys = f"sampler.batch_size = {toml_value(sampler.batch_size)}, train.precision = {train.precision!r}"
        fewer = _FEW_IMAGES if sampler.batch_size == "auto" else max(1, sampler.batch_size // 2)
        remedies = [
            f"set sampler.batch_size = {fewer} to generate fewer images at a time, with the same result",
            'set train.precision = "bfloat16" to halve the memory of the network, if the device supports it',
        ]
    return RunFailed(f"out of memory while {activity} ({keys}).", remedies=remedies)


def _failing_component(error: BaseException, parts: Sequence[Part[Any]]) -> Part[Any] | None:
    """Return the component that the innermost frame of the traceback belongs to: by module, then by package.

    If several components share the module, the innermost method decides.
    """
    frames = [frame for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__)))]
    for frame in frames:
        module = frame.f_globals.get("__name__", "")
        for matches in (_is_module, _is_package):
            found = [part for part in parts if matches(module, part.component.component.target.partition(":")[0])]
            if found:
                methods = (frame.f_code.co_qualname for frame in frames)
                return next((part for method in methods for part in found if _is_method_of(method, part)), found[0])
    return None


def _is_method_of(method: str, part: Part[Any]) -> bool:
    return method.startswith(f"{part.component.component.target.partition(':')[2]}.")


def _is_module(module: str, target: str) -> bool:
    return module == target


def _is_package(module: str, target: str) -> bool:
    package = target.rpartition(".")[0]
    return bool(package) and (module == package or module.startswith(f"{package}."))


def _file_and_line(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"
