import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpmkit.errors import InputError, PluginError
from ddpmkit.interrupts import own_sigint_handler
from ddpmkit.plugin.discovery import Discovery, discover
from ddpmkit.plugin.loader import BrokenPlugin

GOOD = """
from ddpmkit.plugin import Component, hookimpl

@hookimpl
def ddpmkit_components():
    yield Component(kind="loss", name="zig", target="acme_good:Zig", summary="a loss")
    yield Component(kind="loss", name="alpha", target="acme_good:Zig", summary="another")

class Zig:
    def __init__(self, config, *, prediction): ...
"""


def broken(found: Discovery, entry: str) -> BrokenPlugin:
    (broken,) = [broken for broken in found.broken if broken.plugin.entry_name == entry]
    return broken


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise ValueError('on two' + chr(10) + '  lines')", "ValueError: on two lines"),
        (
            GOOD.replace("    yield Component", "    1 / 0\n    yield Component", 1),
            "ZeroDivisionError: division by zero",
        ),
        (
            GOOD.replace("def ddpmkit_components()", "def ddpmkit_components(config)"),
            "Argument(s) {'config'} are declared in the hookimpl but can not be found in the hookspec",
        ),
        (GOOD.replace('kind="loss", name="zig"', 'kind="lossy", name="zig"'), "unknown kind 'lossy'"),
        (GOOD.replace('name="zig"', 'name="Zig Zag"'), "lower-case words joined by hyphens"),
        (
            GOOD.replace('name="zig"', 'name="zig", api=99'),
            "requires api 99, but this ddpmkit supports api 1: update ddpmkit",
        ),
        (GOOD.replace('name="zig"', 'name="zig", api=0'), "update the plugin"),
        (GOOD.replace('name="zig"', 'name="zig", colour="red"'), "unexpected keyword argument 'colour'"),
        (GOOD.replace("acme_good:Zig", "acme_good.Zig"), "not of the form"),
        (GOOD.replace('name="zig"', 'name="zig", requires="wandb"'), "requires must be a tuple of strings"),
        (
            GOOD.replace('name="zig"', 'name="zig", requires=("PIL.Image",)'),
            "'PIL.Image', which is not a top-level module",
        ),
    ],
)
def test_a_plugin_that_raises_is_broken_with_a_traceback_and_affects_no_other(
    distribution: Any, source: str, reason: str
) -> None:
    broken = broken_next_to_another(distribution, source)
    assert reason in broken.reason
    assert "\n" not in broken.reason
    assert "Traceback" in broken.traceback


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit('late')", "GeneratorExit: late"),
        (
            "class Mute(BaseException):\n def __str__(self): raise SystemExit(0)\nraise Mute",
            "Mute: (its text cannot be shown: SystemExit)",
        ),
        (
            GOOD.replace("    yield Component", "    raise KeyboardInterrupt\n    yield Component", 1),
            "KeyboardInterrupt",
        ),
    ],
)
def test_a_plugin_that_raises_any_base_exception_is_broken(distribution: Any, source: str, reason: str) -> None:
    with own_sigint_handler():  # as in every command: otherwise a KeyboardInterrupt counts as Ctrl-C
        broken = broken_next_to_another(distribution, source)
    assert broken.reason == reason


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            GOOD.replace("def ddpmkit_components", "def ddpmkit_component"),
            "ddpmkit_component is not a hook of ddpmkit; did you mean ddpmkit_components?",
        ),
        (
            GOOD.replace("def ddpmkit_components", "def ddpmkit_xyz"),
            "ddpmkit_xyz is not a hook of ddpmkit; hooks are ddpmkit_components, ddpmkit_commands, ddpmkit_diagnoses",
        ),
        (
            GOOD.replace("def ddpmkit_components", "def dpmkit_components"),
            "dpmkit_components is not a hook of ddpmkit; did you mean ddpmkit_components?",
        ),
        (GOOD.replace("@hookimpl", ""), "ddpmkit_components lacks the @hookimpl marker"),
        (
            GOOD.replace("    yield Component", '    yield "cosine"\n    yield Component', 1),
            "ddpmkit_components yielded 'cosine', which is not a Component",
        ),
        (
            GOOD.replace("def ddpmkit_components", "def ddpmkit_commands").replace("yield Component(", "yield dict("),
            "which is not a Command",
        ),
        (
            GOOD.replace("def ddpmkit_components", "def ddpmkit_diagnoses").replace("yield Component(", "yield dict("),
            "which is not a str",
        ),
        (
            "from ddpmkit.plugin import hookimpl\n@hookimpl\ndef ddpmkit_diagnoses(): yield 'acme_good.half'",
            "ddpmkit_diagnoses yielded 'acme_good.half', not 'package.module:function'",
        ),
        (GOOD.replace('"alpha"', '"zig"'), "it declares the loss 'zig' 2 times"),
        (GOOD.replace("yield ", ""), "it provides nothing"),
        ("", "it provides nothing"),
    ],
)
def test_an_invalid_declaration_is_reported_without_a_traceback(distribution: Any, source: str, reason: str) -> None:
    broken = broken_next_to_another(distribution, source)
    assert reason in broken.reason
    assert broken.traceback == ""


