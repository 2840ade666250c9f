import importlib.metadata
import sys
import types

import pytest

from ddpmkit.doctor.packages import Requirement, packages, python, requirements, torch_package

REQUIRED = ["numpy>=2.0", "Zig.Zag-3 [fast] >=1.10", "plain", "torch>=2.10", 'pytest>=8; extra == "dev"']


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The installed versions, with a ddpmkit that requires `REQUIRED`."""
    versions: dict[str, str] = {"numpy": "2.3.1", "Zig.Zag-3": "1.10.0", "plain": "0.1", "torch": "2.11.0+cu132"}

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRED)
    monkeypatch.setattr(importlib.metadata, "version", version)
    return versions


def test_extras_are_not_required(installed: dict[str, str]) -> None:
    assert [str(requirement) for requirement in requirements()] == [
        "numpy>=2.0",
        "Zig.Zag-3>=1.10",
        "plain",
        "torch>=2.10",
    ]


def test_requirements_are_those_of_pyproject() -> None:
    required = dict(requirements())
    assert tuple(map(int, required["torch"].split("."))) >= (2, 10)
    assert {"numpy", "pydantic", "safetensors", "wandb"} <= set(required)
    assert not {"pytest", "mypy"} & set(required)


def test_all_requirements_are_installed(installed: dict[str, str]) -> None:
    found = packages()
    assert (found.state, found.finding, found.remedies) == ("ok", "all 3 are installed and recent enough", ())


def test_missing_and_old_packages_are_reported_with_one_command(installed: dict[str, str]) -> None:
    del installed["plain"]
    installed["Zig.Zag-3"] = "1.9.4"
    found = packages()
    assert found.state == "problem"
    assert found.finding == "Zig.Zag-3 1.9.4 is older than 1.10; plain is not installed"
    assert found.remedies == ("pip install 'Zig.Zag-3>=1.10' plain",)


@pytest.mark.parametrize(
    ("version", "sufficient"),
    [("2.10", True), ("2.10.0a0+git12", True), ("2.9.1", False), ("10.0", True), ("2.10.1.post1", True), ("2", False)],
)
def test_versions_are_compared_as_numbers(installed: dict[str, str], version: str, sufficient: bool) -> None:
    installed["torch"] = version
    assert (Requirement("torch", "2.10").unmet_reason() is None) == sufficient


def test_python_is_compared_with_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    found = python()
    assert found.state == "ok"
    assert sys.executable in found.finding
    monkeypatch.setattr("platform.python_version", lambda: "3.9.18")
    old = python()
    assert (old.state, old.remedies) == ("problem", ("install Python 3.11 or newer",))


def test_the_build_of_torch_is_shown() -> None:
    import torch

    found = torch_package()
    assert found.state == "ok"
    assert found.finding.startswith(f"{torch.__version__}, built ")


def test_an_old_torch_is_a_problem(installed: dict[str, str]) -> None:
    installed["torch"] = "2.4.1"
    found = torch_package()
    assert (found.state, found.finding) == ("problem", "torch 2.4.1 is older than 2.10")
    assert found.remedies == ("pip install --upgrade 'torch>=2.10' torchvision",)


def test_a_folder_that_hides_torch_is_named(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.ModuleType("torch")
    other.__spec__ = importlib.machinery.ModuleSpec("torch", None, is_package=True)
    other.__spec__.submodule_search_locations = ["/here/torch"]
    monkeypatch.setitem(sys.modules, "torch", other)
    found = torch_package()
    assert found.state == "problem"
    assert found.finding == ("/here/torch does not work: AttributeError: module 'torch' has no attribute '__version__'")
    assert "Traceback" in found.details
