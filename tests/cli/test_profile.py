import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ddpmkit.cli import main

PARTS = str(Path(__file__).with_name("parts.py"))


def test_the_phases_of_a_step_add_up(recipe: Path) -> None:
    result = CliRunner().invoke(main, ["profile", str(recipe), "--steps", "3", "--plugin", PARTS])
    assert result.exit_code == 0, result.stderr
    rows = {line[:18].strip(): line[18:].strip() for line in result.stdout.splitlines()}
    phases = ("data and noise", "forward", "backward", "clipping", "optimizer", "moving average", "other")
    shares = [int(re.findall(r"(\d+)%", rows[phase])[0]) for phase in phases]
    assert 95 <= sum(shares) <= 105
    assert rows["parameters"] == "12"
    assert rows["FLOP a step"] == "0.00 G"
    assert re.fullmatch(r"[\d,]+ GFLOP/s; a step reaches \d+% of it", rows["matmul rate"])


def test_profile_writes_nothing(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["profile", str(recipe), "--steps", "1", "--plugin", PARTS])
    assert result.exit_code == 0
    assert list(tmp_path.iterdir()) == []
