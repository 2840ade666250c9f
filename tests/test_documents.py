"""Every shell, Python and TOML block of README.md and docs runs, or a comment above it states why it does not.

Readers do not see these comments: `<!-- not run: reason -->`, `<!-- run by tests/some/test_file.py -->`, and
`<!-- file: name -->`, which writes the block to a file for the later blocks of the page.
`<!-- not run from here on: reason -->` skips the rest of the page. Training takes two steps of a tiny network;
everything else runs as written.
"""

import contextlib
import importlib.metadata
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ddpmkit.cli import main

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
EXECUTED = ("sh", "python", "toml")
MARK = re.compile(r"<!-- (not run from here on|not run|run by|file):? (.+?) -->\n")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)

NETWORK = [
    *("data.image_size=8", "diffusion.timesteps=25"),
    *("backbone.dim=8", "backbone.multipliers=[1,2]", "backbone.linear_attention_levels=[1]"),
]
SHORT = ["train.steps=2", "train.batch_size=2", "sampler.count=2", "tracker=[]"]
METRIC = ['metric=[{use="nearest-neighbours", num_samples=4}]']
CRITTERS = ["data.size=4", "data.val_size=2"]
RECIPE = """
name = "mine"
[data]
image_size = 8
size = 4
val_size = 2
[diffusion]
timesteps = 4
[schedule]
use = "local/zigzag"
[backbone]
dim = 8
[sampler]
count = 2
[train]
steps = 2
batch_size = 2
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the comment above it."""

    page: str
    line: int
    language: str
    content: str
    mark: str
    """"not run", "run by", "file", or empty without a comment."""
    argument: str
    """The reason, the test file, or the file name in the comment."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, up to `not run from here on`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    ends = (match.start() for match in MARK.finditer(text) if match[1] == "not run from here on")
    text = text[: next(ends, len(text))]
    found = []
    for match in BLOCK.finditer(text):
        above = re.search(r"(?:<!-- [^\n]*\n)*$", text[: match.start()])
        mark = MARK.search(above[0]) if above else None
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match[1], match[2], *((mark[1], mark[2]) if mark else ("", ""))))
    return found


def test_every_block_runs_or_has_a_reason_not_to() -> None:
    found = [block for page in PAGES for block in blocks(page)]
    assert {block.language for block in found} <= {*EXECUTED, "console", ""}
    for block in found:
        if block.mark == "run by":
            assert (ROOT / block.argument).is_file(), block.place
        if block.language == "console":
            assert block.mark == "run by", f"{block.place}: a test must compare this output with that of the command"
        if block.mark == "not run":
            assert len(block.argument.split()) >= 3, f"{block.place}: this is not a reason"
    executed = [block for block in found if block.language in EXECUTED and block.mark not in ("not run", "run by")]
    assert len(executed) >= 15


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder like a clone, with a tiny AFHQ and a few images of a user."""
    for name in ("recipes", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 20, 3), dtype=np.uint8)
    places = [
        tmp_path / "data" / "afhq" / split / name / f"{number}.png"
        for split, count in (("train", 6), ("val", 2))
        for name in ("cat", "dog", "wild")
        for number in range(count)
    ]
    for image, place in zip(pixels, places, strict=False):
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    for name in ("cat.jpg", "a.jpg", "b.jpg"):
        Image.fromarray(pixels[0]).save(tmp_path / name)
    Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


Install = Callable[[str], None]


@pytest.fixture
def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Imitate `pip install FOLDER` of a plugin: make its metadata and its modules importable during the test."""

    def pip(source: str) -> None:
        project = tomllib.loads((folder / source / "pyproject.toml").read_text())["project"]
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(project["name"])
            return
        info = folder / "site" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        entries = "".join(f"{name} = {module}\n" for name, module in project["entry-points"]["ddpmkit.plugins"].items())
        (info / "entry_points.txt").write_text(f"[ddpmkit.plugins]\n{entries}")
        for place in (folder / source, folder / "site"):
            monkeypatch.syspath_prepend(str(place))

    return pip


def shortened(arguments: Sequence[str]) -> list[str]:
    """Add options to a `ddpmkit` command, so that training and timing take two steps of a tiny network."""
    command, *rest = arguments
    # These overrides come first, so that those of the page win.
    match command:
        case "run":
            values = [*SHORT, *NETWORK, *METRIC, *([] if "afhq" in rest[0] else CRITTERS)]
            # A metric that the page selects evaluates fewer images.
            later = ["metric.num_samples=4"] if any(value.startswith("metric=") for value in rest) else []
        case "profile":
            values, later = ["train.batch_size=2", *NETWORK], []
            rest = [*rest, "--steps", "1"]
        case _:
            values, later = [], []
    return [command, *_set(values), *rest, *_set(later)]


def _set(values: Sequence[str]) -> Iterator[str]:
    for value in values:
        yield from ("--set", value)


def execute(line: str, place: str, install: Install) -> None:
    words = shlex.split(line, comments=True)
    match words:
        case []:
            return
        case ["ddpmkit", *arguments]:
            result = CliRunner().invoke(main, shortened(arguments))
            shown = f"{place}: {line}\n{result.output}"
            assert result.exit_code == 0, shown
        case ["pip", "install", source]:
            install(source)
        case _:
            pytest.fail(f"{place}: {line} cannot be executed here: add `<!-- not run: reason -->` above the block")


def check_recipe(block: Block, folder: Path) -> None:
    """Run `recipe check` on a block, in a folder where the recipe that it extends exists."""
    extends = tomllib.loads(block.content).get("extends", "")
    home = folder if (folder / extends).exists() else folder / "extending"
    if home != folder and not home.exists():
        home.mkdir()
        (home / "base").symlink_to(ROOT / "recipes" / "base")
    (home / "block.toml").write_text(block.content)
    result = CliRunner().invoke(main, ["recipe", "check", str(home / "block.toml")])
    assert result.exit_code == 0, f"{block.place}\n{result.output}"


def prepare(page: str, folder: Path, install: Install) -> None:
    """Create the files that a page expects to exist."""
    if page == "README.md":
        execute("ddpmkit run recipes/quickstart.toml", page, install)
    if page == "docs/plugins.md":
        (plugin,) = (block for block in blocks("README.md") if block.argument == "zigzag.py")
        (folder / "zigzag.py").write_text(plugin.content)
        (folder / "recipe.toml").write_text(RECIPE)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", [page for page in PAGES if any(block.language in EXECUTED for block in blocks(page))])
def test_the_blocks_of_a_page_run_in_order(page: str, folder: Path, install: Install) -> None:
    prepare(page, folder, install)
    for block in blocks(page):
        if block.mark in ("not run", "run by"):
            continue
        if block.mark == "file":
            (folder / block.argument).write_text(block.content)
        elif block.language == "sh":
            for line in block.content.splitlines():
                execute(line, block.place, install)
        elif block.language == "python":
            exec(compile(block.content, block.place, "exec"), {"__name__": "block"})
        elif block.language == "toml":
            check_recipe(block, folder)
