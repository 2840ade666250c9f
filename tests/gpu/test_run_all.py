"""The script that runs everything on a GPU: the time of the parts, what it reads, and its table. It needs no GPU."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from run_all import Part, Results, carry_out, goals, limits, outcomes_in, planned, report, take_results


def row(system: str, precision: str = "bfloat16", **numbers: Any) -> dict[str, Any]:
    names = ("images_per_second", "generated", "generated_per_second", "share_of_matmul_rate", "idle_share", "kernels")
    empty = dict.fromkeys((*names, "problem"))
    return {"system": system, "precision": precision, "batch_size": 32, **empty, **numbers}


@pytest.mark.parametrize(
    "log",
    [
        "tests/a.py::test_one[label dropout-4] PASSED [ 10%]\ntests/a.py::test_two FAILED   [100%]\n"
        "=== short test summary info ===\nFAILED tests/a.py::test_three - assert 1 == 2\n",
        "[gw1] [ 10%] PASSED tests/a.py::test_one[label dropout-4] \ntests/a.py::test_two \n"
        "[gw0] [100%] FAILED tests/a.py::test_two \n",
    ],
    ids=["one process", "several processes"],
)
def test_outcomes_are_read_from_the_output_of_pytest(log: str) -> None:
    assert outcomes_in(log) == {
        "tests/a.py::test_one[label dropout-4]": "passed",
        "tests/a.py::test_two": "failed",
    }


def test_time_that_a_part_does_not_use_is_left_to_the_others() -> None:
    parts = [Part("first", 3, []), Part("second", 2, []), Part("third", 1, [])]
    assert limits(parts, 600) == 300
    assert limits(parts[1:], 590) == pytest.approx(590 * 2 / 3)
    assert limits(parts[2:], 17) == 17


def test_a_part_that_takes_too_long_is_stopped_with_its_children(tmp_path: Path) -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    began = time.monotonic()
    part = Part("slow", 1, [sys.executable, "-c", child])
    carry_out(part, 1, tmp_path / "log", os.environ, tmp_path)
    assert time.monotonic() - began < 20
    assert not part.ended
    assert part.result == "stopped after 1 s: out of time"


def test_the_exit_code_of_a_part_is_reported(tmp_path: Path) -> None:
    part = Part("failing", 1, [sys.executable, "-c", "import sys; sys.exit('broken')"])
    carry_out(part, 60, tmp_path / "log", os.environ, tmp_path)
    assert part.ended
    assert part.result == "exit code 1"
    assert "broken" in (tmp_path / "log").read_text()


def test_goals_compare_with_the_faster_precision_of_lucidrains() -> None:
    results = Results(run_seconds=59.0, run_steps=10_000)
    results.rows = {
        "batch-32": [
            row("ddpmkit", images_per_second=1000.0, generated_per_second=90.0, idle_share=0.04),
            row("lucidrains", images_per_second=80.0, generated_per_second=10.0),
            row("lucidrains", "float32", images_per_second=100.0, generated_per_second=5.0),
        ],
        "batch-512": [row("ddpmkit", images_per_second=1000.0), row("lucidrains", problem="not installed")],
        "large": [row("attention-unet, dim 128", share_of_matmul_rate=0.3), row("DiT-B/4", share_of_matmul_rate=0.3)],
        "large-compiled": [row("DiT-B/4, compiled", share_of_matmul_rate=0.5)],
    }
    assert [goal.cells()[2:] for goal in goals(results)] == [
        ("10.0x", "met"),
        ("9.0x", "not met"),
        ("not measured", "-"),
        ("not measured", "-"),
        ("59 s", "met"),
        ("4%", "met"),
        ("30%", "not met"),
        ("50%", "met"),
    ]


def test_a_run_with_fewer_steps_does_not_meet_the_goal() -> None:
    (goal,) = [goal for goal in goals(Results(run_seconds=1.0, run_steps=20)) if "10,000" in goal.what]
    assert goal.cells()[2:] == ("not measured", "-")


def test_the_report_names_failed_tests_and_missing_measurements() -> None:
    results = Results({"device": "X"}, {"a.py::one": "passed", "a.py::two": "failed"})
    results.rows = {"batch-32": [row("lucidrains", problem="not measured: the package 'x' is not installed")]}
    results.parts = [Part("tests", 1, [], "exit code 1", 3.0, ended=True), Part("large", 1, [])]
    text = report(results)
    assert "| tests that need a GPU | all pass | 1 passed, 1 failed, 0 error | not met |" in text
    assert "- test failed: a.py::two" in text
    assert "- lucidrains, bfloat16, batch size 32: not measured: the package 'x' is not installed" in text
    assert "- large: not started: out of time, 0 s" in text


def test_results_of_a_stopped_run_are_read(tmp_path: Path) -> None:
    (tmp_path / "afhq_cat").mkdir()
    (tmp_path / "afhq_cat" / "metrics.jsonl").write_text('{"step": 10}\n{"step": 20}\n{"ste')
    (tmp_path / "large.json").write_text(json.dumps([row("DiT-B/4")]))
    results = Results()
    take_results(results, Part("afhq_cat", 1, [], "stopped", 9.0), tmp_path, tmp_path / "log")
    take_results(results, Part("large", 1, []), tmp_path, tmp_path / "log")
    assert (results.run_steps, results.run_seconds) == (20, None)
    assert results.rows == {"large": [row("DiT-B/4")]}


def test_every_part_names_an_existing_script(tmp_path: Path) -> None:
    commands = [word for part in planned(tmp_path, "cuda", tmp_path) for word in part.command]
    scripts = [Path(word) for word in commands if word.endswith((".py", ".toml"))]
    assert scripts
    assert all(script.is_file() for script in scripts)


def test_a_benchmark_starts_in_another_folder(tmp_path: Path) -> None:
    (part,) = [part for part in planned(tmp_path, "cuda", tmp_path) if part.name == "large"]
    done = subprocess.run([*part.command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--block-seconds" in done.stdout
