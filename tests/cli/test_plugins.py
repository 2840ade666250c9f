import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ddpmkit.cli import main
from ddpmkit.testing import checks_text
from ddpmkit.testing.conformance import rules

ZIG = """
from ddpmkit.plugin import Component, ComponentConfig, hookimpl

class Config(ComponentConfig):
    power: int = 2
    '''The exponent.'''
    file: str
    '''Where it is.'''

class Zig:
    def __init__(self, config, *, prediction):
        self.power = config.power

    def __call__(self, prediction, target, alpha_bar):
        return (prediction - target).abs().pow(self.power).flatten(1).mean(dim=1)

@hookimpl
def ddpmkit_components():
    yield Component(
        kind="loss", name="zig", summary="a power", requires=("sys",),
        target=f"{__name__}:Zig", config=f"{__name__}:Config",
    )
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("zig.py").write_text(ZIG)
    Path("rival.py").write_text(ZIG + "\n# another file\n")
    Path("broken.py").write_text("1 / 0")
    return tmp_path


@pytest.fixture
def plugins() -> Callable[..., Result]:
    """Runs `ddpmkit [-v] plugins ...` without installed third-party plugins."""

    def run(*arguments: str, verbose: bool = False) -> Result:
        return CliRunner().invoke(main, [*(["-v"] if verbose else []), "plugins", *arguments, "--no-plugins"])

    return run


def section(output: str, title: str) -> list[str]:
    """The indented lines below a title."""
    lines = output.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(title)]
    below = lines[start + 1 :]
    return below[: next((number for number, line in enumerate(below) if not line.startswith(" ")), None)]


def test_list_shows_the_components_of_each_kind_with_their_origin(plugins: Callable[..., Result]) -> None:
    output = plugins("list", "--plugin", "zig.py").output
    samplers = [line.split()[:3] for line in section(output, "sampler")]
    assert samplers[:2] == [["ancestral", "ddpmkit", "0.1.0"], ["ddim", "ddpmkit", "0.1.0"]]
    assert samplers == sorted(samplers)
    (line,) = [line for line in section(output, "loss") if "local/zig" in line]
    assert line.split() == ["local/zig", "zig.py", "a", "power"]
    assert "failed to load" not in output
    assert "conflicts" not in output


def test_plugins_that_failed_to_load_are_listed_with_the_reason(
    plugins: Callable[..., Result],
) -> None:
    brief, verbose = (plugins("list", "--plugin", "broken.py", verbose=verbose) for verbose in (False, True))
    assert brief.exit_code == 0
    assert section(brief.output, "failed to load") == [
        "  local.broken (broken.py): ZeroDivisionError: division by zero"
    ]
    assert "Traceback" not in brief.output
    assert 'broken.py", line 1, in <module>' in verbose.output


def test_a_name_conflict_is_listed_and_every_other_command_fails(plugins: Callable[..., Result]) -> None:
    both = ("--plugin", "zig.py", "--plugin", "rival.py")
    listed = plugins("list", *both)
    assert listed.exit_code == 0
    (claim,) = section(listed.output, "name conflicts")
    assert claim == "  loss 'local/zig' is claimed by local.rival (rival.py) and by local.zig (zig.py)"
    refused = plugins("show", "cosine", *both)
    assert refused.exit_code == 2
    assert "is claimed by" in refused.output


def test_disabled_plugins_are_listed(plugins: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPMKIT_DISABLE_PLUGINS", "ddpmkit.cosine")
    output = plugins("list").output
    assert "  ddpmkit.cosine (ddpmkit 0.1.0)" in section(output, "disabled")
    schedules = [line.split()[0] for line in section(output, "schedule")]
    assert "linear" in schedules
    assert "cosine" not in schedules


def test_a_component_is_shown_with_every_key(plugins: Callable[..., Result]) -> None:
    assert plugins("show", "huber").output.splitlines() == [
        "loss huber",
        "  summary  quadratic for small errors, linear for large ones (Huber 1964)",
        "  from     ddpmkit 0.1.0",
        "  target   ddpmkit_plugins.huber.loss:HuberLoss",
        "  api      1",
        "  keys",
        "    `delta`, a number above 0 (default 1.0)",
        "        Absolute error above which the loss is linear; below it, the loss is quadratic.",
    ]
    shown = plugins("show", "local/zig", "--plugin", "zig.py").output
    assert "  requires  sys" in shown
    assert "    `file`, a string\n        Where it is.\n" in shown
    assert plugins("show", "l1").output.endswith("  no keys\n")


def test_an_unknown_component_is_an_error_with_the_closest_name(plugins: Callable[..., Result]) -> None:
    for arguments in (["show", "cosin"], ["check", "cosin"]):
        done = plugins(*arguments)
        assert done.exit_code == 2
        assert "there is no component 'cosin'" in done.output
        assert "did you mean 'cosine'?" in done.output
    assert "there is no loss 'cosine'" in plugins("show", "cosine", "--kind", "loss").output
    assert "'schedule' is a kind of component" in plugins("check", "schedule").output


def test_the_checks_of_one_component(plugins: Callable[..., Result]) -> None:
    done = plugins("check", "cosine")
    assert done.exit_code == 0
    first, *lines, empty, summary = done.output.splitlines()
    assert first == "schedule cosine  ddpmkit 0.1.0"
    assert [line.split()[:2] for line in lines] == [["✓", rule.id] for rule in rules("schedule")]
    assert {line.index(rule.requirement) for line, rule in zip(lines, rules("schedule"), strict=True)} == {36}
    assert (empty, summary) == ("", f"{len(lines)} passed")


def test_settings_for_a_check_are_given_with_set(plugins: Callable[..., Result]) -> None:
    bare = plugins("check", "local/zig", "--plugin", "zig.py")
    assert bare.exit_code == 2
    assert "settings: `file` is missing in loss `local/zig`" in bare.output
    good = plugins("check", "local/zig", "--plugin", "zig.py", "--set", "file=here")
    assert good.exit_code == 0, good.output
    assert "✓ loss.grows" in good.output


def test_checks_that_are_not_applicable_do_not_count_as_passed(plugins: Callable[..., Result]) -> None:
    done = plugins("check", "local/zig", "--plugin", "zig.py", "--set", "file=here")
    assert done.exit_code == 0
    unasked = [line.split(maxsplit=2) for line in done.output.splitlines() if line.startswith("  - ")]
    assert [(name, message.partition(": ")[0]) for _, name, message in unasked] == [
        ("manners.manifest-without-torch", "not applicable"),
        ("loss.with-bound", "not applicable"),
    ]
    assert unasked[1][2] == "not applicable: it does not provide `learned-variance`"
    assert done.output.splitlines()[-1] == f"{len(rules('loss')) - 2} passed, 2 not applicable"
    everything = plugins("check", "--kind", "loss")
    assert f"{len(rules('loss')) - 1} passed, 1 not applicable in " in everything.output
    assert "loss.with-bound" not in everything.output


@pytest.fixture
def bad() -> str:
    Path("bad.py").write_text(ZIG.replace("mean(dim=1)", "mean()"))
    return "bad.py"


def test_a_failed_check_shows_what_was_seen_and_exits_1(plugins: Callable[..., Result], bad: str) -> None:
    done = plugins("check", "local/zig", "--plugin", bad, "--set", "file=here")
    assert done.exit_code == 1
    assert section(done.output, "  ✗ loss.per-sample")[:2] == [
        "      expected  returns one loss per image, [B]",
        "      found     shape [] instead of [4] for a batch of 4, prediction epsilon",
    ]
    assert "      to fix    Average over channels and pixels" in done.output
    assert "✓ loss.zero-at-perfect" in done.output
    assert done.output.splitlines()[-1] == f"{len(rules('loss')) - 3} passed, 1 failed, 2 not applicable"


FLAT = """
import torch
from ddpmkit.plugin import Component, ComponentConfig, hookimpl

