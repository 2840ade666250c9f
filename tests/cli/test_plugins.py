from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ddpmkit.cli import main

ZIG = """
from ddpmkit.plugin import Component, ComponentConfig, hookimpl

class Config(ComponentConfig):
    power: int = 2
    '''How much of it.'''
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
    """Runs `ddpmkit [-v] plugins ...` without the third parties of whoever runs the tests."""

    def run(*arguments: str, verbose: bool = False) -> Result:
        return CliRunner().invoke(main, [*(["-v"] if verbose else []), "plugins", *arguments, "--no-plugins"])

    return run


def section(output: str, title: str) -> list[str]:
    """The indented lines under a title."""
    lines = output.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(title)]
    below = lines[start + 1 :]
    return below[: next((number for number, line in enumerate(below) if not line.startswith(" ")), None)]


def test_every_kind_is_listed_with_its_components_and_where_they_come_from(plugins: Callable[..., Result]) -> None:
    output = plugins("list", "--plugin", "zig.py").output
    samplers = [line.split()[:3] for line in section(output, "sampler")]
    assert samplers[:2] == [["ancestral", "ddpmkit", "0.1.0"], ["ddim", "ddpmkit", "0.1.0"]]
    assert samplers == sorted(samplers)
    (line,) = [line for line in section(output, "loss") if "local/zig" in line]
    assert line.split() == ["local/zig", "zig.py", "a", "power"]
    assert "set aside" not in output
    assert "claimed" not in output


def test_what_was_set_aside_is_listed_with_its_reason_and_on_request_its_traceback(
    plugins: Callable[..., Result],
) -> None:
    brief, verbose = (plugins("list", "--plugin", "broken.py", verbose=verbose) for verbose in (False, True))
    assert brief.exit_code == 0
    assert section(brief.output, "set aside") == ["  local.broken (broken.py): ZeroDivisionError: division by zero"]
    assert "Traceback" not in brief.output
    assert 'broken.py", line 1, in <module>' in verbose.output


def test_a_name_claimed_twice_can_be_looked_at_and_nothing_else(plugins: Callable[..., Result]) -> None:
    both = ("--plugin", "zig.py", "--plugin", "rival.py")
    listed = plugins("list", *both)
    assert listed.exit_code == 0
    (claim,) = section(listed.output, "claimed more than once")
    assert claim == "  loss 'local/zig' is claimed by local.rival (rival.py) and by local.zig (zig.py)"
    refused = plugins("show", "cosine", *both)
    assert refused.exit_code == 2
    assert "is claimed by" in refused.output


def test_what_is_switched_off_is_listed(plugins: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPMKIT_DISABLE_PLUGINS", "ddpmkit.cosine")
    output = plugins("list").output
    assert "  ddpmkit.cosine (ddpmkit 0.1.0)" in section(output, "switched off")
    schedules = [line.split()[0] for line in section(output, "schedule")]
    assert "linear" in schedules
    assert "cosine" not in schedules


def test_a_component_is_shown_with_every_key(plugins: Callable[..., Result]) -> None:
    assert plugins("show", "ddim").output.splitlines() == [
        "sampler ddim",
        "  summary  the non-Markovian process, deterministic at eta = 0 (Song et al. 2021)",
        "  from     ddpmkit 0.1.0",
        "  target   ddpmkit_plugins.ddim.sampler:DdimSampler",
        "  api      1",
        "  keys",
        "    `eta`, a number from 0 to 1 (default 0.0)",
        "        Share of the ancestral sampler's noise that each step adds: 0 is deterministic, 1 as noisy as DDPM.",
        "    `clip_x0`, true or false (default true)",
        "        Clamp x0_hat to [-1, 1], as in ancestral sampling.",
    ]
    shown = plugins("show", "local/zig", "--plugin", "zig.py").output
    assert "  requires  sys" in shown
    assert "    `file`, a string\n        Where it is.\n" in shown
    assert plugins("show", "l1").output.endswith("  no keys\n")


def test_a_name_that_is_not_there_is_answered_with_the_nearest(plugins: Callable[..., Result]) -> None:
    for arguments in (["show", "cosin"], ["check", "cosin"]):
        done = plugins(*arguments)
        assert done.exit_code == 2
        assert "did you mean 'cosine'?" in done.output
    assert "there is no loss 'cosine'" in plugins("show", "cosine", "--kind", "loss").output


def test_the_checks_of_one_component(plugins: Callable[..., Result]) -> None:
    done = plugins("check", "cosine")
    assert done.exit_code == 0
    assert "✓ schedule cosine: manifest-without-torch" in done.output.splitlines()
    assert "✓ schedule cosine: schedule-decreasing" in done.output.splitlines()


def test_a_check_is_given_the_settings_that_the_component_needs(plugins: Callable[..., Result]) -> None:
    bare = plugins("check", "local/zig", "--plugin", "zig.py")
    assert bare.exit_code == 2
    assert "loss 'local/zig' cannot be built: file: Field required" in bare.output
    good = plugins("check", "local/zig", "--plugin", "zig.py", "--set", "file=here")
    assert good.exit_code == 0
    assert "✓ loss local/zig: loss-grows" in good.output


def test_a_check_that_fails_says_what_was_seen_and_ends_with_1(plugins: Callable[..., Result]) -> None:
    Path("bad.py").write_text(ZIG.replace("mean(dim=1)", "mean()"))
    done = plugins("check", "local/zig", "--plugin", "bad.py", "--set", "file=here")
    assert done.exit_code == 1
    assert "✗ loss local/zig: loss-shape: local/zig fails: does it give one number an image?" in done.output
    assert "✓ loss local/zig: loss-perfect" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--set", "s=0.1"], "--set needs the name"), (["cosine", "--set", "s"], "not of the form KEY=VALUE")],
)
def test_settings_that_cannot_be_meant_are_refused(
    plugins: Callable[..., Result], arguments: list[str], said: str
) -> None:
    done = plugins("check", *arguments)
    assert done.exit_code == 2
    assert said in done.output


def test_all_are_checked_that_can_be_without_settings(
    plugins: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("gone.py").write_text(
        ZIG.replace('"zig"', '"gone"').replace("        self.power", "        raise ComponentUnavailable('no zig')\n#")
        .replace("import Component,", "import Component, ComponentUnavailable,")
        .replace("    file: str\n    '''Where it is.'''\n", "")
    )  # fmt: skip
    heavy = [f"ddpmkit.{name}" for name in ("attention-unet", "clean-fid", "critters", "ancestral", "ddim")]
    monkeypatch.setenv("DDPMKIT_DISABLE_PLUGINS", ",".join(heavy))
    done = plugins("check", "--plugin", "zig.py", "--plugin", "gone.py")
    assert done.exit_code == 0, done.output
    assert "✓ schedule linear: schedule-shape" in done.output
    assert "- loss local/zig: not checked: loss 'local/zig' cannot be built: file: Field required." in done.output
    assert "- loss local/gone: not checked: no zig" in done.output
    assert "- dataset image-folder: not checked: " in done.output
    assert "- tracker wandb: checked only when named" in done.output
