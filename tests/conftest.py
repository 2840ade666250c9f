import os
import resource
import warnings
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# One worker a core (`-n auto` in pyproject.toml): more threads of torch than that would fight over the cores.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Generator[None, None, None]:
    """No test makes or uses the key of the person who runs it; runs of the same session are its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPMKIT_STATE", str(tmp_path_factory.getbasetemp() / "state"))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the cache folder of the person who runs it."""
    cache: Path = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("DDPMKIT_CACHE", str(cache))


@pytest.fixture
def sqrtm_with_disp(monkeypatch: pytest.MonkeyPatch) -> None:
    """clean-fid calls `sqrtm(disp=False)`, deprecated in SciPy 1.17 and removed in 1.18: give it what that returned.

    From 1.17 on, sqrtm also warns of every singular matrix, which any set of fewer images than features is.
    """
    import cleanfid.fid
    import scipy.linalg

    def sqrtm(matrix: Any, disp: bool = True) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
            root = scipy.linalg.sqrtm(matrix)
        return root if disp else (root, None)

    monkeypatch.setattr(cleanfid.fid, "linalg", SimpleNamespace(sqrtm=sqrtm))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """A test may lower RLIMIT_FSIZE, which fails writes as a full disk does; pytest itself may write to a file too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        return (yield)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
