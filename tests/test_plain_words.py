"""Code, docs and tests use plain English: none of the phrases below, which docs/style.md replaces."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHECKED = ["README.md", "CHANGELOG.md", "ddpmkit", "docs", "plugins", "recipes", "tests", "pyproject.toml"]
SUFFIXES = (".html", ".jinja", ".js", ".md", ".py", ".toml", ".txt")
UNCHECKED = [
    "docs/style.md",  # lists these phrases
    "tests/test_plain_words.py",
]

INSTEAD = {
    "does not know|knows nothing": "delete the sentence, or write: does not depend on",
    "(?<!here )(?:is|are|was|were) no(?! (?:longer|more|less|faster|better|worse|exception|need))": "is not a",
    "(?<!here )(?:is|are) none": "does not exist, there is no",
    "(?:to|can|cannot|could|might) be had|had from": "available",
    "(?:go|goes|gone|going|went) on(?= with| from| by| all|[.,;:])": "resume, continue",
    "for ever": "permanently, indefinitely",
    "(?:un)?told": "conditioned on; reported, shown; unconditional",
    "mend|mends|mended": "fix",
    "draws? (?:an?|the|images|samples|noise)|drawn (?:by|from|images?|samples?)|drew": "generate, sample",
    r"pictures?(?! =|: ImageInput|\)|, scores)": "image",
    "by heart": "memorized",
    "all the same": "anyway",
    "lies? (?:behind|beside|in|below|at)": "is",
    "stands? (?:in|for|beside|at)": "is in, means",
    "set aside|sets aside": "moved aside, disabled",
    "wish|wishes|wished": "request",
    "without a word": "silently",
    "strangers?": "third party, user",
    "once more": "again",
    "beside": "next to, in addition to",
    "that which|which none": "a noun",
    "came about": "change over training",
    "hears?|heard": "receives",
}
"""What to write instead of each phrase, a regular expression for whole words in lower case."""

PHRASES = "|".join(f"(?P<phrase{index}>{phrase})" for index, phrase in enumerate(INSTEAD))
PATTERN = re.compile(rf"(?<![\w./`\"-])(?:{PHRASES})(?![\w(-]|\.\w)")


def files() -> list[Path]:
    paths = [ROOT / name for name in CHECKED]
    found = [path for path in paths if path.is_file()]
    found += [path for folder in paths for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES]
    return [path for path in found if path.relative_to(ROOT).as_posix() not in UNCHECKED]


def suspects(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, phrase and replacement for each phrase of the list, which may continue on the next line."""
    lines = [line.strip(" #") for line in text.splitlines()]
    flat, ends = " ".join(lines), list(accumulate(len(line) + 1 for line in lines))
    for match in PATTERN.finditer(flat):
        words = INSTEAD[list(INSTEAD)[int(str(match.lastgroup).removeprefix("phrase"))]]
        yield bisect_right(ends, match.start()) + 1, match[0], words


def test_no_phrase_needs_plainer_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: instead of {phrase!r}, write: {words}"
        for path in files()
        for line, phrase, words in suspects(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(["see docs/style.md", *found])


@pytest.mark.parametrize(
    "text",
    [
        "results/x is no run folder",
        "a number that is\n    # none",
        "It does not know\nwhat a sampler is.",
        "the run goes on from step 3",
        "cannot be had: HTTP 404",
    ],
)
def test_a_phrase_is_found_across_lines(text: str) -> None:
    assert list(suspects(text))


@pytest.mark.parametrize(
    "text",
    [
        "there is no schedule `cosin`",
        "it is no longer used",
        "there\n    is no other",
        "None if there is none",
        "_told = 1",
    ],
)
def test_plain_english_is_not_found(text: str) -> None:
    assert not list(suspects(text))
