import io

import pytest
from rich.console import Console

from ddpmkit.cli.comparison_tables import differences, score_tables

_CHANGES = (
    "as it is",
    "schedule.use=linear",
    "loss.use=huber",
    "ema_decay=0.9999",
    "dit",
    "adamw",
    "muon",
    "t=9",
    "v",
    "p2",
)
NAMES = [f"{number:02}-{change}" for number, change in enumerate(_CHANGES, start=1)]
LOSSES = ['"l1"', '"l1"', '"huber"', *['"l1"'] * 6, '"p2"']
COLUMNS = [(f"metric-{number} score", [f"{100 * number + run}.25" for run in range(10)]) for number in range(6)]


def printed(shown: object, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, soft_wrap=True, highlight=False, markup=False).print(shown)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_scores_of_ten_runs_fit_any_width_without_breaking_names_or_numbers(width: int) -> None:
    text = "".join(printed(table, width) for table in score_tables(NAMES, COLUMNS, width))
    assert max(map(len, text.splitlines())) <= width
    for run, name in enumerate(NAMES):
        rows = [line for line in text.splitlines() if line.strip().startswith(name)]
        numbers = " ".join(line.strip().removeprefix(name) for line in rows).split()
        assert numbers == [column[run] for _, column in COLUMNS]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_differences_of_ten_runs_are_a_list_of_values_with_their_runs(width: int) -> None:
    lines = "".join(printed(shown, width) for shown in differences(NAMES, [("loss.use", LOSSES)], width)).splitlines()
    assert lines == [
        "loss.use",
        '  "huber"  03-loss.use=huber',
        '  "p2"     10-p2',
        '  "l1"     the other 8',
        "",
    ]


def test_names_are_not_broken_if_many_runs_share_a_value() -> None:
    values = ["1"] * 5 + ["2"] * 5
    lines = "".join(printed(shown, 60) for shown in differences(NAMES, [("train.seed", values)], 60)).splitlines()
    assert max(map(len, lines)) <= 60
    listed_names = [name.strip() for line in lines[1:] for name in line[5:].split(",") if name.strip()]
    assert listed_names == NAMES


def test_a_value_wider_than_the_terminal_wraps_on_its_own_lines() -> None:
    values = [*["short"] * 9, "word " * 30]
    lines = "".join(printed(shown, 60) for shown in differences(NAMES, [("key", values)], 60)).splitlines()
    assert max(map(len, lines)) <= 60
    assert sum(line.count("word") for line in lines) == 30


def test_one_wide_value_does_not_turn_the_other_keys_into_a_list() -> None:
    keys = [("data.root", ["a", "word " * 30]), *((f"train.key_{n}", [str(n), str(n + 1)]) for n in range(30))]
    table, *listed = differences(["a", "b"], keys, 60)
    rows = [line.split() for line in printed(table, 60).splitlines() if "train." in line]
    assert rows == [[key, *values] for key, values in keys[1:]]
    assert listed[0] == "data.root"
    assert max(len(line) for line in "".join(printed(shown, 60) for shown in [table, *listed]).splitlines()) <= 60


def test_two_runs_are_columns_of_one_table() -> None:
    (table,) = differences(["a", "b"], [("loss.use", ['"l1"', '"l2"'])], 80)
    text = printed(table, 80)
    assert text.split()[:3] == ["key", "a", "b"]
    (table,) = score_tables(["a", "b"], [("last loss", ["0.5", ""])], 80)
    assert printed(table, 80).split()[-4:] == ["last", "loss", "0.5", "-"]
