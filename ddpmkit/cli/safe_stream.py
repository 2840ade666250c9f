"""Standard output and standard error as streams that never raise.

What is shown must not harm what is made: a full disk behind a log, a closed pipe or an encoding without the letter cost
text, and nothing else.
"""

import contextlib
import io
import re
import sys
from typing import Literal, TextIO

__all__ = ["SafeStream", "escaped"]

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters (C0 but for tab and line feed, DEL, C1), line separators, what changes the direction of text."""


def escaped(text: str) -> str:
    """`text` with what would move the cursor, change colours or reorder letters shown as `\\x1b` or `\\u202e`."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


class SafeStream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr`, whatever these are at the time; text that cannot be shown is escaped or lost."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name
        self.is_stderr = name == "stderr"
        self.failure: OSError | ValueError | None = None
        """Why some text was lost; a reader who closed the pipe has read enough, and is no reason."""

    def write(self, text: str) -> int:
        """Write all of it at once, past the buffers, which would raise again and again over what they hold."""
        stream = self._stream()
        if stream is None:
            return len(text)
        self.flush()  # what others wrote comes first
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
                raise BlockingIOError("the reader does not read")
            rest = rest[written:]

    def flush(self) -> None:
        """Nothing is held back here; what others wrote to the stream is, and may not go through."""
        stream = self._stream()
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed has an attribute
        """That of the stream."""
        return getattr(self._stream(), "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        stream = self._stream()
        try:
            return stream is not None and stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        """That of the stream. Raises OSError when it has none."""
        stream = self._stream()
        if stream is None:
            raise OSError("there is no such stream")
        return stream.fileno()

    def writable(self) -> bool:
        """Always."""
        return True

    def _stream(self) -> TextIO | None:
        """None when the process was started with it closed."""
        stream: TextIO | None = getattr(sys, self._name)
        # A live display puts a proxy there that writes through the console, that is: to us.
        return getattr(stream, "rich_proxied_file", stream)
