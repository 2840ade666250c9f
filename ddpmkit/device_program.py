"""Work that is repeated over the same tensors. On CUDA it is captured in a graph once, and then replayed.

A step of a small network consists of hundreds of short kernels, and Python starts them more slowly than a GPU runs
them. A replay starts all of them at once. Other devices call the function each time, so they run the same program.
"""

import functools
import gc
import warnings
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

__all__ = ["DeviceProgram", "NotCapturable", "only_once"]

Result = TypeVar("Result")

_EAGER_CALLS = 2
"""The first call compiles and allocates what is created at first use. The second shows whether the host waits."""
_SYNCHRONIZES = "called a synchronizing CUDA operation"


class NotCapturable(Exception):
    """A function cannot be captured in a CUDA graph. It is called each time instead, with the same result."""


class DeviceProgram(Generic[Result]):
    """A function without arguments. Its inputs and outputs are tensors whose memory stays the same.

    A replay repeats the kernels of one call, with the values that the tensors have then. So the function must read
    nothing on the host that changes between calls. Torch's default generator of the device may be seeded before a call:
    a replay uses the new seed.
    """

    def __init__(
        self,
        function: Callable[[], Result],
        device: torch.device,
        *,
        capture: bool = True,
        refused: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        """`capture`: False calls the function each time, on CUDA too.

        `refused` is called once if the function cannot be captured, with NotCapturable or with the error that the
        function raised while it was captured.
        """
        self.function, self._device, self._refused = function, device, refused
        self._captures = capture and device.type == "cuda"
        self._stream = _capture_stream(device) if self._captures else None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Result | None = None
        self._calls = 0

    @property
    def is_captured(self) -> bool:
        """Whether the next call is a replay."""
        return self._graph is not None

    def __call__(self) -> Result:
        """Run the function, or replay it. The tensors of a replayed result are overwritten by the next call."""
        if self._stream is None:
            return self.function()
        if self._graph is None and self._captures and self._calls >= _EAGER_CALLS:
            self._capture(self._stream)
        if self._graph is not None:
            self._graph.replay()
            return self._result  # type: ignore[return-value]  # set by the capture
        self._calls += 1
        return self._eager_call(self._stream)

    def _eager_call(self, stream: torch.cuda.Stream) -> Result:
        """Call the function on the stream of the capture, so that gradients and workspaces belong to this stream."""
        current = torch.cuda.current_stream(self._device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            result = self._watched_call() if self._captures and self._calls == _EAGER_CALLS else self.function()
        current.wait_stream(stream)
        return result

    def _watched_call(self) -> Result:
        """Call the function. If the host waits for the device within, do not capture it.

        A capture that fails at such a wait leaves torch's generators unusable, so it must not be tried.
        """
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                result = self.function()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        waits = [each for each in caught if _SYNCHRONIZES in str(each.message)]
        for each in caught:
            if each not in waits:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        if waits:
            self._refuse(NotCapturable(f"it waits for the device at {_places(waits)}"))
        return result

    def _capture(self, stream: torch.cuda.Stream) -> None:
        """Record the kernels of one call, without running them."""
        torch.cuda.synchronize(self._device)
        gc.collect()  # no tensor may be freed by a collection during the capture
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(stream):
                # Other threads, which write checkpoints or load images, may use the device meanwhile.
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    result = self.function()
                except BaseException as error:
                    _end_failed_capture(graph, error)
                    raise
                graph.capture_end()
        except Exception as error:
            self._refuse(error)
        else:
            self._graph, self._result = graph, result

    def _refuse(self, error: Exception) -> None:
        self._captures = False
        self._refused(error)


def only_once(report: Callable[[Exception], None]) -> Callable[[Exception], None]:
    """Return a function that calls `report` the first time only, for the `refused` of several programs."""
    reported: list[Exception] = []

    def report_first(error: Exception) -> None:
        if not reported:
            reported.append(error)
            report(error)

    return report_first


@functools.cache
def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which all programs are captured: cuBLAS keeps a workspace of some MiB for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _end_failed_capture(graph: torch.cuda.CUDAGraph, error: BaseException) -> None:
    """End a capture in which `error` was raised. Torch's own error at the end would hide the first one."""
    try:
        graph.capture_end()
    except RuntimeError as second:
        error.add_note(str(second))


def _places(caught: list[warnings.WarningMessage]) -> str:
    """Return where the warnings were raised: the first three of the places, as `file.py:12`."""
    places = list(dict.fromkeys(f"{each.filename}:{each.lineno}" for each in caught))
    return ", ".join(places[:3]) + (f" and {len(places) - 3} other places" if len(places) > 3 else "")
