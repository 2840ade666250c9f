"""Whatever is given to the reader is accepted or refused with an explanation; nothing else comes out of it."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from mutated_recipes import Answers, check, mutated

from ddpmkit.errors import InputError
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, read_recipe
from ddpmkit.recipe.schema import SECTIONS

RECIPES = Path(__file__).parent.parent.parent / "recipes"
SHIPPED = [path.read_bytes() for path in sorted(RECIPES.rglob("*.toml"))]
quickly = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover(third_party=False).registry()


def read(source: Any, registry: Registry, **keys: Any) -> Recipe | None:
    try:
        return read_recipe(source, registry=registry, **keys)
    except InputError:
        return None


plain = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text() | some.binary() | some.dates(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = some.sampled_from([*SECTIONS, "name", "extends", "lock"]) | some.text(max_size=6)
keys = some.sampled_from(["use", "steps", "image_size", "classes", "dim", "every", "betas", "seed"]) | some.text(
    max_size=6
)


@quickly
@given(content=some.binary(max_size=200))
def test_any_bytes_as_a_file(tmp_path: Path, registry: Registry, content: bytes) -> None:
    file = tmp_path / "recipe.toml"
    file.write_bytes(content)
    read(file, registry)


@quickly
@given(data=some.dictionaries(names, plain | some.dictionaries(keys, plain, max_size=4), max_size=5))
def test_any_plain_data(registry: Registry, data: dict[str, Any]) -> None:
    read(data, registry)


@quickly
@given(overrides=some.lists(some.text(max_size=40), max_size=4))
def test_any_overrides(registry: Registry, overrides: list[str]) -> None:
    read({}, registry, overrides=overrides)


@quickly
@given(overrides=some.lists(some.tuples(names, keys, some.text(max_size=12)), min_size=1, max_size=4))
def test_any_overrides_of_keys_that_may_exist(registry: Registry, overrides: list[tuple[str, str, str]]) -> None:
    read({}, registry, overrides=[f"{section}.{key}={value}" for section, key, value in overrides])


@quickly
@given(
    steps=some.integers(1, 10**6),
    rate=some.floats(1e-9, 10, exclude_min=True),
    size=some.integers(8, 64) | some.tuples(some.integers(8, 64), some.integers(8, 64)),
    name=some.text(some.characters(categories=["L", "N"]), min_size=1, max_size=8),
    use=some.sampled_from(["cosine", "linear", "ddpmkit/cosine"]),
)
def test_what_is_accepted_is_written_and_read_back_unchanged(
    tmp_path: Path, registry: Registry, steps: int, rate: float, size: Any, name: str, use: str
) -> None:
    data = {
        "name": name,
        "data": {"image_size": size},
        "schedule": {"use": use},
        "train": {"steps": steps, "learning_rate": rate},
    }
    recipe = read_recipe(data, registry=registry)
    file = tmp_path / "again.toml"
    file.write_text(recipe.to_toml(), encoding="utf-8")
    assert read_recipe(file, registry=registry) == recipe


@pytest.mark.parametrize("seed", range(3))
def test_mutated_recipes_through_the_command(tmp_path: Path, seed: int) -> None:
    chance, answers = random.Random(seed), Answers()
    for number in range(60):
        path = tmp_path / f"mutated{number}.toml"
        path.write_bytes(mutated(chance, SHIPPED))
        check(path, answers)
    assert answers.faults == []
    assert answers.codes[2] > 20


@pytest.mark.parametrize("length", [1, 2, 40])
def test_a_chain_that_returns_to_itself_is_refused(tmp_path: Path, registry: Registry, length: int) -> None:
    for number in range(length):
        (tmp_path / f"{number}.toml").write_text(f'extends = "{(number + 1) % length}.toml"\n')
    with pytest.raises(InputError, match="extends"):
        read_recipe(tmp_path / "0.toml", registry=registry)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("source", ["/dev/zero", "/dev/stdin", "pipe"])
def test_what_never_ends_is_not_read(tmp_path: Path, registry: Registry, source: str) -> None:
    import os

    path = tmp_path / "pipe" if source == "pipe" else Path(source)
    if source == "pipe":
        os.mkfifo(path)
    (tmp_path / "mine.toml").write_text(f'extends = "{path}"\n')
    for recipe in (tmp_path / "mine.toml", path):
        with pytest.raises(InputError, match=r"pipe or a device|cannot be read|no recipe is|no such file"):
            read_recipe(recipe, registry=registry)


def test_a_file_too_long_for_a_recipe_is_refused(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "long.toml").write_bytes(b"#" * 2_000_000)
    with pytest.raises(InputError, match="longer than"):
        read_recipe(tmp_path / "long.toml", registry=registry)
