"""Hints name a line of the plugin if the user can edit its source."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ddpmkit.errors import PluginError
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.fault_location import fix_hint
from ddpmkit.plugin.finder import FoundPlugin

ZIG = """
from ddpmkit.plugin import Component, hookimpl

@hookimpl
def ddpmkit_components():
    yield Component(kind="loss", name="zig", summary="a loss", target=f"{__name__}:Zig")

class Zig:
    def __init__(self, config, *, prediction):
        raise KeyError("beta")
"""
RAISING, DECLARING = 10, 6


@pytest.fixture(params=["file", "editable", "wheel"])
def install(
    request: pytest.FixtureRequest, tmp_path: Path, distribution: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[str, str]]:
    """Returns a function that creates a plugin and returns its namespace, and its file if that can be edited."""
    monkeypatch.chdir(tmp_path)

    def make(source: str) -> tuple[str, str]:
        if request.param == "file":
            Path("zig.py").write_text(source)
            return "local", "zig.py"
        distribution("ddpmkit-acme", "acme.zig", "acme_zig", source)
        note = {"url": tmp_path.as_uri(), "dir_info": {"editable": request.param == "editable"}}
        Path("ddpmkit_acme-1.0.dist-info/direct_url.json").write_text(json.dumps(note))
        return "acme", "acme_zig.py" if request.param == "editable" else ""

    return make


def remedy(namespace: str) -> str:
    """The first remedy of the error that building its loss raises."""
    files = [Path("zig.py")] if namespace == "local" else []
    loss = discover(files).registry().get("loss", f"{namespace}/zig")
    with pytest.raises(PluginError) as caught:
        loss.build(loss.config_model()(), prediction="epsilon")
    return caught.value.remedies[0]


@pytest.mark.parametrize(
    ("raised", "hint"),
    [
        ('OSError(28, "No space left on device")', "free some space on the disk"),
        ('OSError(122, "Disk quota exceeded")', "free some space on the disk"),
        ('OSError(37, "No locks available")', "use a file system that supports locks"),
        ('OSError(30, "Read-only file system")', "use a disk that is writable"),
        ('OSError(24, "Too many open files")', "allow more open files"),
        ("""FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")""", "TMPDIR"),
        ('ValueError("cannot write") from OSError(28, "No space left on device")', "free some space on the disk"),
    ],
)
def test_the_remedy_for_a_system_error_is_about_the_system(
    install: Callable[[str], tuple[str, str]], raised: str, hint: str
) -> None:
    namespace, _ = install(ZIG.replace('KeyError("beta")', raised))
    assert hint in remedy(namespace)


def test_the_hint_names_the_line_that_raised(install: Callable[[str], tuple[str, str]]) -> None:
    namespace, file = install(ZIG)
    hint = remedy(namespace)
    if file:
        assert hint.startswith("fix ")
        assert hint.endswith(f"{file}:{RAISING}")
    else:
        assert hint == "report it to the authors of ddpmkit-acme 1.0, which provides it"


def test_the_hint_for_a_missing_class_names_the_line_of_its_declaration(
    install: Callable[[str], tuple[str, str]],
) -> None:
    namespace, file = install(ZIG.replace(':Zig"', ':Zog"'))
    hint = remedy(namespace)
    assert hint.endswith(f"{file}:{DECLARING}" if file else "which provides it")


def test_an_error_about_a_missing_class_suggests_the_closest_name(install: Callable[[str], tuple[str, str]]) -> None:
    namespace, _ = install(ZIG.replace(':Zig"', ':Zog"'))
    files = [Path("zig.py")] if namespace == "local" else []
    loss = discover(files).registry().get("loss", f"{namespace}/zig")
    with pytest.raises(PluginError, match="has no attribute 'Zog'; did you mean 'Zig'"):
        loss.build(loss.config_model()(), prediction="epsilon")


@pytest.mark.parametrize(("source", "line"), [("\n\n1 / 0", ":3"), ("\ndef broken(:", ":2"), ("", "")])
def test_a_broken_plugin_has_the_location_of_the_fault(
    install: Callable[[str], tuple[str, str]], source: str, line: str
) -> None:
    namespace, file = install(source)
    (broken,) = discover([Path("zig.py")] if namespace == "local" else []).broken
    assert broken.place.endswith(f"{file}{line}")


def test_a_plugin_without_a_file_is_named_by_its_module() -> None:
    gone = FoundPlugin("acme.zig", "no_such.module", "ddpmkit-acme", "1.0", editable=True)
    assert fix_hint(gone, "no_such.module:Zig") == "fix no_such.module"
