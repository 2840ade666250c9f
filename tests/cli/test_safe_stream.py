"""A failing display loses only text: real processes with a full disk, closed pipes and limited encodings."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ddpmkit.cli import main
from ddpmkit.cli.safe_stream import SafeStream, escaped
from ddpmkit.cli.terminal import Terminal

RUN = f"{sys.executable} -m ddpmkit run {{recipe}} --out {{out}} --plugin {Path(__file__).with_name('parts.py')}"
DISPLAYS = {
    "stderr on a full disk": (RUN + " 2> /dev/full", {}),
    "both on a full disk": (RUN + " > /dev/full 2>&1", {}),
    "both closed": (RUN + " >&- 2>&-", {}),
    "the reader of stdout is gone": (f"({RUN}; echo $? > {{out}}.code) | true", {}),
    "the reader of both is gone": (f"({RUN}; echo $? > {{out}}.code) 2>&1 | true", {}),
    "ascii": (RUN, {"PYTHONIOENCODING": "ascii:strict"}),
    "latin-1": (RUN, {"PYTHONIOENCODING": "latin-1:strict"}),
}


def made(folder: Path) -> dict[str, bytes]:
    """The images of a run, and the names of its other files."""
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() if file.suffix == ".png" else b"" for name, file in files.items()}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_failing_display_loses_no_image_report_or_exit_code(recipe: Path, tmp_path: Path) -> None:
    name = tmp_path / "mänadé-猫"
    processes = {}
    for case, (command, environment) in {"healthy": (RUN, {}), **DISPLAYS}.items():
        out = name / case.replace(" ", "-")
        out.parent.mkdir(exist_ok=True)
        processes[out] = subprocess.Popen(
            ["bash", "-c", command.format(recipe=recipe, out=out)],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    healthy, *others = processes
    for out, process in processes.items():
        _, err = process.communicate(timeout=250)
        file = out.with_name(f"{out.name}.code")
        code = int(file.read_text()) if file.exists() else process.returncode
        assert (code, b"bug" in err, b"Traceback" in err) == (0, False, False), (out.name, err)
    expected = made(healthy)
    assert {"report.html", "metrics.jsonl", "recipe.lock.toml", "viz/forward.png"} <= expected.keys()
    for out in others:
        assert made(out) == expected, out.name


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", ["recipe keys", "plugins list", "--help"])
def test_a_command_that_only_prints_fails_if_nothing_can_be_printed(arguments: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m ddpmkit {arguments} > /dev/full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_characters_outside_the_encoding_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="latin-1"))
    stream = SafeStream("stdout")
    assert stream.write("käse 猫\n") == 7
    assert buffer.getvalue() == b"k\xe4se \\u732b\n"
    assert stream.failure is None


def test_a_closed_or_missing_stream_loses_only_its_text(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = SafeStream("stderr")
    monkeypatch.setattr(sys, "stderr", None)
    assert (stream.write("lost"), stream.isatty(), stream.failure) == (4, False, None)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert (stream.write("lost"), stream.isatty()) == (4, False)
    assert isinstance(stream.failure, ValueError)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("a\rb\x08\x7f\x9b1m", "a\\rb\\x08\\x7f\\x9b1m"),
        ("gnp.\u202etxt\u2066\u2029", "gnp.\\u202etxt\\u2066\\u2029"),
        ("tab\tand line\nstay, so do käse, 猫 and עברית", "tab\tand line\nstay, so do käse, 猫 and עברית"),
    ],
)
def test_control_characters_are_shown_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_names_cannot_control_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All text goes through one console: notes, errors, warnings, and the messages of click."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    evil = f"{tmp_path}/\x1b[2J\u202eevil"
    for arguments in (["sample", evil], ["recipe", "show", evil], [evil], ["run", "--plugin", evil, "x.toml"]):
        result = CliRunner().invoke(main, arguments, color=True)
        assert result.exit_code == 2
        assert "\x1b[2J" not in result.stderr
        assert "\u202e" not in result.stderr
        assert "[2J" in result.stderr.replace("\n", "")


def test_our_own_colours_are_not_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setenv("FORCE_COLOR", "1")
    Terminal().err.print("a\x1bb", style="bold red")
    assert "\x1b[1;31ma\\x1bb\x1b[0m" in written.getvalue()
