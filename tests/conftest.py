import os
import resource
import warnings
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# There is one worker per core (`-n auto` in pyproject.toml), so torch gets one thread.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu-tests-on", metavar="DEVICE", help="run the tests marked gpu on this device, such as cuda:0")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--gpu-tests-on") is None:
        for item in items:
            if item.get_closest_marker("gpu") is not None:  # the folder `gpu` is a keyword too
                item.add_marker(pytest.mark.skip(reason="needs a GPU: run with --gpu-tests-on cuda"))


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Generator[None, None, None]:
    """Use a state folder of the test session, so that no test reads or writes the signing key of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPMKIT_STATE", str(tmp_path_factory.getbasetemp() / "state"))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a cache folder of the test session, so that no test reads or fills that of the user."""
    cache: Path = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("DDPMKIT_CACHE", str(cache))


@pytest.fixture
def sqrtm_with_disp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore `sqrtm(disp=False)` for clean-fid, which SciPy 1.17 deprecates and 1.18 removes.

    Since 1.17, sqrtm also warns of singular matrices, which occur with fewer images than features.
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
    """Restore RLIMIT_FSIZE after a test that lowers it to imitate a full disk, because pytest writes to files too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        return (yield)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
