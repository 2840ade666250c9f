"""Requests a file or its missing part from an HTTP server, without ever joining parts of two versions.

A download is continued only if the server identifies the version by a strong validator (RFC 9110, section 8.8): the
request then carries `If-Range`, and the response is compared with the version of the part.
"""

import contextlib
import http.client
import re
import urllib.error
import urllib.request
from datetime import timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import NamedTuple

__all__ = ["FileResponse", "Version", "request_rest"]

_NUMBER = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]+|\*)")
_STRONG_TAG = re.compile(r"(?!W/)[\x21-\x7e]+")
"""With or without quotes: some large hosts omit them."""


class Version(NamedTuple):
    """The version of a file that a server sends."""

    url: str
    validator: str
    """A strong ETag, or else the date of change; empty if the server sends neither: it cannot be continued then."""
    total: int | None
    """Bytes of the complete file; None if unknown."""


class FileResponse(NamedTuple):
    """A response whose body starts at byte `start` of the file."""

    response: http.client.HTTPResponse
    start: int
    version: Version


def request_rest(url: str, here: int, version: Version | None, timeout: float) -> FileResponse:
    """Request the file from byte `here` on if the server still has `version`, otherwise from byte 0.

    Raises OSError (including HTTPError), HTTPException or ValueError.
    """
    if here and version is not None and version.validator and version.url == url:
        with contextlib.ExitStack() as closing:
            try:
                response = _open(url, timeout, {"Range": f"bytes={here}-", "If-Range": version.validator})
            except urllib.error.HTTPError as error:
                # There are no more bytes, or the file is shorter now: only a complete download can show which.
                if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    raise
                error.close()
            else:
                closing.callback(response.close)
                start, found = _start(response), _version(url, response)
                if start == 0 or (start == here and _continues(found, version)):
                    closing.pop_all()
                    return FileResponse(response, start, found if start == 0 else version)
    response = _open(url, timeout, {})
    if _start(response) != 0:
        response.close()
        raise ConnectionError(f"the server returned HTTP {response.status} instead of the complete file")
    return FileResponse(response, 0, _version(url, response))


def _open(url: str, timeout: float, headers: dict[str, str]) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "ddpmkit", **headers})
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
    return response


def _start(response: http.client.HTTPResponse) -> int | None:
    """Return the first byte of the body by the headers of the response, not of the request; None if unknown."""
    if response.status in (None, HTTPStatus.OK):  # None: a file:// URL
        return 0
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(match[1]) if match is not None and response.status == HTTPStatus.PARTIAL_CONTENT else None


def _version(url: str, response: http.client.HTTPResponse) -> Version:
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        length = match[2] if match is not None else ""
    else:
        length = response.headers.get("Content-Length", "")
    return Version(url, _validator(response.headers), int(length) if _NUMBER.fullmatch(length) else None)


def _validator(headers: Message) -> str:
    """Return a value for `If-Range`. A weak ETag may belong to other bytes, a recent date to a file that changes."""
    if _STRONG_TAG.fullmatch(tag := headers.get("ETag", "")):
        return tag
    changed = headers.get("Last-Modified", "")
    try:
        now = parsedate_to_datetime(headers.get("Date", ""))
        return changed if now - parsedate_to_datetime(changed) >= timedelta(seconds=1) else ""
    except (TypeError, ValueError):
        return ""


def _continues(found: Version, known: Version) -> bool:
    """Return whether a partial response is of the known version: some servers ignore `If-Range`."""
    return found.validator == known.validator and found.total in (None, known.total)