class Config(ComponentConfig):
    until: int = 2000
    '''The largest T.'''

class Flat:
    def __init__(self, config, *, timesteps):
        self.until, self.timesteps = config.until, timesteps

    def alphas_cumprod(self):
        t = torch.arange(1, self.timesteps + 1, dtype=torch.float64)
        return (1 - t / (self.until + 1)).clamp(min=1e-6)

@hookimpl
def ddpmkit_components():
    target, config = f"{__name__}:Flat", f"{__name__}:Config"
    yield Component(kind="schedule", name="flat", summary="flat", target=target, config=config)
"""


def test_the_check_that_a_schedule_error_suggests_finds_the_same_error(plugins: Callable[..., Result]) -> None:
    Path("flat.py").write_text(FLAT)
    Path("flat.toml").write_text(
        '[schedule]\nuse = "local/flat"\nuntil = 2500\n[diffusion]\ntimesteps = 3000\n'
        "[backbone]\ndim = 8\nmultipliers = [1]\nlinear_attention_levels = []\n"
    )
    assert plugins("check", "local/flat", "--plugin", "flat.py").exit_code == 0
    refused = CliRunner().invoke(main, ["run", "flat.toml", "--plugin", "flat.py"])
    assert refused.exit_code == 2
    (remedy,) = re.findall(r"  - run `ddpmkit (plugins check .*)` to see the details", refused.stderr)
    assert remedy == "plugins check local/flat --kind schedule --set until=2500 --timesteps 3000 --plugin flat.py"
    checked = CliRunner().invoke(main, shlex.split(remedy))
    assert checked.exit_code == 1
    (seen,) = section(checked.output, "  ✗ schedule.decreasing")[1:2]
    assert "steps at T = 3000, first from 1e-06 to 1e-06 at t = 2500" in seen


def test_timesteps_are_only_for_schedules(plugins: Callable[..., Result]) -> None:
    other = plugins("check", "l2", "--timesteps", "3000")
    assert other.exit_code == 2
    assert "loss 'l2' is not a schedule" in other.stderr
    assert "--timesteps needs the NAME" in plugins("check", "--timesteps", "3000").stderr


def test_an_expected_failure_is_shown_with_its_reason(plugins: Callable[..., Result], bad: str) -> None:
    arguments = ("check", "local/zig", "--plugin", bad, "--set", "file=here", "--xfail", "loss.per-sample=until 2.0")
    done = plugins(*arguments)
    assert done.exit_code == 0, done.output
    assert section(done.output, "  x loss.per-sample")[:2] == [
        "      reason    until 2.0",
        "      found     shape [] instead of [4] for a batch of 4, prediction epsilon",
    ]
    assert done.output.splitlines()[-1].endswith("1 failed as expected, 2 not applicable")
    passing = plugins(*arguments, "--xfail", "loss.grows=it never did")
    assert passing.exit_code == 1
    assert "✗ loss.grows" in passing.output
    assert "found     it passes, but was declared to fail: it never did" in passing.output


def test_printed_text_of_a_component_does_not_disturb_the_table(plugins: Callable[..., Result]) -> None:
    Path("loud.py").write_text(ZIG.replace("        return (", "        print('look at me')\n        return ("))
    done = plugins("check", "local/zig", "--plugin", "loud.py", "--set", "file=here")
    assert done.exit_code == 1
    (line,) = (line for line in done.output.splitlines() if "look at me" in line)
    assert line.startswith("      found     ")
    assert "✗ manners.silent" in done.output


RAISING = """
from ddpmkit.plugin import Component, hookimpl

