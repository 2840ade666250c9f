"""What is wrong with a recipe, shown where it is written.

It does not know how problems are found.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from ddpmkit.errors import InputError
from ddpmkit.recipe.toml_positions import Span

__all__ = ["MOST", "Problem", "RecipeError", "did_you_mean", "listed", "one_line", "synonym"]

_WIDEST = 100
"""Characters of a source line that are shown."""
_LONGEST = 1000
"""Characters of any other text that are shown; a recipe may hold a word of a megabyte."""
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
"""Keys of other programs, and what they are called here."""
MOST = 100
"""Problems that are shown; in one table, no more are looked for."""


@dataclass(frozen=True)
class Problem:
    """One thing to mend."""

    message: str
    """What is wrong, in words."""
    source: str
    """A file, or `--set key=value`, or what else the value came from."""
    span: Span | None = None
    """The place in the file."""
    hints: tuple[str, ...] = ()
    """What to write instead."""

    def __str__(self) -> str:
        """Place and message, the line with a marker, the hints."""
        place = f":{self.span.line}:{self.span.column}" if self.span else ""
        head = f"{one_line(self.source)}{place}: {one_line(self.message)}"
        excerpt = _excerpt(self.span) if self.span else []
        return "\n".join([head, *excerpt, *(f"  - {one_line(hint)}" for hint in self.hints)])


class RecipeError(InputError):
    """A recipe that cannot be used; `problems` holds everything that is wrong with it, in the order of the text."""

    def __init__(
        self, problems: Iterable[Problem], reasons: Sequence[str] = (), *, remedies: Sequence[str] = ()
    ) -> None:
        """The message is the whole text, of the first hundred where there are more; `reasons` are common to several."""
        self.problems = tuple(sorted(problems, key=_place))
        number = len(self.problems)
        shown = [str(problem) for problem in self.problems[:MOST]]
        if number > MOST:
            shown.append(f"{number:,} problems, the first {MOST} of them above.")
        elif number > 1:
            shown.append(f"{number} problems.")
        super().__init__("\n\n".join([*shown, *reasons]), remedies=remedies)


def did_you_mean(word: str, choices: Iterable[str]) -> str | None:
    """The choice that `word` is most likely a slip of."""
    by_folded = {_folded(choice): choice for choice in choices}
    if (usual := synonym(word)) in by_folded:
        return by_folded[usual]
    close = difflib.get_close_matches(_folded(word), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def synonym(word: str) -> str | None:
    """The key of a recipe that other programs call `word`."""
    return _SYNONYMS.get(_folded(word))


def one_line(text: str) -> str:
    """What someone else wrote, fit to be shown: short, on one line, and nothing that a terminal would obey."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 4 :]}"
    return _printable(text.replace("\n", " "))


def listed(words: Sequence[str], last: str = "or") -> str:
    """`a, b or c`."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _place(problem: Problem) -> tuple[bool, str, int, int]:
    """Files before the command line, each in its own order."""
    line, column = (problem.span.line, problem.span.column) if problem.span else (0, 0)
    return problem.source.startswith("--"), problem.source, line, column


def _folded(word: str) -> str:
    return word.lower().replace("-", "_")


def _excerpt(span: Span) -> list[str]:
    """The source line and a marker below it, shortened around the marker where the line is long."""
    start = max(0, min(span.column - 1 - _WIDEST // 3, len(span.text) - _WIDEST))
    shown = _printable(span.text[start : start + _WIDEST])
    before = _printable(span.text[start : span.column - 1])
    marked = shown[len(before) : len(before) + span.width]
    number = str(span.line).rjust(6)
    marker = " " * cell_len(before) + "^" * max(1, cell_len(marked))
    return [f"{number} | {shown.rstrip()}", f"{' ' * len(number)} | {marker}"]


def _printable(text: str) -> str:
    """One visible character for each; a terminal is told nothing by a recipe."""
    return "".join(
        char if char.isprintable() else " " if char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )
