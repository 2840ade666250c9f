import inspect
import re
import sys
from pathlib import Path

import pytest

from ddpmkit.plugin import hookspecs
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.loader import LoadedPlugin, load_plugin, new_plugin_manager

GUIDE = (Path(__file__).parent.parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_the_guide_documents_exactly_the_existing_hooks() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("ddpmkit_")}
    (table,) = re.findall(r"^\| hook \| yields \|\n(.*?)\n\n", GUIDE, flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == hooks
    assert set(hookspecs.HOOKS) == hooks
    assert all(inspect.getdoc(getattr(hookspecs, name)) for name in hooks)


def test_the_examples_of_the_guide_form_a_working_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ddpmkit_acme_zigzag"
    assert set(re.findall(r"\bddpmkit_acme\w*", GUIDE)) == {name}
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
    files = [part for block in blocks for part in re.split(rf"^# (?={name}/)", block, flags=re.MULTILINE)[1:]]
    manifest = "".join(part.partition("\n")[2] for part in files if part.startswith(f"{name}/__init__.py"))
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(manifest)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    loaded = load_plugin(FoundPlugin("acme.zigzag", name, "ddpmkit-acme-zigzag", "1.0"), new_plugin_manager())
    monkeypatch.delitem(sys.modules, name)
    assert isinstance(loaded, LoadedPlugin), loaded
    assert [entry.id for entry in loaded.components] == ["acme/zigzag"]
    assert [command.name for command in loaded.commands] == ["acme-download"]
    assert loaded.diagnoses == (f"{name}.diagnosis:weights",)
