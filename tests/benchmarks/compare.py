"""Compare ddpmkit with other packages on the same task; print medians and ratios as Markdown, and write JSON.

    python tests/benchmarks/compare.py --data data/afhq --rounds 5 --out docs/benchmarks.json

Needs `pip install denoising-diffusion-pytorch diffusers` in its environment. Every measurement is a separate process,
and the systems take turns, so that a slow moment of the machine affects all of them. `--python` names the interpreter
of another environment.
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
    arguments = parser.parse_args()
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