def broken_next_to_another(distribution: Any, source: str) -> BrokenPlugin:
    """Load this plugin and another one; return the broken one, after checking that the other one works."""
    distribution("ddpmkit-acme", "acme.good", "acme_good", source)
    distribution("ddpmkit-other", "other.thing", "other_thing", GOOD.replace("acme_good", "other_thing"))
    found = discover()
    registry = found.registry()
    assert registry.get("loss", "other/zig")
    assert registry.get("schedule", "cosine")
    with pytest.raises(PluginError) as caught:
        registry.get("loss", "acme/zig")
    (broken,) = found.broken
    assert f"failed to load: acme.good (ddpmkit-acme 1.0): {broken.reason}" in caught.value.remedies
    return broken


def test_a_single_file_is_a_plugin(tmp_path: Path) -> None:
    file = tmp_path / "zig.py"
    file.write_text(GOOD.replace('"acme_good:Zig"', 'f"{__name__}:Zig"'))
    registry = discover([file, file]).registry()  # named twice, it is still one
    entry = registry.get("loss", "local/zig")
    assert entry.build(entry.config_model()(), prediction="epsilon")
    assert (entry.plugin.distribution, entry.origin) == (str(file), str(file))
    assert entry.plugin.version == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


def test_a_signal_handler_that_an_import_replaces_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the plugin, and in the module of its component, which is imported later."""
    before = signal.getsignal(signal.SIGINT)
    taking = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    (tmp_path / "zig_loss.py").write_text(f"{taking}def Zig(config, *, prediction): return config")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "zig.py"
    file.write_text(taking + GOOD.replace("acme_good:Zig", "zig_loss:Zig"))
    entry = discover([file]).registry().get("loss", "local/zig")
    assert signal.getsignal(signal.SIGINT) == before
    entry.build(entry.config_model()(), prediction="epsilon")
    assert signal.getsignal(signal.SIGINT) == before
    assert [message.partition(" changed the handler of SIGINT")[0] for message in caplog.messages] == [
        f"the plugin local.zig ({file})",
        "the loss 'local/zig'",
    ]


def test_settings_that_a_plugin_changes_when_it_is_imported_are_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The settings are those of the process (working directory) and of torch, which the file may import first."""
    changing = (
        "import os, torch\nos.chdir('/')\ntorch.set_default_dtype(torch.float64)\n"
        "torch.set_num_threads(torch.get_num_threads() + 1)\n"
    )
    (tmp_path / "zag_loss.py").write_text(f"{changing}def Zig(config, *, prediction): return config")
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "zag.py"
    file.write_text(changing + GOOD.replace("acme_good:Zig", "zag_loss:Zig"))
    before = Path.cwd(), torch.get_default_dtype(), torch.get_num_threads()
    entry = discover([file]).registry().get("loss", "local/zig")
    assert (Path.cwd(), torch.get_default_dtype(), torch.get_num_threads()) == before
    entry.build(entry.config_model()(), prediction="epsilon")
    assert (Path.cwd(), torch.get_default_dtype(), torch.get_num_threads()) == before
    settings = ("torch.get_default_dtype()", "torch.get_num_threads()", "the working directory")
    assert [message.partition(" from ")[0] for message in caplog.messages] == [
        f"the {who} changed {setting}"
        for who in (f"plugin local.zag ({file})", "loss 'local/zig'")
        for setting in settings
    ]


