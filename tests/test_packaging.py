"""The wheel, built from the source distribution."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"ddpmkit": ROOT / "ddpmkit", "ddpmkit_plugins": ROOT / "plugins" / "ddpmkit_plugins"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from the source distribution, as pip does if no wheel is compatible."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_contains_two_packages(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist()} == {*PACKAGES, "ddpmkit-0.1.0.dist-info"}


def test_the_wheel_contains_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    sources = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == sources
    # Files other than Python are easily forgotten in a build.
    assert {"ddpmkit/py.typed", "ddpmkit_plugins/py.typed", "ddpmkit/report/run_page.html"} <= sources


def test_the_command_and_every_built_in_plugin_are_entry_points(wheel: zipfile.ZipFile) -> None:
    lines = wheel.read("ddpmkit-0.1.0.dist-info/entry_points.txt").decode().splitlines()
    assert "ddpmkit = ddpmkit.cli.entry_point:start" in lines
    declared = {line.partition(" = ")[2] for line in lines if line.startswith("ddpmkit.")}
    assert declared == {
        f"ddpmkit_plugins.{path.parent.name}" for path in PACKAGES["ddpmkit_plugins"].glob("*/__init__.py")
    }


def test_the_wheel_contains_the_licence_and_the_readme(wheel: zipfile.ZipFile) -> None:
    metadata = Parser().parsestr(wheel.read("ddpmkit-0.1.0.dist-info/METADATA").decode())
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    assert "ddpmkit-0.1.0.dist-info/licenses/LICENSE" in wheel.namelist()
