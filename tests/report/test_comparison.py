import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from ddpmkit.cli import main
from ddpmkit.report.comparison import ComparedRun, differing_keys, read_runs, write_comparison
from ddpmkit.report.ranking import Ranking, rankings


def scores(value: float, **changes: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        **{"event": "scores", "step": 20, "metric": "clean-fid", "protocol": "standard", "comparable": True},
        **{"num_samples": 5000, "num_reference": 4000, "values": {"fid": value}, "floor": {"fid": 3.0}},
        **{"better": {"fid": "lower"}, "facts": {"extractor SHA-256": "ab", "floor": "of halves"}},
    }
    return record | changes


def ranked(runs: list[ComparedRun]) -> list[Ranking]:
    return list(rankings([(run.name, run.scores) for run in runs]))


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


def test_all_keys_with_different_values_are_listed(made) -> None:  # type: ignore[no-untyped-def]
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


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('[loss]\nuse = "l1"\n[train]\nsteps = 9\n', ""),
        ('[loss]\nuse = "huber"\n', "last loss: not comparable: the runs differ in loss.use\n"),
        ('[loss]\nuse = "l1"\n[data]\nuse = "critters"\nsize = 3\n', "the runs differ in data.use\n"),
        (
            '[loss]\nuse = "p2"\ngamma = 1\n[diffusion]\na = 1\nb = 2\n[schedule]\nrho = 7\ns = 1\n',
            "the runs differ in diffusion.a, diffusion.b, loss.use, schedule.rho and 1 more\n",
        ),
    ],
)
def test_losses_that_measure_different_things_are_not_comparable(made, second: str, message: str) -> None:  # type: ignore[no-untyped-def]
    folders = [str(made("a", '[loss]\nuse = "l1"\n')), str(made("b", second))]
    page = Path(folders[0]) / "page.html"
    done = CliRunner().invoke(main, ["compare", *folders, "--out", str(page)], env={"COLUMNS": "100"})
    assert done.exit_code == 0
    assert "last step   20    20" in done.stdout
    if message:
        assert message in done.stdout
        assert f"{message.removeprefix('last loss: ').strip()}." in page.read_text()
    else:
        assert "not comparable" not in done.stdout + page.read_text()


@pytest.mark.parametrize(("better", "best"), [("lower", 1), ("higher", 0)])
def test_scores_measured_in_the_same_way_are_ranked(made, better: str, best: int) -> None:  # type: ignore[no-untyped-def]
    older = scores(1.0)
    first = made("a", "", older, scores(40.0, better={"fid": better}))
    second = made("b", "", scores(30.0, better={"fid": better}, floor={"fid": 3.1}, facts={"extractor SHA-256": "ab"}))
    (ranking,) = ranked(read_runs([first, second]))
    assert (ranking.title, ranking.values, ranking.best) == ("clean-fid fid", [40.0, 30.0], best)
    assert ranking.note == f"{better} is better"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"num_samples": 512}, "not ranked: different samples: 5,000 (a); 512 (b)"),
        ({"num_reference": 17}, "not ranked: different reference images: 4,000 (a); 17 (b)"),
        ({"facts": {"extractor SHA-256": "cd"}}, "not ranked: different extractor SHA-256: ab (a); cd (b)"),
        ({"facts": {}}, "not ranked: different extractor SHA-256: ab (a); none (b)"),
        (
            {"protocol": "original", "comparable": False},
            "not ranked: scores by the protocol of b cannot be compared with others",
        ),
    ],
)
def test_scores_measured_differently_are_not_ranked_and_the_reason_is_shown(made, changes, why) -> None:  # type: ignore[no-untyped-def]
    (ranking,) = ranked(read_runs([made("a", "", scores(40.0)), made("b", "", scores(30.0, **changes))]))
    assert (ranking.values, ranking.best, ranking.note) == ([40.0, 30.0], None, why)