def test_torch_settings_are_restored_if_the_plugin_is_the_first_to_import_torch(tmp_path: Path) -> None:
    file = tmp_path / "zug.py"
    file.write_text("import torch\ntorch.set_num_threads(7)\ntorch.set_default_dtype(torch.float64)\n" + GOOD)
    code = f"""
import sys
from pathlib import Path
from ddpmkit.plugin.discovery import discover
assert "torch" not in sys.modules
assert not discover([Path({str(file)!r})], third_party=False).broken
import torch
print(torch.get_num_threads(), torch.get_default_dtype())
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["1", "torch.float32"]
    assert f"the plugin local.zug ({file}) changed torch.get_num_threads() from 1 to 7" in done.stderr


def test_a_file_that_is_not_python_is_broken(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text("")
    assert broken(discover([file]), "local.recipe").reason == f"{file} is not a Python file"


def test_a_missing_file_is_an_input_error_and_a_file_that_raises_is_broken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        discover([tmp_path / "nowhere.py"])
    file = tmp_path / "broken.py"
    file.write_text("1 / 0")
    assert "ZeroDivisionError" in broken(discover([file]), "local.broken").reason


def test_commands_are_collected(distribution: Any) -> None:
    source = """
import click
from ddpmkit.plugin import hookimpl

@hookimpl
def ddpmkit_commands():
    yield click.Command("zig")
"""
    distribution("ddpmkit-acme", "acme.good", "acme_good", source)
    (plugin,) = [plugin for plugin in discover().plugins if plugin.found.entry_name == "acme.good"]
    assert [command.name for command in plugin.commands] == ["zig"]


def test_a_plugin_can_provide_only_diagnoses(distribution: Any) -> None:
    source = "from ddpmkit.plugin import hookimpl\n@hookimpl\ndef ddpmkit_diagnoses(): yield 'acme_half.half:well'"
    distribution("ddpmkit-acme", "acme.good", "acme_good", source)
    (plugin,) = [plugin for plugin in discover().plugins if plugin.found.entry_name == "acme.good"]
    assert plugin.diagnoses == ("acme_half.half:well",)
    assert "acme_half" not in sys.modules


def test_two_entry_points_can_use_one_module(distribution: Any) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", GOOD)
    distribution("ddpmkit-other", "other.good", "acme_good", GOOD)
    found = discover()
    assert found.broken == ()
    assert [entry.id for entry in found.components if entry.component.name == "zig"] == ["acme/zig", "other/zig"]


def test_a_module_with_dynamic_attributes_has_only_the_hooks_that_it_defines(distribution: Any) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", GOOD + "\ndef __getattr__(name): raise SystemExit(name)\n")
    assert discover().broken == ()


def test_a_marker_made_by_pluggy_is_accepted(distribution: Any) -> None:
    """A plugin can create the marker itself, as plugins of pluggy-based projects do."""
    marker = "import pluggy\nhookimpl = pluggy.HookimplMarker('ddpmkit')\n"
    source = marker + GOOD.replace("import Component, hookimpl", "import Component")
    distribution("ddpmkit-acme", "acme.good", "acme_good", source)
    assert discover().registry().get("loss", "acme/zig")
