from collections.abc import Callable
from pathlib import Path

import pytest

from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.requirements import install_hint

ACME = FoundPlugin("acme.zig", "acme", "ddpmkit-acme", "1.2")
BUILT_IN = FoundPlugin("ddpmkit.csv", "ddpmkit_plugins.csv_tracker", "ddpmkit", "0.1")


def requiring(distribution: Callable[..., None], folder: Path, *requirements: str) -> None:
    """`ACME`, installed."""
    distribution("ddpmkit-acme", "acme.zig", "acme", "", version="1.2")
    with (folder / "ddpmkit_acme-1.2.dist-info" / "METADATA").open("a") as metadata:
        metadata.writelines(f"Requires-Dist: {requirement}\n" for requirement in requirements)


@pytest.mark.parametrize(
    ("modules", "command"),
    [
        (["zig_zag"], "pip install 'Zig-Zag>=2'"),
        (["zig_zag", "boards"], "pip install 'Zig-Zag>=2' 'boards<3'"),
        (["zig_zag", "PIL"], "pip install ddpmkit-acme==1.2"),
    ],
)
def test_the_command_installs_dependencies_of_the_distribution(
    distribution: Callable[..., None], tmp_path: Path, modules: list[str], command: str
) -> None:
    requiring(distribution, tmp_path, "Zig-Zag>=2", "boards<3; extra == 'boards'", "pillow")
    assert install_hint(modules, ACME) == command


def test_the_command_for_a_built_in_uses_its_extras() -> None:
    assert install_hint(["datasets"], BUILT_IN) == "pip install 'datasets>=4.0'"


def test_the_hint_for_a_single_file_is_a_sentence() -> None:
    file = FoundPlugin("local.zig", "ddpmkit_local_0", "zig.py", "sha256:0", Path("zig.py"))
    assert install_hint(["zag", "zog"], file) == "pip install the packages that provide the modules zag, zog"
