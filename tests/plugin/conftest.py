import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Distribution = Callable[..., None]

GOOD = """
from ddpmkit.plugin import Component, hookimpl

@hookimpl
def ddpmkit_components():
    yield Component(kind="loss", name="zig", target=f"{__name__}:Zig", summary="a loss")
    yield Component(kind="loss", name="alpha", target=f"{__name__}:Zig", summary="another")

class Zig:
    def __init__(self, config, *, prediction): ...
"""


@pytest.fixture(autouse=True)
def _only_built_in_and_test_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide other plugins that are installed in this environment."""
    installed = importlib.metadata.entry_points

    def ours(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [entry for entry in installed(group=group) if entry.dist is None or _ours(entry.dist)]

    def _ours(found: importlib.metadata.Distribution) -> bool:
        return found.name == "ddpmkit" or Path(str(found.locate_file(""))).is_relative_to(tmp_path)

    monkeypatch.setattr(importlib.metadata, "entry_points", ours)


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Distribution]:
    """Returns a function that installs a distribution: a module and a .dist-info folder for importlib.metadata.

    The default source declares two losses, `zig` and `alpha`.
    """
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, entry: str, module: str, source: str = GOOD, version: str = "1.0") -> None:
        (tmp_path / f"{module.partition(':')[0]}.py").write_text(source)
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[ddpmkit.plugins]\n{entry} = {module}\n")

    before = set(sys.modules)
    yield make
    # The next test may use the same name for another module.
    for module in set(sys.modules) - before:
        if getattr(sys.modules[module], "__file__", None) and str(tmp_path) in str(sys.modules[module].__file__):
            del sys.modules[module]


@pytest.fixture
def good() -> str:
    """The source of a working plugin with two losses, `zig` and `alpha`."""
    return GOOD
