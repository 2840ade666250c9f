"""Downloads a file over HTTP: under a temporary name, resumable, checked, then renamed.

A file with its final name is complete. Next to a partial file, a JSON file records which version it is a part of.
"""

import errno
import http.client
import json
import os
import urllib.error
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import IO

from ddpmkit.errors import InputError
from ddpmkit.file_lock import is_at, wait_for_lock
from ddpmkit.http_range import Version, request_rest
from ddpmkit.regular_file import sha256_file

__all__ = ["download"]

_TIMEOUT = 30.0
"""Seconds without data after which the download fails."""
_CHUNK = 1 << 18
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Progress = Callable[[int, int | None], None]


def download(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    progress: Progress = lambda _here, _total: None,
) -> Path:
    """Download `url` to `destination`; do nothing if the file exists (and has this SHA-256, if given).

    An interrupted download is continued if the server confirms that it still has the same version of the file, and
    starts again otherwise. `progress` receives the number of bytes downloaded and in total (None if unknown). If
    another process downloads the same file, wait for it. Raises InputError if the server cannot be reached, returns an
    error, ends the transfer early, or sends a file with another SHA-256, and if the disk is full.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f"{destination.name}.part")
    try:
        while not (destination.is_file() and (sha256 is None or sha256_file(destination) == sha256)):
            with partial.open("ab") as file:
                wait_for_lock(file.fileno(), destination)
                if is_at(file.fileno(), partial):
                    _transfer(url, file, partial, progress)
                    _put_in_place(file, partial, destination, url, sha256)
    except urllib.error.HTTPError as error:
        error.close()
        later = ["try again later"] if error.code == HTTPStatus.TOO_MANY_REQUESTS or error.code >= 500 else []
        raise InputError(f"{url} cannot be downloaded: HTTP {error.code} {error.reason}.", remedies=later) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        again = "run the same command again"
        if partial.exists():
            again += f": it continues {partial}"
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            full = f"{partial} cannot be written: {error.strerror}."
            raise InputError(full, remedies=[f"free some space and {again}"]) from error
        reason = getattr(error, "reason", None) or error
        reason = getattr(reason, "strerror", None) or reason
        raise InputError(
            f"{url} cannot be downloaded: {reason}.", remedies=[f"check the connection and {again}"]
        ) from error
    return destination


def _put_in_place(file: IO[bytes], partial: Path, destination: Path, url: str, sha256: str | None) -> None:
    """Check the SHA-256, flush the file to the disk and rename it. Raises InputError if it is another file."""
    file.flush()
    if sha256 is not None and (found := sha256_file(partial)) != sha256:
        _discard(partial)
        raise InputError(
            f"{url} is not the expected file: its SHA-256 is {found}, not {sha256}.",
            remedies=["run the same command again", "if that does not help, the file on the server has changed"],
        )
    os.fsync(file.fileno())
    _version_file(partial).unlink(missing_ok=True)
    partial.replace(destination)


def _transfer(url: str, file: IO[bytes], partial: Path, progress: Progress) -> None:
    """Append the missing bytes. Raises OSError, HTTPException or ValueError if the transfer fails or ends early."""
    here, version = os.fstat(file.fileno()).st_size, _read_version(partial)
    if version is not None and version.url == url and here == version.total:
        return  # complete, but not yet renamed
    try:
        response, here, version = request_rest(url, here, version, _TIMEOUT)
        with response:
            if here == 0:
                file.truncate(0)
                _write_version(partial, version)
            # `read1` returns what has arrived; `read` would lose it if the server stops in the middle of a chunk.
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                file.flush()
                here += len(chunk)
                progress(here, version.total)
        if version.total is not None and here != version.total:
            raise ConnectionError(f"the transfer ended after {here:,} of {version.total:,} bytes")
    except BaseException:
        if here == 0 or version is None or not version.validator:  # a later attempt could not continue it
            _discard(partial)
        raise


def _discard(partial: Path) -> None:
    _version_file(partial).unlink(missing_ok=True)
    partial.unlink()


def _version_file(partial: Path) -> Path:
    """It is removed before the partial file: a partial file without it is not continued."""
    return partial.with_name(f"{partial.name}.json")


def _write_version(partial: Path, version: Version) -> None:
    _version_file(partial).write_text(json.dumps(version._asdict()), encoding="utf-8")


def _read_version(partial: Path) -> Version | None:
    """Return the version that the partial file belongs to; None if unknown."""
    try:
        facts = json.loads(_version_file(partial).read_text(encoding="utf-8"))
        url, validator, total = str(facts["url"]), str(facts["validator"]), facts["total"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Version(url, validator, total) if total is None or isinstance(total, int) else None