class Unbuildable:
    def __init__(self, config, *, run_folder):
        raise RuntimeError(f"cannot use {run_folder}")

class Uncallable:
    def __init__(self, config, *, prediction): ...

    def __call__(self, prediction, target, alpha_bar):
        raise KeyError("scale")

@hookimpl
def ddpmkit_components():
    yield Component(kind="tracker", name="unbuildable", summary="", target=f"{__name__}:Unbuildable")
    yield Component(kind="loss", name="uncallable", summary="", target=f"{__name__}:Uncallable")
"""


@pytest.mark.parametrize(("name", "repeated"), [("unbuildable", 0), ("uncallable", 8)])
def test_a_traceback_is_shown_once(plugins: Callable[..., Result], name: str, repeated: int) -> None:
    """The tracker cannot be built, and its message differs each time; the loss fails in every check."""
    Path("raising.py").write_text(RAISING)
    done = CliRunner().invoke(main, ["-v", "plugins", "check", f"local/{name}", "--plugin", "raising.py"])
    assert done.exit_code == 1
    assert done.output.count("Traceback (most recent call last)") == 1
    assert done.output.count("      traceback as above") == repeated


@pytest.fixture
def raising() -> str:
    """A loss that needs no settings and cannot be built."""
    bare = ZIG.replace("    file: str\n    '''Where it is.'''\n", "")
    Path("raising.py").write_text(bare.replace("self.power = config.power", "self.power = config.pow"))
    return "raising.py"


def test_an_error_in_the_constructor_is_shown_with_its_place(plugins: Callable[..., Result], raising: str) -> None:
    done = plugins("check", "local/zig", "--plugin", raising)
    assert done.exit_code == 1
    raised = "AttributeError: 'Config' object has no attribute 'pow', raised at raising.py:10 in __init__"
    message = f"it cannot be built: {raised}"
    assert f"      found     {message}" in section(done.output, "  ? manners.no-global-rng")
    assert done.output.count(message) == 1
    assert "  ? loss.grows" in done.output
    assert "Traceback" not in done.output
    assert "not checked" in done.output.splitlines()[-1]
    assert "Traceback" in plugins("check", "local/zig", "--plugin", raising, verbose=True).output


def test_a_component_that_could_not_be_checked_exits_1(plugins: Callable[..., Result], raising: str) -> None:
    done = plugins("check", "--kind", "loss", "--plugin", raising)
    assert done.exit_code == 1
    assert next(line for line in done.output.splitlines() if "local/zig" in line).startswith("? loss")
    assert "1 not checked" in done.output


def test_an_import_error_is_shown_once(plugins: Callable[..., Result]) -> None:
    Path("gone.py").write_text(ZIG.replace(':Zig"', ':Zag"').replace("    file: str\n    '''Where it is.'''\n", ""))
    done = plugins("check", "local/zig", "--plugin", "gone.py")
    assert done.exit_code == 1
    assert "failed with AttributeError" in done.output
    assert "✗" not in done.output
    everything = plugins("check", "--kind", "loss", "--plugin", "gone.py")
    assert everything.exit_code == 1
    (line,) = (line for line in everything.output.splitlines() if "local/zig" in line)
    assert line.startswith("✗ loss")
    assert "failed with AttributeError" in line


def test_the_list_of_checks_is_the_documentation_page(plugins: Callable[..., Result]) -> None:
    assert plugins("check", "--list").output == checks_text()
    assert plugins("check", "--list", "--kind", "loss").output == checks_text(["loss"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "s=0.1"], "--set needs the NAME"),
        (["--xfail", "schedule.snr=because"], "--xfail needs the NAME"),
        (["cosine", "--set", "s"], "not of the form KEY=VALUE"),
        (["cosine", "--set", "s=-1"], "`s` in schedule `cosine` must be a number of at least 0"),
        (["cosine", "--set", "ss=1"], "did you mean `s`"),
        (["cosine", "--set", "s.t=1"], "`s` in schedule `cosine` must be a number"),
        (["cosine", "--xfail", "schedule.snr"], "not of the form ID=REASON"),
        (["cosine", "--xfail", "schedule.snr="], "xfail of schedule.snr has no reason"),
        (["cosine", "--xfail", "schedule.sn=because"], "did you mean 'schedule.snr'?"),
    ],
)
def test_invalid_options_exit_2(plugins: Callable[..., Result], arguments: list[str], message: str) -> None:
    done = plugins("check", *arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_all_components_without_required_settings_are_checked(
    plugins: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("gone.py").write_text(
        ZIG.replace('"zig"', '"gone"').replace("        self.power", "        raise ComponentUnavailable('no zig')\n#")
        .replace("import Component,", "import Component, ComponentUnavailable,")
        .replace("    file: str\n    '''Where it is.'''\n", "")
    )  # fmt: skip
    heavy = ("adm-unet", "attention-unet", "clean-fid", "critters", "diffusers-unet", "dit", "heun", "unipc")
    monkeypatch.setenv("DDPMKIT_DISABLE_PLUGINS", ",".join(f"ddpmkit.{name}" for name in heavy))
    done = plugins("check", "--plugin", "zig.py", "--plugin", "gone.py")
    assert done.exit_code == 0, done.output
    lines = {" ".join(line.split()[:3]): line for line in done.output.splitlines()}
    assert f"{len(rules('schedule'))} passed in " in lines["✓ schedule linear"]
    assert "`file` is missing in loss `local/zig`" in lines["- loss local/zig"]
    assert lines["- loss local/gone"].endswith("not available here: no zig")
    assert "- dataset image-folder" in lines
    assert lines["- tracker wandb"].endswith("it may publish what it receives, so it is checked only when named")
    totals = lines[next(name for name in lines if "components:" in name)]
    assert "skipped" in totals
    assert "not checked" not in totals


def test_all_components_of_a_kind_are_checked(plugins: Callable[..., Result]) -> None:
    kinds = {
        line.split()[1] for line in plugins("check", "--kind", "schedule").output.splitlines() if "passed in" in line
    }
    assert kinds == {"schedule"}


def test_new_writes_a_package_and_prints_the_next_commands(plugins: Callable[..., Result], folder: Path) -> None:
    done = CliRunner().invoke(main, ["plugins", "new", "acme/zigzag", "--kind", "schedule"])
    assert done.exit_code == 0, done.output
    written = [
        str(path.relative_to(folder)) for path in Path("ddpmkit-acme-zigzag").resolve().rglob("*") if path.is_file()
    ]
    assert section(done.output, "schedule acme/zigzag") == [f"  {path}" for path in sorted(written)]
    assert section(done.output, "next") == [
        "  pip install -e './ddpmkit-acme-zigzag[test]'",
        "  ddpmkit plugins check acme/zigzag --kind schedule",
        "  ddpmkit run ddpmkit-acme-zigzag/example.toml",
    ]
    again = CliRunner().invoke(main, ["plugins", "new", "acme-zigzag", "--kind", "loss"])
    assert again.exit_code == 2
    assert "ddpmkit-acme-zigzag is not empty" in again.output
    elsewhere = CliRunner().invoke(main, ["plugins", "new", "acme/zigzag", "--kind", "loss", "--out", "my loss"])
    assert elsewhere.exit_code == 0
    assert "  pip install -e './my loss[test]'" in elsewhere.output
    assert "  ddpmkit run 'my loss/example.toml'" in elsewhere.output
    assert Path("my loss/ddpmkit_acme_zigzag/loss.py").is_file()


def test_an_invalid_name_is_an_error_and_nothing_is_written() -> None:
    before = sorted(Path().iterdir())
    for name in ("zigzag", "ddpmkit/zigzag", "Acme/zigzag", "acme/zig_zag", "../x/y"):
        done = CliRunner().invoke(main, ["plugins", "new", name, "--kind", "loss"])
        assert done.exit_code == 2
        assert done.output.startswith("error: ")
        assert "\n  - " in done.output
    assert sorted(Path().iterdir()) == before


COMMANDS = """
import click
from ddpmkit.plugin import hookimpl

