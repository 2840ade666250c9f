"""Real wheels in a clean environment: ddpmkit, a stranger's package, and its broken twin."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = (ROOT, ROOT / "tests" / "third_party" / "ddpmkit-acme", ROOT / "tests" / "third_party" / "ddpmkit-broken")
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


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for package in PACKAGES:
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(package)]
        subprocess.run(command, check=True, capture_output=True)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheels: list[Path]) -> dict[str, str]:
    """An environment in which the three wheels are installed, and the heavy packages are those of the tests.

    The folder of the wheels comes first on the path, and a distribution is taken from where it is found first: the
    checkout that the tests run from is not seen.
    """
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site)]
    subprocess.run([*command, *map(str, wheels)], check=True, capture_output=True)
    return {**os.environ, "PYTHONPATH": str(site), "DDPMKIT_CACHE": str(site / "cache"), "OMP_NUM_THREADS": "1"}


def ddpmkit(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ddpmkit", *arguments]
    # Away from the checkout, whose folder would otherwise come first.
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_two_packages_and_nothing_else(wheels: list[Path]) -> None:
    (wheel,) = [path for path in wheels if path.name.startswith("ddpmkit-")]
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"ddpmkit", "ddpmkit_plugins", "ddpmkit-0.1.0.dist-info"}
    assert {"ddpmkit/py.typed", "ddpmkit_plugins/py.typed", "ddpmkit/report/page.html"} <= set(names)
    entries = zipfile.ZipFile(wheel).read("ddpmkit-0.1.0.dist-info/entry_points.txt").decode()
    assert "ddpmkit = ddpmkit.cli:main" in entries


def test_the_wheel_is_what_runs(environment: dict[str, str], tmp_path: Path) -> None:
    code = "import ddpmkit, ddpmkit_plugins; print(ddpmkit.__file__, ddpmkit_plugins.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert [path.startswith(environment["PYTHONPATH"]) for path in found.stdout.split()] == [True, True]


def test_a_strangers_component_is_listed_beside_the_built_ins_and_the_broken_one_is_named(
    environment: dict[str, str], tmp_path: Path
) -> None:
    listed = ddpmkit(environment, tmp_path, "plugins", "list")
    assert listed.returncode == 0, listed.stderr
    (line,) = [line.split() for line in listed.stdout.splitlines() if "acme/zigzag" in line]
    assert line[:3] == ["acme/zigzag", "ddpmkit-acme", "1.2.0"]
    aside = "broken.zigzag (ddpmkit-broken 0.3.0): ImportError: this plugin needs a library"
    assert aside in listed.stdout.partition("set aside")[2]


def test_a_strangers_component_passes_the_checks(environment: dict[str, str], tmp_path: Path) -> None:
    checked = ddpmkit(environment, tmp_path, "plugins", "check", "acme/zigzag")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("✓") >= 7


def test_a_strangers_component_works_in_a_recipe_and_its_broken_twin_harms_no_run(
    environment: dict[str, str], tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE.format(schedule="acme/zigzag"))
    assert ddpmkit(environment, tmp_path, "recipe", "check", "mine.toml").returncode == 0
    ran = ddpmkit(environment, tmp_path, "run", "mine.toml")
    assert ran.returncode == 0, ran.stderr
    lock = (tmp_path / "results" / "mine" / "recipe.lock.toml").read_text()
    assert 'ddpmkit-acme = "1.2.0"' in lock
    assert (tmp_path / "results" / "mine" / "report.html").exists()


def test_a_recipe_that_uses_the_broken_twin_is_refused_by_name(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE.format(schedule="broken/zigzag"))
    refused = ddpmkit(environment, tmp_path, "run", "mine.toml")
    assert refused.returncode == 2
    assert "installed but broken: broken.zigzag (ddpmkit-broken 0.3.0)" in refused.stderr
    assert not (tmp_path / "results").exists()


def test_it_can_be_left_out(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE.format(schedule="acme/zigzag"))
    assert ddpmkit(environment, tmp_path, "recipe", "check", "mine.toml", "--no-plugins").returncode == 2
