import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ddpmkit.cli import main
from ddpmkit.experiment.profile import Profile
from ddpmkit.experiment.step_work import Kernels

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
    assert rows["bytes a step"] == "0.00 G"
    assert re.fullmatch(r"\d+ GB/s; a step reaches \d+% of it", rows["copy rate"])


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_profile_on_cuda_shows_kernels_and_idle_time(
    recipe: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Profile(
        **{"device": "cuda", "parameters": 2_450_147, "batch_size": 32, "seconds": 4e-3, "phased_seconds": 8e-3},
        phases={"forward": 2e-3, "backward": 5e-3},
        **{"flops": 26_000_000_000, "bytes_moved": 2_500_000_000, "peak_memory": 10**9},
        **{"matmul_rate": 650e12, "copy_rate": 2.5e12},
        kernels=Kernels(1203.4, 3e-3),
    )
    monkeypatch.setattr("ddpmkit.experiment.profile.profile", lambda *_arguments: found)
    monkeypatch.setenv("COLUMNS", str(width))
    result = CliRunner().invoke(main, ["profile", str(recipe), "--plugin", PARTS])
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 60
    rows = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in result.stdout.splitlines())
    assert rows["step in phases"] == "8.00 ms"
    assert rows["backward"] == "5.00 ms   62%"
    assert rows["other"] == "1.00 ms   12%"
    assert rows["kernels a step"] == "1,203, 3.00 ms"
    assert rows["device waits"] == "25% of a step"
    assert rows["matmul rate"] == "650,000 GFLOP/s; a step reaches 1% of it"
    assert rows["copy rate"] == "2,500 GB/s; a step reaches 25% of it"


def test_profile_writes_nothing(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["profile", str(recipe), "--steps", "1", "--plugin", PARTS])
    assert result.exit_code == 0
    assert list(tmp_path.iterdir()) == []
