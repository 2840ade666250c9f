import hashlib
import sys
from pathlib import Path

import pytest
import torch

from ddpmkit_plugins.clean_fid import diagnosis
from ddpmkit_plugins.clean_fid.diagnosis import inception_file, torchvision_package


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the download, which does not exist; the environment names no other file."""
    monkeypatch.setenv("DDPMKIT_CACHE", str(tmp_path / "my cache"))
    monkeypatch.delenv("DDPMKIT_INCEPTION", raising=False)
    return tmp_path / "my cache" / "inception-2015-12-05.pt"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as the published one, which is not available in tests."""
    file = tmp_path / "published.pt"
    file.write_bytes(b"inception")
    monkeypatch.setattr(diagnosis, "SHA256", hashlib.sha256(b"inception").hexdigest())
    return file


@pytest.fixture
def torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source file of a torchvision that replaces the installed one."""
    (tmp_path / "torchvision").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    return tmp_path / "torchvision" / "__init__.py"


def test_a_missing_network_is_a_note_with_the_searched_paths(cached: Path) -> None:
    found = inception_file()
    assert found.state == "note"
    assert str(cached) in found.finding
    assert "DDPMKIT_INCEPTION is not set" in found.finding
    assert found.remedies[0].startswith(f"curl --location --create-dirs --output '{cached}' https://")
    assert not cached.parent.exists()


def test_the_published_network_is_accepted_at_any_path(
    cached: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached.parent.mkdir()
    cached.write_bytes(published.read_bytes())
    assert (inception_file().state, inception_file().finding) == ("ok", f"{cached}, SHA-256 as published")
    monkeypatch.setenv("DDPMKIT_INCEPTION", str(published))
    assert inception_file().finding == f"{published}, SHA-256 as published"


def test_another_file_is_a_problem(cached: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached.parent.mkdir()
    cached.write_bytes(b"incepti")  # incomplete
    found = inception_file()
    assert found.state == "problem"
    assert found.finding == (
        f"{cached} is not the published network: its SHA-256 begins with "
        f"{hashlib.sha256(b'incepti').hexdigest()[:12]}, not {hashlib.sha256(b'inception').hexdigest()[:12]}"
    )
    assert found.remedies == (f"rm '{cached}'  ddpmkit downloads it again",)


def test_a_missing_named_file_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPMKIT_INCEPTION", str(tmp_path / "gone.pt"))
    found = inception_file()
    assert found.state == "problem"
    assert found.finding == f"DDPMKIT_INCEPTION is {tmp_path / 'gone.pt'}, which does not exist"
    assert "correct the path" in found.remedies


def test_the_installed_torch_and_torchvision_match() -> None:
    assert torchvision_package().state == "ok"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "RuntimeError('operator torchvision::nms does not exist')",
            "operator torchvision::nms does not exist. The builds do not match",
        ),
        (
            "RuntimeError('Could not load custom C++ ops. This can happen if')",
            "The builds do not match",
        ),
        (
            "RuntimeError('Detected that PyTorch and torchvision were compiled with different CUDA major versions. ')",
            "they are built for different versions of CUDA",
        ),
        ("OSError('_C.so: undefined symbol: _ZN5torch7Library')", "The builds do not match"),
        ("ImportError('no numpy')", "ImportError: no numpy"),
    ],
)
def test_a_torchvision_that_does_not_match_is_named_with_cause_and_fix(
    torchvision: Path, error: str, said: str
) -> None:
    torchvision.write_text(f"raise {error}")
    found = torchvision_package()
    assert found.state == "problem"
    assert f"cannot be imported with torch {torch.__version__}: " in found.finding
    assert said in found.finding
    assert "pip install --force-reinstall torch torchvision" in found.remedies
    assert "Traceback" in found.details


def test_a_cpu_torchvision_with_a_cuda_torch_is_a_note(torchvision: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision.write_text("class version: cuda = None\n__version__ = '0.29+cpu'")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    assert torchvision_package().state == "note"
    assert "a CPU build, but torch is for CUDA 13.2" in torchvision_package().finding
    monkeypatch.setattr(torch.version, "cuda", None)
    assert torchvision_package().state == "ok"


def test_a_missing_torchvision_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise diagnosis.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(diagnosis.importlib.metadata, "version", version)
    assert (torchvision_package().state, torchvision_package().remedies) == ("note", ("pip install torchvision",))
