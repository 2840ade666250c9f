import inspect
import re
from pathlib import Path

from ddpmkit.plugin import hookspecs

GUIDE = (Path(__file__).parent.parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")


def test_every_hook_is_documented_and_no_other() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("ddpmkit_")}
    (table,) = re.findall(r"^\| hook \| yields \|\n(.*?)\n\n", GUIDE, flags=re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == hooks
    assert all(inspect.getdoc(getattr(hookspecs, name)) for name in hooks)