def test_different_samplers_are_ranked(made) -> None:  # type: ignore[no-untyped-def]
    records = [scores(value, facts={"sampler": sampler}) for value, sampler in ((40.0, "ddim"), (30.0, "ancestral"))]
    (ranking,) = ranked(read_runs([made(name, "", record) for name, record in zip("ab", records, strict=True)]))
    assert ranking.best == 1


def test_a_score_without_a_better_direction_is_not_ranked(made) -> None:  # type: ignore[no-untyped-def]
    near = scores(40.0, better={"fid": "neither"})
    (ranking,) = ranked(read_runs([made("a", "", near), made("b", "", near)]))
    assert (ranking.best, ranking.note) == (None, "not ranked: neither lower nor higher is better")


def test_a_single_score_is_not_ranked(made) -> None:  # type: ignore[no-untyped-def]
    (ranking,) = ranked(read_runs([made("a", "", scores(40.0)), made("b", "")]))
    assert (ranking.values, ranking.best) == ([40.0, None], None)
    assert ranking.note == "not ranked: only one run has it"


def test_the_page_has_the_differences_the_scores_and_the_grids(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    one = made("a", '[loss]\nuse = "<l1>"', scores(40.0))
    runs = read_runs([one, made("b", "", scores(30.0))])
    text = write_comparison(runs, tmp_path / "page.html").read_text()
    assert "&lt;l1&gt;" in text
    assert "<b>30</b>" in text
    assert text.count("data:image/png;base64,") == 2
    assert "Loss" in text


def test_the_command_marks_the_best_score_or_shows_why_none_is_marked(made, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", "120")
    folders = [str(made("a", "[train]\nseed = 1", scores(40.0))), str(made("b", "[train]\nseed = 2", scores(30.0)))]
    done = CliRunner().invoke(main, ["compare", *folders, "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert "train.seed" in done.output
    assert "30 *" in done.output
    assert (tmp_path / "page.html").exists()
    unlike = str(made("c", "", scores(1.0, num_samples=7)))
    assert "not ranked: different samples" in CliRunner().invoke(main, ["compare", folders[0], unlike]).output


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["compare", str(tmp_path)])
    assert done.exit_code == 2
    assert "is not a run folder" in done.output


@pytest.mark.parametrize("lock", [b"\xff", b"train = 1", b"[" * 100_000, b"name = []"])
def test_a_damaged_lock_is_named(made, lock: bytes) -> None:  # type: ignore[no-untyped-def]
    folder = made("a", "", scores(40.0))
    (folder / "recipe.lock.toml").write_bytes(lock)
    done = CliRunner().invoke(main, ["compare", str(folder)])
    assert done.exit_code == 2
    assert "recipe.lock.toml" in done.output
    assert "Traceback" not in done.output


def test_an_unreadable_grid_is_skipped(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    runs = [made("a", ""), made("b", "")]
    (runs[0] / "samples" / "step-00000020.png").write_bytes(b"")
    text = write_comparison(read_runs(runs), tmp_path / "page.html").read_text()
    assert text.count("data:image/png;base64,") == 1
    assert text.count("<img") == 1


def identified(value: float, origin: str = "run", **changes: Any) -> dict[str, Any]:
    """A line with an identity; `changes` replace entries of it."""
    metric = {"use": "clean-fid", "version": "0.1.0", "config": {}}
    identity = {"metric": metric, "num_samples": 5000, "reference": "abc", "sampler": {"use": "ddim"}, "seed": 0}
    return scores(value, identity={**identity, **changes}, origin=origin)


def test_the_latest_score_is_the_one_of_the_last_step(made) -> None:  # type: ignore[no-untyped-def]
    older = {**scores(1.0), "step": 10}
    (ranking,) = ranked(read_runs([made("a", "", scores(40.0), older), made("b", "", scores(30.0))]))
    assert (ranking.values, ranking.best) == ([40.0, 30.0], 1)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"reference": "def"}, "not ranked: different fingerprint of the reference: abc (a); def (b)"),
        (
            {"metric": {"use": "clean-fid", "version": "0.1.0", "config": {"neighbours": 3}}},
            "not ranked: different neighbours: none (a); 3 (b)",
        ),
        (
            {"metric": {"use": "clean-fid", "version": "0.2.0", "config": {}}},
            "lower is better; measured by different versions: 0.1.0 (a); 0.2.0 (b)",
        ),
        ({"seed": 1}, "lower is better"),
        ({"sampler": {"use": "heun"}}, "lower is better"),
    ],
)
def test_conditions_of_a_score_are_compared_except_those_in_which_runs_may_differ(made, change, why) -> None:  # type: ignore[no-untyped-def]
    (ranking,) = ranked(read_runs([made("a", "", identified(40.0)), made("b", "", identified(30.0, **change))]))
    assert ranking.note == why


