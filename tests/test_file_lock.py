import errno
import logging
import os
import threading
from pathlib import Path

import filelock
import pytest

from ddpmkit.file_lock import lock_file, wait_for_lock


def test_a_free_file_is_locked_without_a_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (tmp_path / "file").open("w") as first, (tmp_path / "file").open("w") as second:
        wait_for_lock(first.fileno(), tmp_path / "file")
        assert not filelock.lock_descriptor(second.fileno(), blocking=False)
    assert caplog.records == []


def test_a_file_that_cannot_be_locked_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_arguments: object, **_keys: object) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock, "lock_descriptor", no_locks)
    with caplog.at_level(logging.WARNING), (tmp_path / "file").open("w") as file:
        wait_for_lock(file.fileno(), tmp_path / "file")
    assert f"{tmp_path / 'file'} cannot be locked (No locks available)" in caplog.text


def test_a_lock_file_admits_one_at_a_time_and_is_removed(tmp_path: Path) -> None:
    path, events = tmp_path / ".lock", []

    def use(name: str) -> None:
        with lock_file(path, path):
            events.append(f"{name} starts")
            if name == "first":
                others[0].start()
                others[0].join(0.3)
            events.append(f"{name} ends")

    others = [threading.Thread(target=use, args=("second",))]
    use("first")
    others[0].join()
    assert events == ["first starts", "first ends", "second starts", "second ends"]
    assert list(tmp_path.iterdir()) == []
