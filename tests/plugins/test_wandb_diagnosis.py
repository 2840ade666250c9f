import os
import sys
from pathlib import Path

import pytest
import wandb

from ddpmkit_plugins.wandb_tracker.diagnosis import connection

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path where `wandb login` stores a key; there is no key and no setting."""
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "netrc"


def test_without_a_key_runs_go_offline() -> None:
    found = connection()
    assert found.state == "note"
    assert found.finding == f"{wandb.__version__}, no key for wandb.example.org: runs are offline"
    assert "wandb login" in found.remedies


@pytest.mark.parametrize("place", ["environment", "netrc"])
def test_a_key_is_found_and_never_shown(netrc: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    if place == "environment":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    else:
        netrc.write_text(f"machine wandb.example.org\n  login user\n  password {KEY}\n")
    found = connection()
    assert found.state == "ok"
    assert found.finding.endswith("with a key for wandb.example.org: runs are online")
    assert KEY[:8] not in str(found)


def test_a_key_of_another_server_does_not_count(netrc: Path) -> None:
    netrc.write_text(f"machine elsewhere.example.org login user password {KEY}\n")
    assert connection().state == "note"


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_mode_in_the_settings_of_wandb_is_named(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", mode)
    found = connection()
    assert found.state == "note"
    assert f"its own settings have mode {mode!r}" in found.finding
    assert "unset WANDB_MODE" in found.remedies


def test_wandb_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert (connection().state, connection().remedies) == ("problem", ("pip install wandb",))


def test_nothing_is_left_running() -> None:
    connection()
    assert wandb.run is None
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if children.exists():
        names = [Path(f"/proc/{child}/comm").read_text().strip() for child in children.read_text().split()]
        assert "wandb-core" not in names
