"""Code that a lock names runs if this user's run wrote the lock; the lock of another user requires trust."""

import logging
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest

from ddpmkit.plugin import Component, ComponentConfig, RunsCode
from ddpmkit.plugin.registry import Registry
from ddpmkit.recipe import Recipe, current_provenance, lock_text, read_lock, read_recipe
from ddpmkit.recipe.trust import UntrustedCode, is_signed_by_user, key_file, signature

TARGET = f"{__name__}:Remembering"


class Config(ComponentConfig):
    extractor: Annotated[str, RunsCode("a function that is imported and called")] = "ours:default"
    size: int = 1


class Remembering:
    built: ClassVar[list[str]] = []

    def __init__(self, config: Config, **runtime: object) -> None:
        self.built.append(config.extractor)


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Remembering, "built", [])
    monkeypatch.setenv("DDPMKIT_STATE", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def registry() -> Registry:
    kinds = {"dataset": "critters", "schedule": "cosine", "backbone": "attention-unet", "loss": "l1"}
    plain = [Component(kind=kind, name=name, target=TARGET, summary="") for kind, name in kinds.items()]
    config = f"{__name__}:Config"
    coded = [
        Component(kind=kind, name=name, target=TARGET, summary="", config=config)
        for kind, name in (("sampler", "ancestral"), ("metric", "coded"))
    ]
    return Registry.from_components([*plain, *coded], namespace="ddpmkit")


@pytest.fixture
def lock(registry: Registry) -> Callable[..., Path]:
    """The lock of a run, written by the user whose state folder is `state`."""

    def write(code: str = "evil:go", state: str = "mine", **sampler: Any) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DDPMKIT_STATE", str(Path(state).absolute()))
            data = {"metric": [{"use": "coded", "extractor": code}], "sampler": sampler}
            recipe = read_recipe(data, registry=registry)
            Path("recipe.lock.toml").write_text(lock_text(recipe, current_provenance(recipe, "abc123")))
        return Path("recipe.lock.toml")

    return write


def build(recipe: Recipe) -> list[str]:
    recipe.metrics[0].build()
    return Remembering.built


def test_an_own_lock_needs_no_flag(lock: Callable[..., Path], registry: Registry) -> None:
    assert build(read_lock(lock(), registry).recipe) == ["evil:go"]


def test_code_named_by_the_lock_of_another_user_runs_only_if_trusted(
    lock: Callable[..., Path], registry: Registry
) -> None:
    theirs = lock(state="theirs")
    recipe = read_lock(theirs, registry).recipe
    with pytest.raises(UntrustedCode) as caught:
        build(recipe)
    assert Remembering.built == []
    assert caught.value.message == (
        "recipe.lock.toml was not written by one of your runs, or was changed later. It names code to run:\n"
        '    metric.0.extractor = "evil:go"  a function that is imported and called'
    )
    assert caught.value.remedies[0].startswith("add --trust to run this code")
    assert caught.value.remedies[1] == "add --set 'metric.0.extractor=...' to replace it with your value"
    recipe.sampler.build()
    assert Remembering.built == ["ours:default"]
    assert build(read_lock(theirs, registry, trust=True).recipe) == ["ours:default", "evil:go"]


def test_all_untrusted_code_is_listed_together(lock: Callable[..., Path], registry: Registry) -> None:
    recipe = read_lock(lock(state="theirs", use="ancestral", extractor="evil:too"), registry).recipe
    with pytest.raises(UntrustedCode, match=r'sampler.extractor = "evil:too"(?s:.*)metric.0.extractor = "evil:go"'):
        build(recipe)


def test_a_default_of_an_installed_component_needs_no_trust(lock: Callable[..., Path], registry: Registry) -> None:
    assert build(read_lock(lock("ours:default", state="theirs"), registry).recipe) == ["ours:default"]


def test_code_set_by_the_user_is_trusted(lock: Callable[..., Path], registry: Registry) -> None:
    overrides = ["metric.0.extractor=mine:own", "metric.0.size=2"]
    assert build(read_recipe(lock(state="theirs"), overrides=overrides, registry=registry)) == ["mine:own"]
    with pytest.raises(UntrustedCode):
        build(read_recipe("recipe.lock.toml", overrides=["metric.0.size=2"], registry=registry))


def test_code_in_a_recipe_file_is_trusted(registry: Registry) -> None:
    Path("mine.toml").write_text('[[metric]]\nuse = "coded"\nextractor = "mine:own"\n')
    assert build(read_recipe("mine.toml", registry=registry)) == ["mine:own"]


@pytest.mark.parametrize("own", [True, False])
def test_a_recipe_that_extends_a_lock_is_trusted_like_the_lock(
    own: bool, lock: Callable[..., Path], registry: Registry
) -> None:
    lock(state="mine" if own else "theirs")
    Path("mine.toml").write_text('extends = "recipe.lock.toml"\n[train]\nsteps = 7\n')
    recipe = read_recipe("mine.toml", registry=registry)
    if own:
        assert build(recipe) == ["evil:go"]
    else:
        with pytest.raises(UntrustedCode, match=r"^recipe.lock.toml was not written"):
            build(recipe)


@pytest.mark.parametrize("old", ["evil:go", "steps = 10_000", 'dataset_fingerprint = "abc123"'])
def test_a_changed_lock_is_no_longer_trusted(old: str, lock: Callable[..., Path], registry: Registry) -> None:
    text = lock().read_text()
    assert text.count(old) == 1
    new = old.replace("go", "do").replace("10_000", "10_001").replace("abc", "abd")
    Path("recipe.lock.toml").write_text(text.replace(old, new))
    with pytest.raises(UntrustedCode):
        build(read_lock(Path("recipe.lock.toml"), registry).recipe)


def test_other_spacing_and_line_ends_keep_the_signature_valid(lock: Callable[..., Path], registry: Registry) -> None:
    text = lock().read_text().replace(" = ", "=").replace("\n", "\r\n")
    Path("recipe.lock.toml").write_bytes(text.encode())
    assert build(read_lock(Path("recipe.lock.toml"), registry).recipe) == ["evil:go"]


def test_a_run_signs_no_code_that_it_does_not_trust(lock: Callable[..., Path], registry: Registry) -> None:
    recipe = read_lock(lock(state="theirs"), registry).recipe
    Path("recipe.lock.toml").write_text(lock_text(recipe, current_provenance(recipe, "abc123")))
    with pytest.raises(UntrustedCode):
        build(read_lock(Path("recipe.lock.toml"), registry).recipe)


def test_the_key_is_created_once_and_readable_only_by_its_owner(lock: Callable[..., Path]) -> None:
    data: dict[str, Any] = {"lock": {}}
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: signature(data), range(32)))) == 1
    assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
    assert [file.name for file in key_file().parent.iterdir()] == [key_file().name]
    assert is_signed_by_user({"lock": {"signature": signature(data)}})


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_key_is_replaced_by_another(content: bytes) -> None:
    key_file().parent.mkdir()
    key_file().write_bytes(content)
    assert not is_signed_by_user({"lock": {"signature": "0" * 64}})
    signed = signature({"lock": {}})
    assert signed is not None
    assert is_signed_by_user({"lock": {"signature": signed}})


def test_an_unwritable_state_folder_is_reported_if_the_recipe_names_code(
    lock: Callable[..., Path], registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    Path("file").touch()
    lock("ours:default", state="file/below")
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        lock("evil:go", state="file/below")
    assert "will require --trust" in caplog.text
    with pytest.raises(UntrustedCode):
        build(read_lock(Path("recipe.lock.toml"), registry).recipe)
