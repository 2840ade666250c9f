"""Commands and a run work without `fcntl`, `resource` and other Unix-only modules and calls, as on Windows."""

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
warnings.filterwarnings("ignore", "only soft file lock")  # filelock detects Windows by sys.platform
for module, names in (
    (signal, ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGKILL", "SIGQUIT", "SIGPIPE", "SIGCHLD", "SIGWINCH")),
    (signal, ("alarm", "setitimer", "pause", "sigwait", "pthread_kill", "pthread_sigmask")),
    (os, ("O_NONBLOCK", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "fork", "killpg", "setsid", "getuid", "getpgid")),
    (os, ("pread", "pwrite", "preadv", "pwritev", "mkfifo", "mknod", "fchmod", "fchown", "chown", "lchown", "sync")),
):
    for name in names:
        delattr(module, name)
"""
SYNC = """
import fcntl, os
def fsync(handle, fsync=os.fsync, fcntl=fcntl.fcntl, get=fcntl.F_GETFL):
    if fcntl(handle, get) & os.O_ACCMODE == os.O_RDONLY and os.path.isfile(f"/proc/self/fd/{handle}"):
        raise OSError(9, "Windows syncs no file that is open for reading alone")
    fsync(handle)
os.fsync = fsync
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


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
def test_a_command_works_without_unix_modules(arguments: list[str]) -> None:
    done = run(HIDE + f"import sys; sys.argv[1:] = {arguments}; from ddpmkit.cli import main; main()")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_and_its_resume_work_without_unix_only_calls(tmp_path: Path) -> None:
    data = ["data.use=critters", "data.size=4", "data.val_size=1", "data.image_size=8", "diffusion.timesteps=4"]
    settings = [*data, "backbone.use=attention-unet", "backbone.dim=8", "train.batch_size=2"]
    options = ["--out", str(tmp_path / "run"), *(word for setting in settings for word in ("--set", setting))]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("")
    code = f"""
from ddpmkit.cli import main
for steps in (1, 2):
    main(["run", {str(recipe)!r}, *{options}, "--set", f"train.steps={{steps}}"], standalone_mode=False)
"""
    done = run(SYNC + HIDE + code)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted((tmp_path / "run" / "checkpoints").iterdir())][-1] == "step-00000002"
    assert (tmp_path / "run" / "report.html").exists()
    assert not list((tmp_path / "run").rglob(".*.partial"))


@pytest.mark.parametrize(
    "module", ["ddpmkit", "ddpmkit.plugin", "ddpmkit.experiment", "ddpmkit_plugins.image_folder.dataset"]
)
def test_a_module_can_be_imported_without_unix_modules(module: str) -> None:
    done = run(HIDE + f"import {module}; import ddpmkit; ddpmkit.run")
    assert done.returncode == 0, done.stderr


def test_only_filelock_is_used_for_locks() -> None:
    for file in [*(ROOT / "ddpmkit").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        assert not imported & {"fcntl", "msvcrt"}, file
