import resource
from collections.abc import Generator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the cache folder of the person who runs it."""
    cache: Path = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("DDPMKIT_CACHE", str(cache))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """A test may lower RLIMIT_FSIZE, which fails writes as a full disk does; pytest itself may write to a file too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        return (yield)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
