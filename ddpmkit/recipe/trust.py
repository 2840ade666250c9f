"""Code that a recipe names, and whether it runs unasked.

What the user writes, in a recipe file or with `--set`, is the user's own. So is the lock of the user's own runs, which
is signed. The lock of a run folder or checkpoint from elsewhere may name any code: that runs only with `--trust`.
"""

from collections.abc import Iterable, Iterator

from ddpmkit.errors import InputError
from ddpmkit.plugin.component import ComponentConfig
from ddpmkit.plugin.runs_code import CodeValue, code_values
from ddpmkit.recipe.layers import Layered
from ddpmkit.recipe.problems import one_line
from ddpmkit.recipe.recipe_file import as_toml_data
from ddpmkit.recipe.toml_positions import Key
from ddpmkit.recipe.toml_writer import toml_value

__all__ = ["UntrustedCode", "foreign_code"]


class UntrustedCode(InputError):
    """A run from elsewhere names code, and nobody has said that it may run."""

    def __init__(self, codes: Iterable[CodeValue], source: str) -> None:
        codes = list(codes)
        dotted = [".".join(map(str, code.key)) for code in codes]
        lines = [
            one_line(f"    {key} = {toml_value(as_toml_data(code.value))}  {code.how}")
            for key, code in zip(dotted, codes, strict=True)
        ]
        super().__init__(
            f"{one_line(source)} was not written by a run of yours, or was changed since. It names code to run:\n"
            + "\n".join(lines),
            remedies=[
                "--trust runs this code: use it if you trust whoever made the folder (in Python: trust=True)",
                f"--set '{dotted[0]}=...' gives a value of your own",
            ],
        )


def foreign_code(tree: Layered, key: Key, config: ComponentConfig) -> Iterator[CodeValue]:
    """The values of the config of the table at `key` that name code and come from a lock that is not the user's own."""
    return (code for code in code_values(config, key) if tree.origin(code.key).foreign)
