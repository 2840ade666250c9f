import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from ddpmkit.cli import main
from ddpmkit.plugin import Diagnosis

ROOT = Path(__file__).parent.parent.parent
FINE = Diagnosis("torch", "ok", "2.11.0")
HALF = Diagnosis("cache folder", "note", "/tmp/cache: little is free", ("df -h", "DDPMKIT_CACHE=/elsewhere"))
LONG = Diagnosis("plugin", "problem", "it is disabled: " + "many words " * 9 + "/a/path", ("uninstall it",), "Tb")


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `ddpmkit doctor` with these diagnoses."""

    def run(*answers: Diagnosis, arguments: tuple[str, ...] = ("doctor",)) -> Result:
        monkeypatch.setattr("ddpmkit.doctor.examine", lambda discovery: iter(answers))
        return CliRunner().invoke(main, [*arguments])

    return run


def test_each_diagnosis_is_a_line_followed_by_its_remedies(doctor: Callable[..., Result]) -> None:
    found = doctor(FINE, HALF)
    assert found.exit_code == 0
    assert found.stdout == (
        "✓ torch         2.11.0\n"
        "- cache folder  /tmp/cache: little is free\n"
        "    - df -h\n"
        "    - DDPMKIT_CACHE=/elsewhere\n"
        "\n"
        "everything works, 1 note\n"
    )
    assert found.stderr == ""
    assert doctor(FINE).stdout.endswith("\neverything works\n")


def test_a_problem_exits_1_and_verbose_shows_its_traceback(doctor: Callable[..., Result]) -> None:
    found = doctor(FINE, LONG, HALF, HALF)
    assert found.exit_code == 1
    assert found.stdout.splitlines()[1] == f"✗ plugin        {LONG.finding}"  # a pipe has no width
    assert found.stdout.endswith("\n1 problem, 2 notes\n")
    assert "Tb" not in found.stdout
    assert found.stderr == "run `ddpmkit -v doctor` to see the tracebacks\n"
    verbose = doctor(LONG, arguments=("-v", "doctor"))
    assert "    - uninstall it\n    Tb\n" in verbose.stdout
    assert verbose.stderr == ""


def test_the_results_as_json(doctor: Callable[..., Result]) -> None:
    found = doctor(HALF, LONG, arguments=("doctor", "--json"))
    assert found.exit_code == 1
    first, second = json.loads(found.stdout)
    assert first == {
        "subject": "cache folder",
        "state": "note",
        "finding": "/tmp/cache: little is free",
        "remedies": ["df -h", "DDPMKIT_CACHE=/elsewhere"],
        "details": "",
    }
    assert (second["state"], second["details"]) == ("problem", "Tb")


@pytest.mark.parametrize("width", [60, 100])
def test_findings_wrap_in_their_column_on_a_terminal(
    doctor: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    lines = click.unstyle(doctor(LONG).stdout).splitlines()
    finding = [line[10:] for line in lines[: lines.index("    - uninstall it")]]
    assert len(finding) > 1
    assert " ".join(finding) == LONG.finding
    assert all(line.startswith(" " * 10) for line in lines[1 : len(finding)])
    assert max(map(len, lines)) <= width


@pytest.fixture
def environment(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs `ddpmkit doctor --json` in another process with some packages replaced.

    Each package that is named is replaced by a folder: of the source given, or of the package's own files without
    those whose name begins with the given text. None: it is not there.
    """
    packages = tmp_path / "packages"
    packages.mkdir()
    there = {entry.name: entry for name in ("purelib", "platlib") for entry in Path(sysconfig.get_path(name)).iterdir()}

    def run(*, source: dict[str, str] | None = None, hide: tuple[str, ...] = (), strip: str = "") -> dict[str, Any]:
        for name, entry in there.items():
            if name not in (source or {}) and name.partition("-")[0] not in hide and name != strip.partition("/")[0]:
                (packages / name).symlink_to(entry)
        for name, text in (source or {}).items():
            (packages / name).mkdir()
            (packages / name / "__init__.py").write_text(text)
        if strip:
            package, _, start = strip.partition("/")
            (packages / package).mkdir()
            for entry in there[package].iterdir():
                if not entry.name.startswith(start):
                    (packages / package / entry.name).symlink_to(entry)
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WANDB"))}
        variables["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT, ROOT / "plugins", packages)))
        # -S keeps the real packages out of sight.
        call = [sys.executable, "-S", "-m", "ddpmkit", "doctor", "--json", "--no-plugins"]
        done = subprocess.run(call, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        found = {answer["subject"]: answer for answer in json.loads(done.stdout)}
        assert done.returncode == any(answer["state"] == "problem" for answer in found.values())
        return found

    return run


def test_doctor_works_without_torch(environment: Callable[..., dict[str, Any]]) -> None:
    found = environment(hide=("torch",))
    assert (found["torch"]["state"], found["torch"]["finding"]) == ("problem", "not installed")
    assert found["torch"]["remedies"] == ["pip install 'torch>=2.10' torchvision"]
    assert found["device"]["finding"] == found["torchvision"]["finding"] == "unknown, because torch does not work"
    assert found["plugins"]["state"] == "ok"
    assert found["inception"]["state"] == "note"


def test_doctor_works_with_a_torch_that_cannot_be_imported(environment: Callable[..., dict[str, Any]]) -> None:
    library = "libcudart.so.13: cannot open shared object file: No such file or directory"
    found = environment(source={"torch": f"raise OSError({library!r})"})
    assert found["torch"]["state"] == "problem"
    assert found["torch"]["finding"].endswith(f"packages/torch/__init__.py does not work: OSError: {library}")
    assert found["torch"]["remedies"] == ["pip install --force-reinstall 'torch>=2.10' torchvision"]
    assert "Traceback" in found["torch"]["details"]
    assert found["device"]["state"] == "note"


def test_a_torchvision_that_does_not_match_torch_is_named(
    environment: Callable[..., dict[str, Any]],
) -> None:
    # As with a +cpu torch and a CUDA torchvision: the library is not loaded, so its operators are missing.
    found = environment(strip="torchvision/_C")
    assert found["torch"]["state"] == "ok"
    assert found["torchvision"]["state"] == "problem"
    assert "operator torchvision::nms does not exist. The builds do not match" in found["torchvision"]["finding"]
    assert "pip install --force-reinstall torch torchvision" in found["torchvision"]["remedies"]