@hookimpl
def ddpmkit_commands():
    yield click.Command("zigzag", help="Go this way and that.")
    yield click.Command("run", help="Run away.")
"""
DIAGNOSIS = """
from ddpmkit.plugin import hookimpl

@hookimpl
def ddpmkit_diagnoses():
    yield "acme.diagnosis:weights"
"""


@pytest.fixture
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed distribution with commands."""
    Path("acme_commands.py").write_text(COMMANDS)
    Path("ddpmkit_acme-1.0.dist-info").mkdir()
    Path("ddpmkit_acme-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: ddpmkit-acme\nVersion: 1.0\n")
    Path("ddpmkit_acme-1.0.dist-info/entry_points.txt").write_text("[ddpmkit.plugins]\nacme.zig = acme_commands\n")
    monkeypatch.syspath_prepend(str(folder))
    yield
    del sys.modules["acme_commands"]


@pytest.mark.usefixtures("installed")
def test_commands_and_diagnoses_of_plugins_are_listed() -> None:
    Path("half.py").write_text(DIAGNOSIS)
    output = CliRunner().invoke(main, ["plugins", "list", "--plugin", "half.py"]).stdout
    assert section(output, "command")[0].split(maxsplit=3) == ["zigzag", "ddpmkit-acme", "1.0", "Go this way and that."]
    assert ["local.half", "half.py", "acme.diagnosis:weights"] in [
        line.split() for line in section(output, "diagnosis")
    ]


