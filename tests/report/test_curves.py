import math
import re

import pytest

from ddpmkit.report.curves import Curve, chart, log_ticks, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 10_000, [0, 2000, 4000, 6000, 8000, 10_000]),
        (0.13, 0.41, [0.2, 0.3, 0.4]),
        (-3, 1, [-3, -2, -1, 0, 1]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_numbers_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_log_ticks_are_ones_twos_and_fives_or_powers_where_they_are_many() -> None:
    assert [10**tick for tick in log_ticks(-1, math.log10(3))] == pytest.approx([0.1, 0.2, 0.5, 1, 2])
    assert log_ticks(-5.5, 2) == [-5, -4, -3, -2, -1, 0, 1, 2]


def points(markup: str) -> list[tuple[float, float]]:
    (line,) = re.findall(r'points="([^"]*)"', markup)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())]


def test_a_line_runs_from_the_left_edge_to_the_right_and_higher_values_stand_higher() -> None:
    line = points(chart("Loss", [Curve("training", [(0, 1.0), (50, 3.0), (100, 2.0)])]))
    assert line[0] == (56.0, 186.0)
    assert line[1] == (232.0, 14.0)
    assert line[2] == (408.0, 100.0)


def test_on_a_log_scale_equal_ratios_are_equal_distances() -> None:
    line = points(chart("Loss", [Curve("training", [(0, 0.01), (1, 0.1), (2, 1.0), (3, 0.0)])], logarithmic=True))
    assert [y for _, y in line] == [186.0, 100.0, 14.0]


def test_long_curves_are_averaged_and_keep_their_end() -> None:
    drawn = points(chart("Loss", [Curve("training", [(step, float(step % 2)) for step in range(10_001)])]))
    assert 200 < len(drawn) <= 402
    assert drawn[-1][0] == 408.0


def test_one_point_is_a_dot_and_none_is_nothing() -> None:
    assert "<circle" in chart("FID", [Curve("fid", [(1000, 150.85)])])
    assert chart("FID", [Curve("fid", [])]) == ""


def test_names_from_outside_are_escaped() -> None:
    drawn = chart("<script>", [Curve("<b>", [(0, 1.0), (1, 2.0)])])
    assert "<script>" not in drawn
    assert "<b>" not in drawn
    assert "&lt;script&gt;" in drawn
