from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the cache folder of the person who runs it."""
    cache: Path = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("DDPMKIT_CACHE", str(cache))