@pytest.mark.usefixtures("installed")
def test_a_command_whose_name_is_taken_is_listed_and_triggers_a_warning() -> None:
    message = "command 'run' of plugin acme.zig (ddpmkit-acme 1.0) is rejected: the name is taken by ddpmkit itself"
    assert f"  {message}" in section(CliRunner().invoke(main, ["plugins", "list"]).stdout, "rejected")
    assert CliRunner().invoke(main, ["plugins", "show", "cosine"]).stderr.count(f"warning: {message}\n") == 1


def test_a_command_of_a_plugin_file_is_rejected(plugins: Callable[..., Result]) -> None:
    Path("commands.py").write_text(COMMANDS)
    output = plugins("list", "--plugin", "commands.py").stdout
    assert "command 'zigzag' of plugin local.commands (commands.py) is rejected: only installed plugins" in output
    assert "\ncommand\n" not in output


def test_an_unknown_plugin_in_the_list_of_disabled_ones_is_named_with_the_closest(
    plugins: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDPMKIT_DISABLE_PLUGINS", "ddpmkit.cosin, local.zig, ddpmkit.linear")
    message = "DDPMKIT_DISABLE_PLUGINS contains 'ddpmkit.cosin', but no such plugin is installed"
    assert section(plugins("list").stdout, "not disabled") == [f"  {message}; did you mean ddpmkit.cosine?"]
    assert plugins("show", "cosine").stderr.startswith(f"warning: {message}")
    monkeypatch.setenv("DDPMKIT_DISABLE_PLUGINS", "zzz")
    assert "run `ddpmkit plugins list` to see what is installed" in plugins("show", "cosine").stderr
