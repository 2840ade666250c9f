"""Where `fcntl` and `resource` do not exist, as on Windows, reading recipes and listing plugins work."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HIDE = """
import os, signal, sys, warnings
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
warnings.filterwarnings("ignore", "only soft file lock")  # filelock knows Windows by sys.platform
for module, names in ((signal, ("SIGHUP", "SIGUSR1")), (os, ("O_NONBLOCK", "O_NOFOLLOW", "fork", "getuid"))):
    for name in names:
        delattr(module, name)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"{HIDE}\n{code}"], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["recipe", "check", "recipes/quickstart.toml"],
        ["plugins", "list", "--no-plugins"],
        ["plugins", "show", "image-folder"],
    ],
    ids=" ".join,
)
def test_a_command_works_without_the_modules_of_unix(arguments: list[str]) -> None:
    done = run(f"import sys; sys.argv[1:] = {arguments}; from ddpmkit.cli import main; main()")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "module", ["ddpmkit", "ddpmkit.plugin", "ddpmkit.experiment", "ddpmkit_plugins.image_folder.dataset"]
)
def test_a_module_can_be_imported_without_the_modules_of_unix(module: str) -> None:
    done = run(f"import {module}; import ddpmkit; ddpmkit.run")
    assert done.returncode == 0, done.stderr


def test_locks_are_filelock_s_alone() -> None:
    for file in [*(ROOT / "ddpmkit").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        assert not imported & {"fcntl", "msvcrt"}, file
