import math
import re

import pytest

from ddpmkit.report.curves import Curve, chart, log_ticks, smoothed, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 10_000, [0, 2000, 4000, 6000, 8000, 10_000]),
        (0.13, 0.41, [0.2, 0.3, 0.4]),
        (-3, 1, [-3, -2, -1, 0, 1]),
        (5, 5, [5]),
        (2e-5, 6e-5, [2e-5, 3e-5, 4e-5, 5e-5, 6e-5]),
    ],
)
def test_ticks_are_round_numbers_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_log_ticks_are_ones_twos_and_fives_or_only_powers() -> None:
    assert [10**tick for tick in log_ticks(-1, math.log10(3))] == pytest.approx([0.1, 0.2, 0.5, 1, 2])
    assert log_ticks(-5.5, 2) == [-5, -4, -3, -2, -1, 0, 1, 2]


def test_a_narrow_log_axis_has_ticks() -> None:
    assert [10**tick for tick in log_ticks(math.log10(0.131), math.log10(0.158))] == pytest.approx([0.14, 0.15])


def lines(markup: str) -> list[list[tuple[float, float]]]:
    found = re.findall(r'points="([^"]*)"', markup)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in found]


def labels(markup: str) -> list[str]:
    return re.findall(r'<text class="tick"[^>]*>([^<]*)</text>', markup)


def test_both_axes_start_at_zero() -> None:
    (line,) = lines(chart("Speed", [Curve("images/s", [(0, 0.0), (50, 4.0), (100, 2.0)])]))
    assert line == [(56.0, 186.0), (226.0, 14.0), (396.0, 100.0)]
    (late,) = lines(chart("FID", [Curve("fid", [(50, 2.0), (100, 4.0)])]))
    assert late == [(226.0, 100.0), (396.0, 14.0)]


def test_a_log_scale_shows_equal_ratios_as_equal_distances_and_skips_zero() -> None:
    figure = chart("Loss", [Curve("training", [(0, 0.01), (1, 0.1), (2, 1.0), (3, 0.0)])], logarithmic=True)
    (line,) = lines(figure)
    assert [y for _, y in line] == [186.0, 100.0, 14.0]
    assert {"0.01", "0.1", "1"} < set(labels(figure))


def test_ticks_are_written_in_full() -> None:
    assert {"2,000", "10,000", "step"} < set(labels(chart("Loss", [Curve("training", [(0, 1.0), (10_000, 2.0)])])))


def test_a_noisy_curve_is_behind_its_running_mean() -> None:
    noise = [(step, 1.0 + (-1) ** step) for step in range(1, 401)]
    raw, mean = lines(chart("Loss", [Curve("training", noise, noisy=True)]))
    assert {y for _, y in raw} == {14.0, 186.0}
    assert all(abs(y - 100.0) < 10 for _, y in mean)


def test_the_window_of_the_running_mean_is_truncated_at_the_ends() -> None:
    values = [float(step**2) for step in range(80)]  # a window of 2 to either side
    line = [value for _, value in smoothed(list(enumerate(values)))]
    assert line[40] == pytest.approx(sum(values[38:43]) / 5)
    assert (line[0], line[-1]) == (pytest.approx(sum(values[:3]) / 3), pytest.approx(sum(values[-3:]) / 3))
    assert smoothed([(1, 5.0), (2, 7.0)]) == [(1, 5.0), (2, 7.0)]


def test_the_legend_and_the_aria_label_contain_the_last_value() -> None:
    figure = chart("Loss", [Curve("training", [(1, 0.5), (2, 0.25)]), Curve("validation", [(2, 0.125)])])
    assert "training <b>0.25</b>" in figure
    assert 'aria-label="Loss: training ends at 0.25, validation ends at 0.125"' in figure


def test_long_curves_are_averaged_and_keep_their_last_point() -> None:
    (figure,) = lines(chart("Loss", [Curve("training", [(step, float(step % 2)) for step in range(10_001)])]))
    assert 200 < len(figure) <= 402
    assert figure[-1][0] == 396.0


def test_one_point_is_a_dot_and_no_points_are_no_chart() -> None:
    assert "<circle" in chart("FID", [Curve("fid", [(1000, 150.85)])])
    assert chart("FID", [Curve("fid", [])]) == ""


def test_names_from_outside_are_escaped() -> None:
    figure = chart("<script>", [Curve("<i>", [(0, 1.0), (1, 2.0)])])
    assert "<script>" not in figure
    assert "<i>" not in figure
    assert "&lt;script&gt;" in figure
