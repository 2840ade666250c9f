"""Any input is either accepted or rejected with an explanation; nothing else happens."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from mutated_recipes import Results, check
from recipe_mutations import furnish, mutated, overrides

from ddpmkit.cli.root import main
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, RecipeError, current_provenance, lock_text, read_lock, read_recipe, toml_text
from ddpmkit.recipe.schema.section_list import SECTIONS

quickly = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def installed() -> Registry:
    return discover(third_party=False).registry()


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped recipes."""
    folder = tmp_path_factory.mktemp("furnished")
    furnish(folder)
    return folder


def outcome(source: Any, registry: Registry, **more: Any) -> Recipe | RecipeError:
    """The result; an error states what is wrong and where, without control characters."""
    result: Recipe | RecipeError
    try:
        result = read_recipe(source, registry=registry, **more)
    except RecipeError as error:
        result = error
    if isinstance(result, Recipe):
        assert read_recipe(result.as_data(), registry=registry) == result
    else:
        assert result.problems
        assert all(problem.source and problem.message for problem in result.problems)
        assert str(result).replace("\n", "").isprintable()
    return result


uses = ["image-folder", "linear", "brittle", "lost", "greedy", "fid", "acme/x", "", "/", "os:system"]
names = some.sampled_from([*SECTIONS, "name", "extends", "lock"]) | some.text(max_size=6)
keys = some.sampled_from(["use", "root", "steps", "image_size", "classes", "middle", "width", "dim", "every", "betas"])
numbers = some.integers() | some.integers(-(2**70), 2**70) | some.floats()
words = some.text(max_size=8) | some.sampled_from(uses)
toml_values = some.recursive(
    words | numbers | some.booleans() | some.dates() | some.times(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(keys | some.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
tables = some.dictionaries(keys | some.text(max_size=4), toml_values, max_size=4)
documents = some.dictionaries(names, tables | some.lists(tables, max_size=2) | toml_values, max_size=5)
anything = some.none() | some.binary() | some.complex_numbers() | some.tuples(toml_values, toml_values) | toml_values
written = """
[data] [[metric]] [train] use = steps name lock extends "fid" "x.toml" 'x' 1 { } [ ] , . # \\ " ' é 0x nan true
1979-05-27
""".split()  # noqa: SIM905 -- words to be read as such
unseen = ["\n", "\n", " ", "\t", "\r\n", "\r", "\x00", "\x1b", "\ufeff", "\u2028", "\ud800"]
crumbs = some.lists(
    some.sampled_from([*written, *unseen]),
    max_size=30,
).map("".join)


@quickly
@given(content=some.binary(max_size=200) | (some.text() | crumbs).map(lambda text: text.encode(errors="surrogatepass")))
def test_any_bytes_as_a_file(folder: Path, registry: Registry, content: bytes) -> None:
    (folder / "mine.toml").write_bytes(content)
    outcome("mine.toml", registry)


@quickly
@given(document=documents)
def test_any_toml_as_a_file(folder: Path, registry: Registry, document: dict[str, Any]) -> None:
    (folder / "mine.toml").write_bytes(toml_text(document).encode(errors="surrogatepass"))
    from_file = outcome("mine.toml", registry)
    if isinstance(from_file, Recipe):
        assert read_recipe(document, registry=registry, name="mine") == from_file


@quickly
@given(data=some.dictionaries(names, some.dictionaries(keys, anything, max_size=4) | anything, max_size=5))
def test_any_plain_data(registry: Registry, data: dict[str, Any]) -> None:
    outcome(data, registry)


@quickly
@given(chance=some.integers(0, 2**32).map(random.Random))
def test_mutated_recipes(furnished: Path, installed: Registry, chance: random.Random) -> None:
    shipped = [path.read_bytes() for path in sorted(furnished.glob("[aq]*.toml"))]
    (furnished / "mine.toml").write_bytes(mutated(chance, shipped))
    outcome(furnished / "mine.toml", installed)
    outcome(furnished / "quickstart.toml", installed, overrides=overrides(chance))


dotted = some.tuples(names, keys | some.just("0") | some.text(max_size=6), keys).map(".".join)


@quickly
@given(texts=some.lists(some.builds("{}={}".format, dotted, some.text(max_size=12) | crumbs) | crumbs, max_size=4))
def test_any_overrides(registry: Registry, texts: list[str]) -> None:
    outcome({"metric": [{"use": "fid"}]}, registry, overrides=texts)


@quickly
@given(extends=some.lists(some.none() | some.integers(0, 6), min_size=1, max_size=6))
def test_any_chain_ends_at_its_base_or_is_an_error(folder: Path, registry: Registry, extends: list[int | None]) -> None:
    for old in folder.glob("*.toml"):
        old.unlink()
    for number, base in enumerate(extends):
        line = "" if base is None else f'extends = "{base}.toml"\n'
        (folder / f"{number}.toml").write_text(f"{line}[train]\nsteps = {number + 1}\n" + "seed = 7\n" * (not line))
    met, at = [0], extends[0]
    while at is not None and at not in met and at < len(extends):
        met.append(at)
        at = extends[at]
    result = outcome("0.toml", registry)
    if at is None:
        assert isinstance(result, Recipe)
        assert (result.train.steps, result.train.seed) == (1, 7)
    else:
        assert f"{met[-1]}.toml:1:11: `extends` " in str(result)
        assert ("forms a circle" if at in met else f"names {at}.toml: there is no such file") in str(result)


@pytest.mark.parametrize("length", [1, 2, 40])
def test_a_circle_of_extends_is_an_error(folder: Path, registry: Registry, length: int) -> None:
    for number in range(length):
        (folder / f"{number}.toml").write_text(f'extends = "{(number + 1) % length}.toml"\n')
    assert "`extends` forms a circle" in str(outcome("0.toml", registry))


def test_a_very_long_chain_of_extends_is_an_error(folder: Path, registry: Registry) -> None:
    for number in range(3000):
        (folder / f"{number}.toml").write_text(f'extends = "{number + 1}.toml"\n')
    text = str(outcome("0.toml", registry))
    assert text.startswith("49.toml:1:11: `extends` forms a chain of more than 50 recipes\n")


ends = some.floats(0, 1, exclude_min=True, exclude_max=True)
sides = some.integers(8, 64)
texts = some.text(some.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
visible = some.characters(categories=["L", "N", "S"], include_characters=" '\"")
recipes = some.fixed_dictionaries(
    {
        "data": some.one_of(
            some.fixed_dictionaries({}, optional={"image_size": sides | some.lists(sides, min_size=2, max_size=2)}),
            some.fixed_dictionaries({"use": some.just("image-folder"), "root": texts}),
        ),
        "schedule": some.sampled_from([{}, {"use": "linear"}, {"use": "ddpmkit/cosine", "s": 1}]),
        "train": some.fixed_dictionaries(
            {},
            optional={
                "steps": some.integers(1, 2**63 - 1),
                "learning_rate": some.floats(0, allow_infinity=False, exclude_min=True) | some.integers(1, 9),
                "betas": some.lists(ends, min_size=2, max_size=2),
                "keep_best": some.sampled_from(["", "fid"]),
            },
        ),
        "metric": some.lists(some.just({"use": "clean-fid"}), max_size=2),
        "tracker": some.lists(some.builds(dict, use=some.just("wandb"), tags=some.lists(texts)), max_size=2),
    },
    optional={"name": some.text(visible, min_size=1, max_size=8)},
)


@settings(quickly, max_examples=40)
@given(data=recipes)
def test_a_valid_recipe_is_unchanged_after_writing_and_reading(
    folder: Path, installed: Registry, data: dict[str, Any]
) -> None:
    if not data["metric"]:
        data["train"].pop("keep_best", None)
    recipe = read_recipe(data, registry=installed)
    for text in (
        recipe.to_toml(),
        lock_text(recipe, current_provenance(recipe, "a fingerprint")),
        toml_text({"name": recipe.name} | data),
    ):
        (folder / "again.toml").write_text(text, encoding="utf-8", newline="")
        assert read_recipe("again.toml", registry=installed) == recipe
    (folder / "recipe.lock.toml").write_text(
        lock_text(recipe, current_provenance(recipe, "a fingerprint")), encoding="utf-8", newline=""
    )
    assert read_lock(folder / "recipe.lock.toml", installed).recipe == recipe
    for options in ([], ["--origins"]):
        shown = CliRunner().invoke(main, ["recipe", "show", "again.toml", "--no-plugins", *options])
        (folder / "shown.toml").write_bytes(shown.stdout_bytes)
        assert read_recipe("shown.toml", registry=installed) == recipe


def test_line_breaks_in_an_option_stay_in_the_comment(folder: Path) -> None:
    Path("mine.toml").touch()
    overrides = ["data.use=image-folder", "name='a'\n\n", "data.root=x\n[y"]
    options = ["--no-plugins", "--origins", *(f"--set={override}" for override in overrides)]
    shown = CliRunner().invoke(main, ["recipe", "show", "mine.toml", *options])
    (folder / "shown.toml").write_bytes(shown.stdout_bytes)
    assert read_recipe("shown.toml").data.config.model_dump()["root"] == "x\n[y"


@pytest.mark.parametrize("seed", range(3))
def test_mutated_recipes_through_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    chance, results, shipped = random.Random(seed), Results(), furnish(tmp_path)
    for number in range(60):
        path = tmp_path / f"mutated-{number}.toml"
        path.write_bytes(mutated(chance, shipped))
        check(path, results, overrides(chance) if number % 5 == 0 else ())
    assert results.faults == []
    assert min(results.codes[0], results.codes[2]) > 2


LONGEST = 2**17
LARGE = {
    "keys": "".join(f"k{number}=1\n" for number in range(14_000)),
    "sections": "".join(f"[k{number}]\n" for number in range(12_000)),
    "keys of a section": "[train]\n" + "".join(f"k{number}=1\n" for number in range(14_000)),
    "entries": f"[data]\nclasses = [{'1,' * 60_000}]",
    "entries, some not ASCII": f"[data]\nclasses = ['é',{'1,' * 60_000}]",
    "entries twice": "[data]\nclasses = [" + ",".join(f"'{number // 2}'" for number in range(15_000)) + "]",
    "tables": "[[metric]]\n" * 11_000,
    "parts of a key": "a" + ".a" * 60_000 + " = 1",
    "parts of a header": "['a'" + " . 'a'" * 20_000 + "]",
    "depth": "a = " + "[" * 60_000,
    "digits": "[train]\nsteps = " + "9" * 100_000,
    "words without a point": "a " * 60_000,
    "one word": '[schedule]\nuse = "' + "x" * 100_000 + '"',
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", LARGE)
def test_large_files_are_rejected_quickly_with_a_short_message(folder: Path, installed: Registry, what: str) -> None:
    assert len(LARGE[what].encode()) < LONGEST
    (folder / "mine.toml").write_text(LARGE[what], encoding="utf-8")
    result = outcome("mine.toml", installed)
    assert isinstance(result, RecipeError)
    assert len(result.problems) <= 100
    assert len(str(result)) < 100_000


@pytest.mark.timeout(20)
@pytest.mark.parametrize("override", ["a" + ".a" * 60_000 + "=1", "x={a" + ".a" * 60_000 + "=1}", "x=" + "[" * 60_000])
def test_a_deep_override_is_rejected_quickly(installed: Registry, override: str) -> None:
    assert "nested too deeply" in str(outcome({}, installed, overrides=[override]))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("source", ["/dev/zero", "/dev/stdin", "pipe"])
def test_a_device_or_a_pipe_is_not_read(folder: Path, installed: Registry, source: str) -> None:
    if source == "pipe":
        os.mkfifo("pipe")
    Path("mine.toml").write_text(f'extends = "{source}"\n')
    for recipe in ("mine.toml", source):
        with pytest.raises(RecipeError, match=r"socket or a device|cannot be read|maximum for a recipe|no such file"):
            read_recipe(recipe, registry=installed)


def test_a_too_long_file_is_rejected(folder: Path, installed: Registry) -> None:
    (folder / "mine.toml").write_bytes(b"#" * LONGEST)
    read_recipe("mine.toml", registry=installed)
    (folder / "mine.toml").write_bytes(b"#" * (LONGEST + 1))
    assert "longer than 131,072 bytes" in str(outcome("mine.toml", installed))