def test_a_manual_evaluation_has_a_row_of_its_own(made) -> None:  # type: ignore[no-untyped-def]
    asked = {**identified(1.0, "request"), "step": 30}
    own, other = ranked(read_runs([made("a", "", identified(40.0), asked), made("b", "", identified(30.0))]))
    assert (own.title, own.values, own.best) == ("clean-fid fid", [40.0, 30.0], 1)
    assert (other.title, other.values, other.best) == ("clean-fid (manual) fid", [1.0, None], None)


def test_a_score_that_is_not_finite_is_shown_and_not_ranked(made) -> None:  # type: ignore[no-untyped-def]
    bad = {**identified(0.0), "values": {}, "unusable": {"fid": "nan"}}
    runs = read_runs([made("a", "", bad), made("b", "", identified(30.0)), made("c", "", identified(40.0))])
    (ranking,) = ranked(runs)
    assert (ranking.texts, ranking.values, ranking.best) == (["nan", "30", "40"], [None, 30.0, 40.0], 1)


def test_each_of_many_runs_has_its_colour_and_dashes(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    runs = read_runs([made(f"r{number:02}", f"[train]\nseed = {number}", identified(number)) for number in range(12)])
    text = write_comparison(runs, tmp_path / "page.html").read_text()
    for name, style in (("r00", "c0"), ("r04", "c4"), ("r05", "c0 d1"), ("r11", "c1 d2")):
        # In both tables and in the legends of all charts.
        assert text.count(f'<span class="key {style}">{name}') == 4
    assert text.count("data:image/png;base64,") == 12
    # Tables that are wider than the screen scroll by themselves.
    assert text.count('<div class="scroll"') == text.count("<table") == 2


def test_more_keys_than_runs_are_rows(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    keys = [f"key_{number}" for number in range(30)]
    runs = read_runs(
        [made(name, "[train]\n" + "\n".join(f'{key} = "<{name}>"' for key in keys)) for name in ("one", "two")]
    )
    text = write_comparison(runs, tmp_path / "page.html").read_text()
    rows = re.findall(r'<tr><th scope="row">train\.<wbr>(key_<wbr>\d+)</th>\n<td>(.*)</td>\n<td>(.*)</td>', text)
    assert [(key.replace("<wbr>", ""), one, two) for key, one, two in sorted(rows)] == [
        (key, "&#34;&lt;one&gt;&#34;", "&#34;&lt;two&gt;&#34;") for key in sorted(keys)
    ]


def test_runs_with_the_same_name_include_their_parent_folder(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    runs = read_runs([made("x/a", ""), made("y/a", ""), made("b", "")])
    assert [run.name for run in runs] == ["x/a", "y/a", "b"]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_sweep_fits_any_width(made, monkeypatch, width: int) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("COLUMNS", str(width))
    folders = [str(made(f"{n:02}-run", f"[train]\nseed = {n}", identified(40.0 - n))) for n in range(10)]
    done = CliRunner().invoke(main, ["compare", *folders])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= width
    assert sum("31 *" in line for line in lines) == 1
    assert all(f"{n:02}-run" in done.output for n in range(10))
