"""Fast commands and light modules import no heavy package."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "wandb", "PIL", "scipy", "cleanfid", "diffusers", "datasets", "tensorboard")
ROOT = Path(__file__).parent.parent


def imported(code: str) -> set[str]:
    """The heavy packages that `code` imports, in a new process."""
    report = f"import sys; sys.stderr.write('|' + ' '.join(name for name in {HEAVY} if name in sys.modules))"
    script = f"import contextlib\nwith contextlib.suppress(SystemExit):\n    {code}\n{report}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stderr.rpartition("|")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["doctor", "--help"],
        ["data", "check", "--help"],
        ["plugins", "list"],
        ["plugins", "show", "attention-unet"],
        ["recipe", "check", "recipes/quickstart.toml"],
        ["recipe", "check", "recipes/afhq_cat.toml"],
        ["recipe", "show", "recipes/afhq_cat.toml", "--origins"],
        ["run", "recipes/quickstart.toml", "--set", "schedule.use=cosin"],
    ],
    ids=" ".join,
)
def test_a_quick_command_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported(f"import sys; sys.argv[1:] = {arguments}; from ddpmkit.cli import main; main()") == set()


@pytest.mark.parametrize(
    "code", ["import ddpmkit", "import ddpmkit.plugin", "import ddpmkit.contracts", "import ddpmkit.recipe"]
)
def test_a_light_module_imports_nothing_heavy(code: str) -> None:
    assert imported(code) == set()


def test_no_manifest_and_no_config_imports_anything_heavy() -> None:
    code = (
        "from ddpmkit.plugin.discovery import discover; found = discover(third_party=False); "
        "models = [entry.config_model() for entry in found.components]; "
        "assert len(models) > 10 and not found.broken"
    )
    assert imported(code) == set()


def test_a_heavy_import_is_detected() -> None:
    assert "torch" in imported("import ddpmkit.diffusion")
