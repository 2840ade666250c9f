"""Standard output and standard error as streams that never raise.

A full disk, a closed pipe or a limited encoding may lose text, but must not stop a run.
"""

import contextlib
import io
import re
import sys
from typing import Literal, TextIO

__all__ = ["SafeStream", "escaped"]

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters (C0 except tab and line feed, DEL, C1), line separators, and text direction characters."""


def escaped(text: str) -> str:
    """Return `text`, with characters that move the cursor, change colours or reorder text as `\\x1b` or `\\u202e`."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


class SafeStream(io.TextIOBase):
    """Writes to the current `sys.stdout` or `sys.stderr`; text that cannot be shown is escaped or dropped."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name
        self.is_stderr = name == "stderr"
        self.failure: OSError | ValueError | None = None
        """Why text was lost. A pipe closed by its reader does not count: the reader has read enough."""

    def write(self, text: str) -> int:
        """Write the text unbuffered: a buffer would raise the same error again on every flush."""
        stream = self._stream()
        if stream is None:
            return len(text)
        self.flush()  # text that others wrote comes first
        try:
            self._write(stream, text)
        except BrokenPipeError:
            pass
        except (OSError, ValueError) as error:  # ValueError: the stream was closed
            self.failure = error
        return len(text)

    def _write(self, stream: TextIO, text: str) -> None:
        buffer = getattr(stream, "buffer", None)
        if buffer is None:
            stream.write(text)
            return
        rest = memoryview(text.encode(self.encoding, errors="backslashreplace"))
        raw = getattr(buffer, "raw", buffer)
        while rest:
            written = raw.write(rest)
            if not written:
                raise BlockingIOError("the pipe is full")
            rest = rest[written:]

    def flush(self) -> None:
        """Flush text that others wrote to the stream; this class buffers nothing."""
        stream = self._stream()
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute
        """The encoding of the stream."""
        return getattr(self._stream(), "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        stream = self._stream()
        try:
            return stream is not None and stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        """Return the file descriptor of the stream. Raises OSError if there is none."""
        stream = self._stream()
        if stream is None:
            raise OSError("there is no such stream")
        return stream.fileno()

    def writable(self) -> bool:
        """True."""
        return True

    def _stream(self) -> TextIO | None:
        """None if the process was started with the stream closed."""
        stream: TextIO | None = getattr(sys, self._name)
        # A live display installs a proxy that writes through the console, and so to this class.
        return getattr(stream, "rich_proxied_file", stream)
