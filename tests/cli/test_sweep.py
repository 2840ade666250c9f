"""`ddpmkit sweep` from the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ddpmkit.cli import main

RECIPE = """
[data]
use = "critters"
image_size = 8
size = 8
val_size = 4
[diffusion]
timesteps = 6
[backbone]
dim = 8
multipliers = [1, 2]
linear_attention_levels = [1]
heads = 1
head_dim = 8
[sampler]
count = 4
[train]
steps = 3
batch_size = 4
log_every = 1
[sweep.over]
loss.use = ["l1", "l2"]
train.seed = [0, 1]
"""


def sweep(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["sweep", "tiny.toml", *arguments])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "tiny.toml").write_text(RECIPE)


def test_a_dry_run_prints_the_runs_and_starts_none() -> None:
    done = sweep("--dry-run")
    assert done.exit_code == 0
    assert "loss.use" in done.output
    assert "4-l2-1" in done.output
    assert not Path("results").exists()


def test_every_run_has_its_folder_and_its_row_in_the_table() -> None:
    done = sweep()
    assert done.exit_code == 0, done.output
    folders = sorted(path.name for path in Path("results/tiny").iterdir())
    assert folders == ["1-l1-0", "2-l1-1", "3-l2-0", "4-l2-1"]
    for name in folders:
        assert (Path("results/tiny") / name / "recipe.lock.toml").exists()
    assert done.output.count("finished") >= 4
    assert "validation loss" in done.output
    again = sweep()
    assert again.exit_code == 0
    log = [json.loads(line) for line in Path("results/tiny/1-l1-0/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line["event"] == "step"] == [1, 2, 3]


def test_a_failed_run_does_not_stop_the_sweep() -> None:
    Path("results/tiny").mkdir(parents=True)
    Path("results/tiny/2-l1-1").write_text("in the way")
    done = sweep()
    assert done.exit_code == 1
    assert "2-l1-1 failed" in done.output
    assert (Path("results/tiny/4-l2-1") / "report.html").exists()
    Path("results/tiny/2-l1-1").unlink()
    assert sweep().exit_code == 0
    assert (Path("results/tiny/2-l1-1") / "report.html").exists()
