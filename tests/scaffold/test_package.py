"""A generated package of each kind, built, installed and used as by its author."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpmkit.contracts import KINDS
from ddpmkit.errors import InputError
from ddpmkit.plugin.finder import find_plugins
from ddpmkit.scaffold import PluginName, write_package
from ddpmkit.testing.conformance import rules

ROOT = Path(__file__).parents[2]
NAMES = {
    "schedule": "acme/zigzag", "backbone": "my-lab/small-net", "loss": "acme/class", "sampler": "lambda/zigzag",
    "metric": "acme/greys", "dataset": "acme/discs-and-stripes", "tracker": "acme/diary",
}  # fmt: skip
"""Names of one and of several words, and Python keywords, which must not become identifiers."""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One package of each kind."""
    folder = tmp_path_factory.mktemp("packages")
    for kind, name in NAMES.items():
        write_package(PluginName.parse(name), kind, folder / kind)
    return folder


@pytest.fixture(scope="module")
def run(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs a Python module with these packages and the built-in plugins installed."""
    site = tmp_path_factory.mktemp("site")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--target")
    install = [sys.executable, "-m", "pip", "install", *options, str(site), *(str(packages / kind) for kind in KINDS)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    others = ",".join(plugin.entry_name for plugin in find_plugins() if plugin.third_party)
    ours = {
        "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "DDPMKIT_CACHE": str(site / "cache"),
        "DDPMKIT_DISABLE_PLUGINS": others,
    }  # fmt: skip
    work = tmp_path_factory.mktemp("work")

    def command(*arguments: str | Path, without_built_ins: bool = False) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", *map(str, arguments)]
        environment = {**os.environ, **ours}
        if without_built_ins:
            environment["DDPMKIT_DISABLE_PLUGINS"] = f"ddpmkit,{others}"
        return subprocess.run(call, cwd=work, env=environment, capture_output=True, text=True, check=False)

    return command


@pytest.mark.slow
def test_the_generated_tests_pass_for_every_kind(packages: Path, run: Command) -> None:
    # One process for all kinds: importing torch seven times takes longer than all checks.
    folders = [packages / kind / "tests" for kind in KINDS]
    done = run("pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "--import-mode=importlib", *folders)
    assert done.returncode == 0, done.stdout
    # Checks of capabilities that are not provided are skipped.
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|skipped)", done.stdout)}
    assert sum(counts.values()) == sum(len(rules(kind)) for kind in KINDS)
    assert counts.get("skipped", 0) < 5


@pytest.mark.slow
def test_plugins_check_passes_for_every_kind(run: Command) -> None:
    done = run("ddpmkit", "plugins", "check", without_built_ins=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for kind in KINDS:
        (line,) = (line for line in done.stdout.splitlines() if f" {NAMES[kind]} " in line)
        assert line.startswith("-" if kind == "tracker" else "✓")
        assert f"ddpmkit-{NAMES[kind].replace('/', '-')} 0.1.0" in line
    assert "7 components: 6 passed, 1 skipped" in done.stdout


@pytest.mark.slow
def test_the_generated_recipes_are_valid_and_run(packages: Path, run: Command) -> None:
    recipes = [packages / kind / "example.toml" for kind in KINDS]
    checked = run("ddpmkit", "recipe", "check", *recipes)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": ok (") == len(KINDS)
    # One run with all components: the recipe of a kind sets what the other recipes leave at the default.
    parts = {kind: NAMES[kind] for kind in ("schedule", "backbone", "loss", "sampler")} | {"data": NAMES["dataset"]}
    changes = [f"--set={section}.use={name}" for section, name in parts.items()]
    few = ("--set=train.steps=2", "--set=train.batch_size=2", "--set=metric=[{use='acme/greys', num_samples=2}]")
    done = run("ddpmkit", "run", packages / "tracker" / "example.toml", *changes, *few, "--out", packages / "results")
    assert done.returncode == 0, done.stderr
    diary = (packages / "results" / "acme-diary.txt").read_text().splitlines()
    assert diary[0].startswith("run ")
    assert any("acme/greys grey_levels" in line for line in diary)
    assert diary[-1] == "finished at step 2"


def test_the_generated_code_passes_ruff(packages: Path, run: Command) -> None:
    for kind in KINDS:
        src = f"src=['{packages / kind}']"
        for command in (["format", "--check"], ["check", "--select", "E,F,W,I,B,UP,SIM,RUF,C4,PT,PTH,RET,N"]):
            done = run("ruff", *command, "--isolated", "--config", src, "--line-length", "120", packages / kind)
            assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_overwritten(kind: str, tmp_path: Path) -> None:
    name = PluginName.parse("acme/zigzag")
    (tmp_path / "package" / ".git").mkdir(parents=True)
    write_package(name, kind, tmp_path / "package")
    readme = tmp_path / "package" / "README.md"
    readme.write_text("mine")
    with pytest.raises(InputError, match=r"is not empty \(.gitignore, README.md, ddpmkit_acme_zigzag ...\)"):
        write_package(name, kind, tmp_path / "package")
    assert readme.read_text() == "mine"
    with pytest.raises(InputError, match="is a file, not a folder"):
        write_package(name, kind, readme)
