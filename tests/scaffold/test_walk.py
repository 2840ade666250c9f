"""The tutorial in docs/plugins.md works as written."""

import importlib
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ddpmkit.cli import main
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.testing import Outcome, conformance_checks
from ddpmkit.testing.conformance import rules

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
TUTORIAL = PAGE.partition("## Tutorial: a plugin in three commands\n")[2].partition("\n## ")[0]
GIVEN, WAVES, CONFIG = re.findall(r"^```python\n(.*?)^```$", TUTORIAL, flags=re.MULTILINE | re.DOTALL)
NEW, NEXT, AGAIN = re.findall(r"^```sh\n(.*?)^```$", TUTORIAL, flags=re.MULTILINE | re.DOTALL)
PACKAGE = "ddpmkit_acme_zigzag"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package that the first command of the tutorial writes, importable."""
    monkeypatch.chdir(tmp_path)
    command = NEW.split()
    assert command[0] == "ddpmkit"
    done = CliRunner().invoke(main, command[1:])
    assert done.exit_code == 0, done.output
    assert [line.strip() for line in done.output.partition("next\n")[2].splitlines()] == NEXT.splitlines()
    folder = tmp_path / "ddpmkit-acme-zigzag"
    monkeypatch.syspath_prepend(str(folder))
    yield folder / PACKAGE
    forget()


def forget() -> None:
    """Remove the package from the imported modules, as in a new process."""
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def installed(package: Path) -> None:
    """The metadata that `pip install -e` writes."""
    project = tomllib.loads((package.parent / "pyproject.toml").read_text())["project"]
    ((entry, module),) = project["entry-points"]["ddpmkit.plugins"].items()
    info = package.parent / f"{PACKAGE}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(f"[ddpmkit.plugins]\n{entry} = {module}\n")
    (info / "direct_url.json").write_text(json.dumps({"url": package.parent.as_uri(), "dir_info": {"editable": True}}))


def ddpmkit(command: str) -> Result:
    """Run a command of the tutorial, with two training steps."""
    forget()
    program, *arguments = command.split()
    assert program == "ddpmkit"
    short = ["--set", "train.steps=2"] if arguments[0] == "run" else []
    return CliRunner().invoke(main, [*arguments, *short])


@pytest.fixture
def outcomes(package: Path) -> Callable[[], list[Outcome]]:
    def check() -> list[Outcome]:
        forget()
        (component,) = importlib.import_module(PACKAGE).ddpmkit_components()
        found = FoundPlugin("acme.zigzag", PACKAGE, "ddpmkit-acme-zigzag", "0.1.0")
        return [item.outcome() for item in conformance_checks(RegisteredComponent(component, found))]

    return check


def change(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{before!r} in\n{text}"
    # Python compares size and time in seconds, so a file that is rewritten within a second would not be recompiled.
    for cached in path.parent.glob("__pycache__/*"):
        cached.unlink()
    path.write_text(text.replace(before, after))


def test_the_files_are_those_that_the_tutorial_shows(package: Path, outcomes: Callable[[], list[Outcome]]) -> None:
    for line in TUTORIAL.partition("ddpmkit-acme-zigzag/\n")[2].partition("```")[0].splitlines():
        for path in (part for part in line.split("  ") if part.strip() and ("." in part.split()[0])):
            assert (package.parent / path.strip()).is_file(), path
    assert {outcome.status for outcome in outcomes()} == {"passed"}
    assert f"`{len(rules('schedule'))} passed`" in TUTORIAL


def make_the_change(package: Path) -> None:
    """Make the changes of the tutorial."""
    without_doc = re.sub(r'\n +""".*"""', "", (package / "schedule.py").read_text())
    given, waves = (block.partition("\n")[2] for block in (GIVEN, WAVES))
    assert GIVEN in without_doc
    change(package / "schedule.py", given, waves)
    head, _, fields = CONFIG.partition("\n")
    manifest = (package / "__init__.py").read_text()
    assert head in manifest
    old_fields = manifest.partition('zigzag"`."""\n\n')[2].partition("\n\n")[0] + "\n"
    change(package / "__init__.py", old_fields, fields)


def test_the_change_of_the_tutorial_passes_and_its_failure_is_shown(
    package: Path, outcomes: Callable[[], list[Outcome]]
) -> None:
    make_the_change(package)
    assert {outcome.status for outcome in outcomes()} == {"passed"}
    change(package / "__init__.py", "default=0.5, ge=0, lt=1", "default=3, ge=0, lt=4")
    (wrong,) = [outcome for outcome in outcomes() if not outcome.good]
    shown = " ".join(TUTORIAL.split())
    for _, text in wrong.facts():
        assert text in shown


@pytest.mark.usefixtures("installed")
def test_the_commands_of_the_tutorial_work_and_the_first_run_is_not_resumed(package: Path) -> None:
    _, check, run = NEXT.splitlines()
    for command in (check, run):
        assert (done := ddpmkit(command)).exit_code == 0, done.output
    (report,) = re.findall(r"writes\s+`(.*?)`", TUTORIAL)
    assert Path(report).is_file()
    make_the_change(package)
    for command in AGAIN.splitlines():
        assert (done := ddpmkit(command)).exit_code == 0, done.output
    assert Path("results/deep/report.html").is_file()
    refused = ddpmkit(run)
    assert refused.exit_code == 2
    assert "unknown key `power` in [schedule]" in refused.stderr
    assert "ddpmkit-acme-zigzag 0.1.0" in refused.stderr
    assert "run `ddpmkit run RECIPE --out DIR` to start another run" in refused.stderr
