"""Compare ddpmkit with other packages on the same task; print medians and ratios as Markdown, and write JSON.

    python tests/benchmarks/compare.py --data data/afhq --rounds 5 --out docs/benchmarks.json

Needs `pip install denoising-diffusion-pytorch diffusers` in its environment. Every measurement is a separate process,
and the systems take turns, so that a slow moment of the machine affects all of them. `--python` names the interpreter
of another environment.

    python tests/benchmarks/compare.py --data data/afhq --device cuda

measures on a GPU instead, in images per second: batch sizes 32 and 512, and two large networks. There, all systems of
a part are in one process (`throughput.py`).
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SYSTEMS = ("ddpmkit", "ddpmkit-coarse", "ddpmkit-adam", "ddpmkit-original", "lucidrains", "diffusers")
HEAD = (
    "| system | parameters | GFLOP per step | training steps/s | generated images/s "
    "| share of the matmul rate | peak memory |"
)

GPU_PARTS = ("batch-32", "batch-512", "large", "large-compiled")
GPU_HEAD = (
    "| system | precision | batch size | training images/s | generated images/s (at a time) | share of the matmul rate "
    "| device waits | kernels per step |"
)


def measured(system: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one system in a new process."""
    command = [
        *(arguments.python, str(Path(__file__).with_name("systems.py")), system),
        *("--data", str(arguments.data), "--steps", str(arguments.steps), "--batches", str(arguments.batches)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{system} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def median_of(rounds: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the median of each number over the rounds."""
    return {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}


def table(medians: Mapping[str, Mapping[str, float]]) -> str:
    """Return a Markdown table, then the ratios to the first system."""
    lines = [HEAD, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for system, found in medians.items():
        share = found["flops_a_step"] * found["steps_per_second"] / found["matmul_flops"]
        cells = [
            *(system, f"{found['parameters']:,.0f}", f"{found['flops_a_step'] / 1e9:.1f}"),
            *(f"{found['steps_per_second']:.2f}", f"{found['images_per_second']:.2f}", f"{share:.0%}"),
            f"{found['peak_memory'] / 1e6:,.0f} MB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    first = next(iter(medians))
    for system, found in list(medians.items())[1:]:
        training, sampling = (medians[first][key] / found[key] for key in ("steps_per_second", "images_per_second"))
        lines.append(f"\n{first} / {system}: training {training:.2f}x, sampling {sampling:.2f}x")
    return "\n".join(lines) + "\n"


def throughput_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of `throughput.py` as a Markdown table, then why numbers are missing."""
    lines = [GPU_HEAD, "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in rows:
        generated = "-"
        if row["generated_per_second"] is not None:
            generated = f"{row['generated_per_second']:,.1f} ({row['generated']:,})"
        cells = [
            *(row["system"], row["precision"], str(row["batch_size"]), _number(row["images_per_second"], ",.1f")),
            *(generated, _number(row["share_of_matmul_rate"], ".0%"), _number(row["idle_share"], ".0%")),
            _number(row["kernels"], ",.0f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for row in rows:
        if row["problem"] is not None:
            lines.append(f"- {row['system']}, {row['precision']}, batch size {row['batch_size']}: {row['problem']}")
    return "\n".join(lines) + "\n"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def measured_on_gpu(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every part in a new process."""
    rows: list[dict[str, Any]] = []
    for part in arguments.parts:
        command = [
            *(arguments.python, str(Path(__file__).with_name("throughput.py")), part),
            *("--data", str(arguments.data), "--device", arguments.device),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{part} failed:\n{done.stderr}")
        rows += json.loads(done.stdout)
    return rows


def main() -> None:
    """Measure all systems in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with the layout of AFHQ")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="measured training steps per round")
    parser.add_argument("--batches", type=int, default=2, help="measured batches of generated images per round")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--out", type=Path, help="where to write the JSON")
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU such as cuda")
    parser.add_argument("--parts", nargs="+", choices=GPU_PARTS, default=GPU_PARTS, help="parts to measure on a GPU")
    arguments = parser.parse_args()
    if arguments.device != "cpu":
        test = [arguments.python, "-c", "import sys, torch; torch.empty(0, device=sys.argv[1])", arguments.device]
        done = subprocess.run(test, capture_output=True, text=True, check=False)
        if done.returncode != 0:  # a warning alone does not stop it
            parser.error(f"--device {arguments.device} is not available: {done.stderr.strip().splitlines()[-1]}")
        rows = measured_on_gpu(arguments)
        sys.stdout.write(throughput_table(rows))
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        return
    rounds: dict[str, list[dict[str, Any]]] = {system: [] for system in arguments.systems}
    for _ in range(arguments.rounds):
        for system in arguments.systems:
            rounds[system].append(measured(system, arguments))
    medians = {system: median_of(found) for system, found in rounds.items()}
    sys.stdout.write(table(medians))
    if arguments.out is not None:
        facts = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        content = {**facts, "medians": medians, "rounds": rounds}
        arguments.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
