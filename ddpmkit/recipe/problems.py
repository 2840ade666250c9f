"""Errors in a recipe, each with its file, line and column.

How an error gets its position: `toml.positions.locate` finds the position of every key and value in a TOML text.
`toml_file.read_file` stores the positions in a `Layer`, `layers` merges layers into a `MergedRecipe` and stores the
`Origin` of each value, `checks.table.Table.problem` looks up the origin of a key, and `Problem` prints it.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from ddpmkit.errors import InputError
from ddpmkit.recipe.toml.positions import Span

__all__ = ["MAX_PROBLEMS", "Problem", "RecipeError", "did_you_mean", "listed", "one_line", "synonym"]

MAX_PROBLEMS = 100
"""Maximum number of problems that are shown, and that are searched for in one table."""
_MAX_LINE_WIDTH = 100
"""Characters of a source line that are shown."""
_MAX_TEXT_LENGTH = 1000
"""Characters of any other text that are shown; a recipe may contain very long words."""
_SYNONYMS = {
    "bs": "batch_size",
    "cfg": "guidance",
    "cfg_scale": "guidance",
    "epochs": "steps",
    "grad_accum": "accumulate",
    "grad_clip": "gradient_clip",
    "gradient_accumulation_steps": "accumulate",
    "iterations": "steps",
    "lr": "learning_rate",
    "lr_scheduler": "learning_rate_decay",
    "max_grad_norm": "gradient_clip",
    "num_epochs": "steps",
    "num_train_timesteps": "timesteps",
    "resolution": "image_size",
    "wd": "weight_decay",
}
"""Names of keys in other programs, and the keys of a recipe that do the same."""


@dataclass(frozen=True)
class Problem:
    """One error in a recipe."""

    message: str
    """What is wrong."""
    source: str
    """Where the value comes from: a file, `--set key=value`, or a description."""
    span: Span | None = None
    """The place in the file."""
    hints: tuple[str, ...] = ()
    """How to fix it."""

    def __str__(self) -> str:
        """Place and message, the line with a marker, the hints."""
        place = f":{self.span.line}:{self.span.column}" if self.span else ""
        head = f"{one_line(self.source)}{place}: {one_line(self.message)}"
        excerpt = _excerpt(self.span) if self.span else []
        return "\n".join([head, *excerpt, *(f"  - {one_line(hint)}" for hint in self.hints)])


class RecipeError(InputError):
    """A recipe that cannot be used. `problems` are all its errors, in the order of the text."""

    def __init__(
        self, problems: Iterable[Problem], reasons: Sequence[str] = (), *, remedies: Sequence[str] = ()
    ) -> None:
        """The message contains the first `MAX_PROBLEMS` problems; `reasons` explain several of them."""
        self.problems = tuple(sorted(problems, key=_sort_key))
        count = len(self.problems)
        shown = [str(problem) for problem in self.problems[:MAX_PROBLEMS]]
        if count > MAX_PROBLEMS:
            shown.append(f"{count:,} problems, the first {MAX_PROBLEMS} of them above.")
        elif count > 1:
            shown.append(f"{count} problems.")
        super().__init__("\n\n".join([*shown, *reasons]), remedies=remedies)


def did_you_mean(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that `word` is a synonym or a probable misspelling of, or None."""
    by_folded = {_folded(choice): choice for choice in choices}
    if (our_name := synonym(word)) in by_folded:
        return by_folded[our_name]
    close = difflib.get_close_matches(_folded(word), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def synonym(word: str) -> str | None:
    """Return the key of a recipe that other programs call `word`; None if there is no such key."""
    return _SYNONYMS.get(_folded(word))


def one_line(text: str) -> str:
    """Return untrusted text in a form that is safe to print: shortened, on one line, without control characters."""
    if len(text) > _MAX_TEXT_LENGTH:
        text = f"{text[: _MAX_TEXT_LENGTH // 2]} ... {text[-_MAX_TEXT_LENGTH // 4 :]}"
    return _printable(text.replace("\n", " "))


def listed(words: Sequence[str], last: str = "or") -> str:
    """Return `a, b or c`."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _sort_key(problem: Problem) -> tuple[bool, str, int, int]:
    """Order files before the command line, and by position in each file."""
    line, column = (problem.span.line, problem.span.column) if problem.span else (0, 0)
    return problem.source.startswith("--"), problem.source, line, column


def _folded(word: str) -> str:
    return word.lower().replace("-", "_")


def _excerpt(span: Span) -> list[str]:
    """Return the source line and a marker below it; of a long line, the part around the marker."""
    start = max(0, min(span.column - 1 - _MAX_LINE_WIDTH // 3, len(span.text) - _MAX_LINE_WIDTH))
    shown = _printable(span.text[start : start + _MAX_LINE_WIDTH])
    before = _printable(span.text[start : span.column - 1])
    marked = shown[len(before) : len(before) + span.width]
    line_number = str(span.line).rjust(6)
    marker = " " * cell_len(before) + "^" * max(1, cell_len(marked))
    return [f"{line_number} | {shown.rstrip()}", f"{' ' * len(line_number)} | {marker}"]


def _printable(text: str) -> str:
    """Make every character visible, so that a recipe cannot send control characters to a terminal."""
    return "".join(
        char if char.isprintable() else " " if char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
