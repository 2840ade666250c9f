import subprocess
import sys
from pathlib import Path

import pytest

from ddpmkit.errors import InputError
from ddpmkit.rundir import RunFolder


def test_samples_of_later_steps_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.samples(1).parent.mkdir()
    for step in (1, 2, 3):
        folder.samples(step).write_bytes(b"png")
    folder.forget_samples_after(2)
    assert [folder.samples(step).exists() for step in (1, 2, 3)] == [True, True, False]


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="cannot be written") as caught:
        RunFolder(tmp_path / "taken").create()
    assert "--out" in str(caught.value)


HOLD = """
import sys, time
from pathlib import Path
from ddpmkit.rundir import RunFolder
with RunFolder(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_who_holds_the_folder_until_that_one_is_killed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"process {other.pid} on .*, since 20") as caught, folder.held():
            pass
        assert "--out" in str(caught.value)
        other.kill()
    with folder.held():
        pass


def test_a_folder_let_go_of_can_be_held_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for _ in range(2):
        with folder.held():
            assert (tmp_path / ".holder.json").exists()
    assert not (tmp_path / ".holder.json").exists()
    with pytest.raises(ZeroDivisionError), folder.held():
        _ = 1 / 0
    with folder.held():
        pass
