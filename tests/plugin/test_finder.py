import sys
from pathlib import Path
from typing import Any

import pytest

from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.finder import find_plugins


def test_finding_imports_nothing(distribution: Any) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good", "raise SystemExit('imported')")
    assert "acme.good" in [plugin.entry_name for plugin in find_plugins()]
    assert "acme_good" not in sys.modules


@pytest.mark.parametrize(
    ("entry", "module", "reason"),
    [
        ("ddpmkit.good", "acme_good", "the namespace 'ddpmkit' is reserved, and ddpmkit-acme cannot use it"),
        ("local.good", "acme_good", "the namespace 'local' is reserved, and ddpmkit-acme cannot use it"),
        ("good", "acme_good", "the entry name 'good' is not of the form 'namespace.name'"),
        ("acme.", "acme_good", "the entry name 'acme.' is not of the form 'namespace.name'"),
        ("Acme Corp.good", "acme_good", "the entry name 'Acme Corp.good' is not of the form 'namespace.name'"),
        ("acme.good", "acme_good:plugin", "the entry point refers to 'acme_good:plugin', which is not a module"),
    ],
)
def test_an_invalid_entry_point_is_not_imported(distribution: Any, entry: str, module: str, reason: str) -> None:
    distribution("ddpmkit-acme", entry, module, "raise SystemExit('imported')")
    (plugin,) = [broken for broken in discover().broken if broken.plugin.entry_name == entry]
    assert plugin.reason.startswith(reason)
    assert "acme_good" not in sys.modules


def test_an_entry_point_without_metadata_is_loaded(distribution: Any, tmp_path: Path) -> None:
    distribution("ddpmkit-acme", "acme.good", "acme_good")
    (tmp_path / "ddpmkit_acme-1.0.dist-info" / "METADATA").unlink()
    assert discover().registry().get("loss", "acme/zig").origin == "unknown unknown"


def test_a_changed_file_is_a_different_plugin(good: str, tmp_path: Path) -> None:
    file = tmp_path / "zig.py"
    for name in ("zig", "zag"):
        file.write_text(good.replace('"zig"', f'"{name}"'))
        assert discover([file]).registry().get("loss", f"local/{name}")
