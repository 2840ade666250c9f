"""Real wheels in a clean environment: ddpmkit, a third-party plugin, a broken plugin, and the example plugin."""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
THIRD_PARTY = ROOT / "tests" / "third_party"
EXAMPLE = ROOT / "docs" / "example-plugin"
PACKAGES = (ROOT, THIRD_PARTY / "ddpmkit-acme", THIRD_PARTY / "ddpmkit-broken", EXAMPLE)
RECIPE = """
[data]
image_size = 8
size = 4
val_size = 1
[diffusion]
timesteps = 4
[schedule]
use = "{schedule}"
[backbone]
dim = 8
[sampler]
count = 2
[train]
steps = 2
batch_size = 2
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


def checked(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with these wheels, and the other packages of the environment that runs the tests.

    A path file adds those packages, after the environment's own. Path files in the added folder are not read, so an
    editable install of ddpmkit is not visible.
    """
    wheels, environment = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("environment")
    for package in PACKAGES:
        checked(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", wheels, package)
    checked(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    site = checked(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    checked(
        *(sys.executable, "-m", "pip", "--python", python, "--quiet", "install", "--no-deps", "--no-index"),
        *sorted(wheels.glob("*.whl")),
    )
    packages = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (Path(site) / "packages.pth").write_text("\n".join(packages))
    return environment


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Command:
    """Runs a program of the environment in a temporary folder."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DDPMKIT"))}
    variables |= {"OMP_NUM_THREADS": "1", "DDPMKIT_CACHE": str(tmp_path / "cache")}

    def command(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        call = [str(environment / "bin" / program), *arguments]
        return subprocess.run(call, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    return command


def test_the_packages_are_imported_from_the_wheels(environment: Path, run: Command) -> None:
    code = (
        "import ddpmkit, ddpmkit_plugins, ddpmkit_acme, importlib.metadata as metadata;"
        "print(*(package.__file__ for package in (ddpmkit, ddpmkit_plugins, ddpmkit_acme)));"
        "print(metadata.distribution('ddpmkit').locate_file(''))"
    )
    found = run("python", "-c", code).stdout.split()
    assert len(found) == 4
    assert all(path.startswith(str(environment)) for path in found)


def test_a_third_party_component_is_listed_and_a_broken_plugin_is_named(run: Command) -> None:
    listed = run("ddpmkit", "plugins", "list")
    assert listed.returncode == 0, listed.stderr
    usable, _, failed = listed.stdout.partition("failed to load")
    (line,) = [line.split() for line in usable.splitlines() if "acme/zigzag" in line]
    assert line[:3] == ["acme/zigzag", "ddpmkit-acme", "1.2.0"]
    assert "cosine" in usable
    assert "broken.zigzag (ddpmkit-broken 0.3.0): ImportError: this plugin needs a library" in failed


def test_a_third_party_component_shows_its_keys(run: Command) -> None:
    shown = run("ddpmkit", "plugins", "show", "acme/zigzag")
    assert shown.returncode == 0, shown.stderr
    assert "`depth`, a number of at least 0 and below 1 (default 0.5)" in shown.stdout
    assert "Depth of the waves in log alpha_bar; 0 is exponential decay." in shown.stdout


def test_a_third_party_component_passes_the_checks(run: Command) -> None:
    checks = run("ddpmkit", "plugins", "check", "acme/zigzag")
    assert checks.returncode == 0, checks.stdout + checks.stderr
    assert "✓ schedule.decreasing" in checks.stdout


def test_a_third_party_component_works_in_a_recipe_and_a_broken_plugin_affects_no_run(
    run: Command, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE.format(schedule="acme/zigzag"))
    good = run("ddpmkit", "recipe", "check", "mine.toml")
    assert good.returncode == 0, good.stderr
    ran = run("ddpmkit", "run", "mine.toml")
    assert ran.returncode == 0, ran.stderr
    assert (
        "plugin broken.zigzag (ddpmkit-broken 0.3.0) failed to load: run `ddpmkit plugins list` to see the reason\n"
        in ran.stderr
    )
    lock = (tmp_path / "results" / "mine" / "recipe.lock.toml").read_text()
    assert 'use = "acme/zigzag"' in lock
    assert 'ddpmkit-acme = "1.2.0"' in lock
    assert (tmp_path / "results" / "mine" / "report.html").exists()


def test_a_recipe_that_uses_a_broken_plugin_is_rejected(run: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE.format(schedule="broken/zigzag"))
    for command in (["recipe", "check"], ["run"]):
        refused = run("ddpmkit", *command, "mine.toml")
        assert refused.returncode == 2
        assert "failed to load: broken.zigzag (ddpmkit-broken 0.3.0): ImportError" in refused.stderr
        assert refused.stderr.count("ImportError") == 1
    assert not (tmp_path / "results").exists()


def test_a_third_party_component_can_be_disabled(run: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE.format(schedule="acme/zigzag"))
    refused = run("ddpmkit", "recipe", "check", "mine.toml", "--no-plugins")
    assert refused.returncode == 2
    assert "installed but disabled: acme.zigzag (ddpmkit-acme 1.2.0)" in refused.stderr
    assert "broken" not in refused.stderr


def test_the_example_plugin_passes_its_own_tests(run: Command) -> None:
    tests = run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "tests"))
    assert tests.returncode == 0, tests.stdout + tests.stderr


def test_the_example_plugin_evaluates_a_run_that_requires_it(run: Command, tmp_path: Path) -> None:
    asked = "[requires]\nplugins = ['ddpmkit-fd-efficientnet>=0.1']\n" + RECIPE.format(schedule="cosine")
    (tmp_path / "mine.toml").write_text(asked + "[[metric]]\nuse = 'efficientnet/fd'\nnum_samples = 4\n")
    ran = run("ddpmkit", "run", "mine.toml")
    assert ran.returncode == 0, ran.stderr
    records = map(json.loads, (tmp_path / "results" / "mine" / "metrics.jsonl").read_text().splitlines())
    (scored,) = [record for record in records if record["event"] == "scores"]
    assert scored["values"]["fd"] > 0
    assert scored["facts"]["extractor SHA-256"].startswith("57934424")


def test_the_ablation_recipe_works_with_the_example_plugin(run: Command) -> None:
    planned = run("ddpmkit", "sweep", str(ROOT / "recipes" / "ablation_cat.toml"), "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "01-unchanged" in planned.stdout
