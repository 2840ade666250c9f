import resource
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the cache folder of the person who runs it."""
    cache: Path = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("DDPMKIT_CACHE", str(cache))


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    """A test may lower RLIMIT_FSIZE, which fails writes as a full disk does; afterwards it is as it was."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
