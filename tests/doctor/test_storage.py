import errno
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from ddpmkit.doctor.storage import folder


def look(path: Path) -> tuple[str, str, tuple[str, ...]]:
    found = folder("here", path, remedy="go elsewhere")
    return found.state, found.finding, found.remedies


@pytest.mark.parametrize(
    ("free", "state"), [(6e9, "ok"), (4e9, "note"), (1e8, "problem")], ids=["plenty", "little", "hardly any"]
)
def test_what_is_free_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, state: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(free)))
    found = look(tmp_path)
    assert found[0] == state
    assert f"{tmp_path}, {free / 1e9:.1f} GB free" in found[1]
    assert ("go elsewhere" in found[2]) == (state != "ok")


def test_a_folder_that_is_still_to_be_made_is_looked_at_where_it_will_be_and_not_made(tmp_path: Path) -> None:
    state, finding, _ = look(tmp_path / "a" / "b")
    assert state in ("ok", "note")
    assert str(tmp_path / "a" / "b") in finding
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    state, finding, remedies = look(tmp_path / "cache" / "images")
    assert (state, finding) == ("problem", f"{tmp_path / 'cache' / 'images'} cannot be written: not a directory")
    assert remedies == (f"ls -ld {tmp_path / 'cache'}  shows whose it is", "go elsewhere")


def test_a_write_that_fails_is_a_problem_whatever_was_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> object:
        raise OSError(errno.EROFS, "Read-only file system", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert look(tmp_path)[1] == f"{tmp_path} cannot be written: read-only file system"


def test_a_write_beyond_the_limit_is_a_problem(tmp_path: Path) -> None:
    import resource
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        assert look(tmp_path)[0] == "problem"
    finally:
        signal.signal(signal.SIGXFSZ, before)
