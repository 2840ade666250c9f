import subprocess
import sys
from pathlib import Path

import pytest

from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.references import expected_import_error

PACKAGE = {
    "__init__.py": "",
    "heavy/__init__.py": "raise RuntimeError('imported')",
    "heavy/schedule.py": """
import wave as Borrowed
if Borrowed:
    class Conditional: ...
Alias = Borrowed
class Zigzag:
    class Inner: ...
raise RuntimeError("imported")
""",
    "star.py": "from wave import *",
    "lazy.py": "def __getattr__(name): ...",
    "wrong.py": "class Zigzag:",
}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`acme_presence`, whose inner package and module must not be imported."""
    for name, text in PACKAGE.items():
        path = tmp_path / "acme_presence" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    "reference",
    [
        *(f"acme_presence.heavy.schedule:{name}" for name in ("Zigzag", "Conditional", "Alias", "Borrowed")),
        "acme_presence.star:Anything",
        "acme_presence.lazy:Anything",
        "math:sqrt",
        f"{__name__}:PACKAGE",
    ],
)
def test_code_that_exists_or_may_exist_gives_no_error(reference: str) -> None:
    assert expected_import_error(reference) is None
    assert "acme_presence.heavy" not in sys.modules


@pytest.mark.parametrize(
    ("reference", "raised"),
    [
        ("no_such_module:Zigzag", "No module named 'no_such_module'"),
        ("no_such_module.schedule:Zigzag", "No module named 'no_such_module'"),
        ("acme_presence.shedule:Zigzag", "No module named 'acme_presence.shedule'"),
        ("acme_presence.star.schedule:Zigzag", "No module named 'acme_presence.star.schedule'"),
        (
            "acme_presence.heavy.schedule:Zigzog",
            "module 'acme_presence.heavy.schedule' has no attribute 'Zigzog'; did you mean 'Zigzag'?",
        ),
        ("acme_presence.heavy.schedule:Inner", "module 'acme_presence.heavy.schedule' has no attribute 'Inner'"),
        ("acme_presence.wrong:Zigzag", "expected an indented block"),
        (f"{__name__}:PACKET", "has no attribute 'PACKET'"),
    ],
)
def test_missing_code_gives_the_error_of_an_import(reference: str, raised: str) -> None:
    error = expected_import_error(reference)
    assert error is not None
    assert raised in str(error)
    assert "acme_presence.heavy" not in sys.modules


def test_the_code_of_every_built_in_component_is_found_without_importing_torch() -> None:
    code = (
        "import sys; from ddpmkit.plugin.discovery import discover; "
        "from ddpmkit.plugin.references import expected_import_error; "
        "found = [expected_import_error(entry.component.target) for entry in discover(third_party=False).components]; "
        "assert found and not any(found), found; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert discover(third_party=False).components
