"""No module unpickles, evaluates text, or reads the environment outside ddpmkit/environment.py."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted([*(ROOT / "ddpmkit").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])
MODULES_NOT_TO_IMPORT = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"}
CALLS = {"eval", "exec", "compile", "torch.load", "torch.save", "yaml.load", "np.loads", "os.system", "os.popen"}
ENVIRONMENT = {"os.environ", "os.getenv", "os.environb", "os.putenv"}


def offences(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for name in names:
                if name.partition(".")[0] in MODULES_NOT_TO_IMPORT:
                    yield f"{place} imports {name}"
        if isinstance(node, ast.Attribute | ast.Name):
            name = ast.unparse(node)
            if name in ENVIRONMENT and path.name != "environment.py":
                yield f"{place} reads {name}: only ddpmkit/environment.py does"
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in CALLS:
                yield f"{place} calls {name}"
            if name == "np.load" and not any(
                key.arg == "allow_pickle" and ast.unparse(key.value) == "False" for key in node.keywords
            ):
                yield f"{place} calls np.load without allow_pickle=False"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_contains_forbidden_code(path: Path) -> None:
    assert list(offences(path)) == []


def test_forbidden_code_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    bad = tmp_path / "bad.py"
    bad.write_text("import pickle\nfrom yaml import load\nnp.load(x)\ntorch.load(x)\neval(x)\nos.environ[x]\n")
    assert [found.partition(" ")[0] for found in offences(bad)] == [f"bad.py:{line}" for line in (1, 2, 3, 4, 5, 6)]
