import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from ddpmkit.cli import main
from ddpmkit.errors import InputError
from ddpmkit.report.comparison import differing_keys, rankings, read_runs, write_comparison


def scores(value: float, **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        **{"event": "scores", "step": 20, "metric": "clean-fid", "protocol": "standard", "comparable": True},
        **{"num_samples": 5000, "num_reference": 4000, "values": {"fid": value}, "floor": {"fid": 3.0}},
        **{"better": {"fid": "lower"}, "facts": {"extractor SHA-256": "ab", "floor": "of halves"}},
    }
    return record | changes


@pytest.fixture
def made(tmp_path: Path):  # type: ignore[no-untyped-def]
    def made(name: str, recipe: str, *records: dict[str, Any], loss: float = 0.5) -> Path:
        folder = tmp_path / name
        (folder / "samples").mkdir(parents=True)
        (folder / "recipe.lock.toml").write_text(f'name = "{name}"\n{recipe}\n[lock]\nversions = {{}}\n')
        step = {
            **{"event": "step", "step": 20, "loss": loss, "validation_loss": None, "gradient_norm": 1.0},
            **{"learning_rate": 1e-3, "images_per_second": 9.0, "loss_by_quarter": [None] * 4},
        }
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (step, *records)))
        Image.new("RGB", (4, 4), "red").save(folder / "samples" / "step-00000020.png")
        return folder

    return made


def test_what_differs_is_every_key_whose_value_does(made) -> None:  # type: ignore[no-untyped-def]
    runs = read_runs(
        [
            made("a", '[loss]\nuse = "l1"\n[train]\nsteps = 5\n[[metric]]\nuse = "fd"\n'),
            made("b", '[loss]\nuse = "huber"\ndelta = 0.5\n[train]\nsteps = 5\n'),
        ]
    )
    assert differing_keys(runs) == [
        ("loss.delta", ["", "0.5"]),
        ("loss.use", ['"l1"', '"huber"']),
        ("metric.0.use", ['"fd"', ""]),
    ]


@pytest.mark.parametrize(("better", "best"), [("lower", 1), ("higher", 0)])
def test_scores_by_the_same_rules_are_ranked(made, better: str, best: int) -> None:  # type: ignore[no-untyped-def]
    older = scores(1.0)
    first = made("a", "", older, scores(40.0, better={"fid": better}))
    second = made("b", "", scores(30.0, better={"fid": better}, floor={"fid": 3.1}, facts={"extractor SHA-256": "ab"}))
    (ranking,) = rankings(read_runs([first, second]))
    assert (ranking.title, ranking.values, ranking.best) == ("clean-fid fid", [40.0, 30.0], best)
    assert ranking.remark == f"{better} is better"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_samples": 512}, "not ranked: unlike samples: a 5,000; b 512"),
        ({"num_reference": 17}, "not ranked: unlike reference images: a 4,000; b 17"),
        ({"facts": {"extractor SHA-256": "cd"}}, "not ranked: unlike extractor SHA-256: a ab; b cd"),
        ({"facts": {}}, "not ranked: unlike extractor SHA-256: a ab; b none"),
        ({"protocol": "original", "comparable": False}, "not ranked: the protocol of b compares with nothing else"),
    ],
)
def test_scores_by_unlike_rules_are_not_and_the_rule_is_named(made, changes, why) -> None:  # type: ignore[no-untyped-def]
    (ranking,) = rankings(read_runs([made("a", "", scores(40.0)), made("b", "", scores(30.0, **changes))]))
    assert (ranking.values, ranking.best, ranking.remark) == ([40.0, 30.0], None, why)


def test_samplers_may_be_ranked_against_each_other(made) -> None:  # type: ignore[no-untyped-def]
    records = [scores(value, facts={"sampler": sampler}) for value, sampler in ((40.0, "ddim"), (30.0, "ancestral"))]
    (ranking,) = rankings(read_runs([made(name, "", record) for name, record in zip("ab", records, strict=True)]))
    assert ranking.best == 1


def test_ways_that_are_no_better_are_no_ranking(made) -> None:  # type: ignore[no-untyped-def]
    near = scores(40.0, better={"fid": "neither"})
    (ranking,) = rankings(read_runs([made("a", "", near), made("b", "", near)]))
    assert (ranking.best, ranking.remark) == (None, "not ranked: neither way is better")


def test_one_score_alone_is_no_ranking(made) -> None:  # type: ignore[no-untyped-def]
    (ranking,) = rankings(read_runs([made("a", "", scores(40.0)), made("b", "")]))
    assert (ranking.values, ranking.best) == ([40.0, None], None)
    assert ranking.remark == "not ranked: only one run has it"


def test_the_page_has_the_differences_the_scores_and_the_grids(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    one = made("a", '[loss]\nuse = "<l1>"', scores(40.0))
    runs = read_runs([one, made("b", "", scores(30.0))])
    text = write_comparison(runs, tmp_path / "page.html").read_text()
    assert "&lt;l1&gt;" in text
    assert "<b>30</b>" in text
    assert text.count("data:image/png;base64,") == 2
    assert "Loss" in text


def test_a_page_has_as_many_runs_as_a_chart_has_colours(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    runs = read_runs([made(f"r{number}", "") for number in range(6)])
    with pytest.raises(InputError, match="at most 5 runs; these are 6"):
        write_comparison(runs, tmp_path / "page.html")


def test_the_command_marks_the_best_and_says_why_not(made, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "120")
    folders = [str(made("a", "[train]\nseed = 1", scores(40.0))), str(made("b", "[train]\nseed = 2", scores(30.0)))]
    done = CliRunner().invoke(main, ["compare", *folders, "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert "train.seed" in done.output
    assert "30 *" in done.output
    assert (tmp_path / "page.html").exists()
    unlike = str(made("c", "", scores(1.0, num_samples=7)))
    assert "not ranked: unlike samples" in CliRunner().invoke(main, ["compare", folders[0], unlike]).output


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["compare", str(tmp_path)])
    assert done.exit_code == 2
    assert "is no run folder" in done.output


@pytest.mark.parametrize("lock", [b"\xff", b"train = 1", b"[" * 100_000, b"name = []"])
def test_a_damaged_lock_is_named(made, lock: bytes) -> None:  # type: ignore[no-untyped-def]
    folder = made("a", "", scores(40.0))
    (folder / "recipe.lock.toml").write_bytes(lock)
    done = CliRunner().invoke(main, ["compare", str(folder)])
    assert done.exit_code == 2
    assert "recipe.lock.toml" in done.output
    assert "Traceback" not in done.output


def test_a_grid_that_cannot_be_read_is_left_out(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    runs = [made("a", ""), made("b", "")]
    (runs[0] / "samples" / "step-00000020.png").write_bytes(b"")
    text = write_comparison(read_runs(runs), tmp_path / "page.html").read_text()
    assert text.count("data:image/png;base64,") == 1
    assert text.count("<img") == 1
