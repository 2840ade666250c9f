"""Run the tests and the benchmarks that need a GPU within a few minutes, and print one table.

    python tests/gpu/run_all.py --collect-wheels wheels                 # on a machine with a network
    python tests/gpu/run_all.py --wheels wheels --data data/afhq --out results/gpu   # on the machine with the GPU

The machine with the GPU needs Python 3.12 and torch with torchvision, and no network. The wheels are installed into a
temporary folder. The most valuable parts come first. Each part gets its share of the time that is left; a part that is
stopped because its time is over is listed with what it has measured. `results.md` and `results.json` are written to
`--out` after every part.
"""

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WITH_DEPENDENCIES = (
    *("click", "einops", "filelock", "importlib_metadata", "jinja2", "packaging", "platformdirs", "pluggy"),
    *("pydantic", "pytest", "pytest-timeout", "pytest-xdist", "rich", "safetensors", "tree-sitter", "tree-sitter-toml"),
)
ALONE = ("clean-fid", "denoising-diffusion-pytorch", "diffusers", "ema-pytorch", "pytorch-fid")
"""Packages that need torch, which the machine has. Its own copies of the others serve too."""
LEFT_OUT = {
    "wandb": "25 MB, and no part uses it",
    "torch, torchvision, numpy, scipy, pillow": "the machine has them",
    "accelerate, huggingface_hub, requests, tqdm": "the machine has them; only the other packages need them",
}
_PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (28, 27, 17, 5)] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
_MOST_BYTES = 64 * 2**20
_STEPS = 10_000
_STARTED = time.monotonic()


@dataclass
class Part:
    """A part of the work, and what became of it."""

    name: str
    weight: float
    """Its share of the time that is left is this weight, relative to those of the parts that follow."""
    command: list[str]
    result: str = "not started: out of time"
    seconds: float = 0.0
    ended: bool = False
    """False if the part was stopped or never started."""


@dataclass
class Results:
    """All that was measured."""

    facts: dict[str, Any] = field(default_factory=dict)
    tests: dict[str, str] = field(default_factory=dict)
    """Outcome of each test by its name."""
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Rows of `tests/benchmarks/throughput.py` by part."""
    run_seconds: float | None = None
    """Seconds of `ddpmkit run recipes/afhq_cat.toml`, from the command to its end."""
    run_steps: int = 0
    parts: list[Part] = field(default_factory=list)


def collect_wheels(folder: Path) -> None:
    """Download the wheels that the machine with the GPU lacks, and build that of ddpmkit."""
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip"]
    platform = [option for each in _PLATFORMS for option in ("--platform", each)]
    download = [*pip, "download", "-q", "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    download += [*platform, "-d", str(folder)]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    subprocess.run([*download, *WITH_DEPENDENCIES], check=True)
    subprocess.run([*download, "--no-deps", *ALONE], check=True)
    wheels = sorted(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels)
    _say(f"{len(wheels)} wheels, {size / 2**20:.1f} MiB, in {folder}")
    for name, reason in LEFT_OUT.items():
        _say(f"left out: {name} ({reason})")
    if size > _MOST_BYTES:
        sys.exit(f"the wheels have more than {_MOST_BYTES / 2**20:.0f} MiB")


def install(wheels: Path, site: Path) -> None:
    """Install all wheels into the folder `site`, without a network."""
    files = [str(wheel) for wheel in sorted(wheels.glob("*.whl"))]
    if not files:
        sys.exit(f"{wheels} contains no wheel: fill it with --collect-wheels on a machine with a network")
    options = ["--no-index", "--no-deps", "--no-compile", "--no-warn-script-location", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *options, *files], check=True)


_STAND_IN_IMAGES = """
import sys
import numpy
from pathlib import Path
from PIL import Image

random = numpy.random.default_rng(0)
for split, count in (("train", 600), ("val", 20)):
    folder = Path(sys.argv[1], split, "cat")
    folder.mkdir(parents=True)
    for number in range(count):
        colours = random.integers(0, 256, (4, 4, 3), dtype=numpy.uint8)
        Image.fromarray(colours).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
"""

_FACTS = """
import json, os, platform, sys, torch
device = torch.device(sys.argv[1])
print(json.dumps({
    "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device} ({platform.machine()})",
    "cores": os.cpu_count(), "python": platform.python_version(), "torch": torch.__version__,
}))
"""


def planned(data: Path, device: str, folder: Path) -> list[Part]:
    """Return all parts, the most valuable ones first."""
    on_cpu = device.startswith("cpu")
    python = [sys.executable, "-P"]  # not the source tree, but the wheel
    tests = ["-m", "pytest", "-v", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
    tests += ["-o", "addopts=--strict-markers --import-mode=importlib", "--tb=short", "-m", "gpu", "--timeout=120"]
    # Warnings of another version of torch or of its driver are in the log. Other plugins of the machine stay out.
    tests += ["-o", "filterwarnings=default", "-p", "xdist.plugin", "-p", "pytest_timeout"]
    tests += ["-n", "2" if on_cpu else "4", "--gpu-tests-on", device, str(ROOT / "tests" / "gpu")]
    run = ["-m", "ddpmkit", "run", str(ROOT / "recipes" / "afhq_cat.toml"), "--out", str(folder / "afhq_cat")]
    changes = [f"data.root={data}", "metric=[]", "tracker=[]", f"train.device={device}"]
    changes += ["train.steps=20", "sampler.count=2"] if on_cpu else [f"train.steps={_STEPS}"]
    run += [option for change in changes for option in ("--set", change)]

    def throughput(name: str) -> list[str]:
        script = [str(ROOT / "tests" / "benchmarks" / "throughput.py"), name, "--data", str(data), "--device", device]
        return [sys.executable, *script, "--out", str(folder / f"{name}.json")]

    parts = [
        Part("tests", 3, [*python, *tests]),
        Part("batch-32", 2, throughput("batch-32")),
        Part("afhq_cat", 2, [*python, *run]),
        Part("batch-512", 2, throughput("batch-512")),
        Part("large", 1.5, throughput("large")),
        Part("large-compiled", 2, throughput("large-compiled")),
    ]
    # The compiler for CPUs takes minutes for each network.
    return [part for part in parts if not (on_cpu and part.name == "large-compiled")]


def limits(parts: Sequence[Part], remaining: float) -> float:
    """Return the seconds that the first of `parts` gets, of the `remaining` ones for all of them."""
    return remaining * parts[0].weight / sum(part.weight for part in parts)


def carry_out(part: Part, seconds: float, log: Path, environment: Mapping[str, str], folder: Path) -> None:
    """Run the command of a part for at most `seconds`, with its output in `log`."""
    command = list(part.command)
    if any(word.endswith("throughput.py") for word in command):
        # So that it ends by itself.
        command += ["--seconds", f"{max(1, 0.8 * seconds - 10):.0f}"]
    began = time.monotonic()
    with log.open("a", encoding="utf-8") as output:
        output.write(f"$ {shlex.join(command)}\n")
        output.flush()
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **streams)
        try:
            code = process.wait(seconds)
            part.ended, part.result = True, "done" if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            part.result = f"stopped after {seconds:.0f} s: out of time"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    part.seconds = time.monotonic() - began


_OUTCOME = re.compile(r"(PASSED|FAILED|ERROR|SKIPPED)")


def outcomes_in(log: str) -> dict[str, str]:
    """Return the outcome of each test in the output of `pytest -v`, with or without xdist."""
    found: dict[str, str] = {}
    for line in log.splitlines():
        if "short test summary" in line:
            break
        if "::" not in line or (match := _OUTCOME.search(line)) is None:
            continue
        before, after = line[: match.start()], line[match.end() :]
        name = before if "::" in before else after
        found[re.sub(r"\[gw\d+\]|\[ *\d+%\]", "", name).strip()] = match[1].lower()
    return found


@dataclass(frozen=True)
class Goal:
    """A number to reach."""

    what: str
    wanted: str
    measured: float | None
    text: str
    """The measured number with its unit."""
    is_met: Callable[[float], bool]

    def cells(self) -> tuple[str, str, str, str]:
        """Return the cells of the row of the table."""
        if self.measured is None:
            return self.what, self.wanted, "not measured", "-"
        return self.what, self.wanted, self.text, "met" if self.is_met(self.measured) else "not met"


def goals(results: Results) -> list[Goal]:
    """Return all goals with what was measured."""
    found = []
    for part, least_training, least_sampling, images in (("batch-32", 10, 10, "64"), ("batch-512", 3, 4, "1,024")):
        rows = results.rows.get(part, [])
        for key, what, least in (
            ("images_per_second", f"training, batch size {part.removeprefix('batch-')}", least_training),
            ("generated_per_second", f"generating {images} images, T = 50", least_sampling),
        ):
            ratio = _ratio(rows, key)
            found.append(_at_least(f"{what}, relative to lucidrains", least, ratio, "{:.1f}x"))
    seconds = results.run_seconds if results.run_steps == _STEPS else None
    text = "" if seconds is None else f"{seconds:.0f} s"
    found.append(Goal("`afhq_cat.toml`, 10,000 steps", "< 60 s", seconds, text, lambda value: value < 60))
    idle = next((row["idle_share"] for row in results.rows.get("batch-32", []) if row["system"] == "ddpmkit"), None)
    text = "" if idle is None else f"{idle:.0%}"
    what = "share of a step, batch size 32, in which the device waits for the host"
    found.append(Goal(what, "< 10%", idle, text, lambda value: value < 0.1))
    for name, least in (("attention-unet, dim 128", 0.35), ("DiT-B/4", 0.45)):
        shares = [
            row["share_of_matmul_rate"]
            for part in ("large", "large-compiled")
            for row in results.rows.get(part, [])
            if row["system"].startswith(name) and row["share_of_matmul_rate"] is not None
        ]
        what = f"{name}, 64 px, batch size 256: share of the bfloat16 matmul rate"
        found.append(_at_least(what, least, max(shares, default=None), "{:.0%}"))
    return found


def _at_least(what: str, least: float, measured: float | None, form: str) -> Goal:
    wanted = form.replace(".1f", "g").format(least)
    text = "" if measured is None else form.format(measured)
    return Goal(what, wanted, measured, text, lambda value: value >= least)


def _ratio(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Return ddpmkit as shipped, relative to lucidrains in the precision in which it is faster."""
    ours = [row[key] for row in rows if row["system"] == "ddpmkit" and row[key]]
    theirs = [row[key] for row in rows if row["system"] == "lucidrains" and row[key]]
    return ours[0] / max(theirs) if ours and theirs else None


def report(results: Results) -> str:
    """Return everything as Markdown."""
    sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
    from compare import throughput_table

    facts = ", ".join(f"{name} {value}" for name, value in results.facts.items())
    counts = {outcome: list(results.tests.values()).count(outcome) for outcome in ("passed", "failed", "error")}
    tested = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    lines = [f"Measured on: {facts}.", "", "| what | goal | measured | result |", "| --- | --- | --- | --- |"]
    is_met = bool(counts["passed"]) and not counts["failed"] and not counts["error"]
    is_met = is_met and all(part.ended for part in results.parts if part.name == "tests")
    rows = [("tests that need a GPU", "all pass", tested, "met" if is_met else "not met")]
    lines += [f"| {' | '.join(cells)} |" for cells in [*rows, *(goal.cells() for goal in goals(results))]]
    lines += ["", throughput_table([row for rows in results.rows.values() for row in rows])]
    if results.run_seconds is not None:
        lines += [f"`ddpmkit run` of {results.run_steps:,} steps: {results.run_seconds:.1f} s.", ""]
    for part in results.parts:
        lines.append(f"- {part.name}: {part.result}, {part.seconds:.0f} s")
    lines += [f"- test {outcome}: {name}" for name, outcome in results.tests.items() if outcome in ("failed", "error")]
    return "\n".join(lines) + "\n"


def take_results(results: Results, part: Part, folder: Path, log: Path) -> None:
    """Read what a part has left."""
    if part.name == "tests":
        results.tests = outcomes_in(log.read_text(encoding="utf-8", errors="replace"))
    elif part.name == "afhq_cat":
        records = folder / "afhq_cat" / "metrics.jsonl"
        steps = [json.loads(line).get("step", 0) for line in _complete_lines(records)]
        results.run_steps = max(steps, default=0)
        results.run_seconds = part.seconds if part.ended and part.result == "done" else None
    elif (rows := folder / f"{part.name}.json").exists():
        results.rows[part.name] = json.loads(rows.read_text(encoding="utf-8"))


def _complete_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(arguments: argparse.Namespace) -> Results:
    """Install, carry out all parts, and write the results after each of them."""
    deadline = _STARTED + 60 * arguments.minutes
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    results = Results()
    with tempfile.TemporaryDirectory(prefix="ddpmkit-gpu-") as temporary:
        folder, site = Path(temporary), Path(temporary) / "site"
        install(arguments.wheels, site)
        paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "TQDM_DISABLE": "1",  # the other packages show a bar for each batch of images
            "DDPMKIT_CACHE": str(folder / "cache"),
            "DDPMKIT_STATE": str(folder / "state"),
        }

        def output_of(script: str, argument: str) -> str:
            command = [sys.executable, "-P", "-c", script, argument]
            return subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout

        results.facts = json.loads(output_of(_FACTS, arguments.device))
        data = arguments.data
        if data is None:
            data = folder / "images"
            output_of(_STAND_IN_IMAGES, str(data))
            results.facts["images"] = "600 generated images"
        parts = planned(data.resolve(), arguments.device, folder)
        results.parts = parts
        for number, part in enumerate(parts):
            seconds = limits(parts[number:], deadline - time.monotonic())
            if seconds < 5:
                break
            log = out / ("tests.log" if part.name == "tests" else "parts.log")
            carry_out(part, seconds, log, environment, folder)
            take_results(results, part, folder, log)
            _say(f"{part.name}: {part.result}, {part.seconds:.0f} s")
            (out / "results.json").write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
            (out / "results.md").write_text(report(results), encoding="utf-8")
    return results


def main() -> int:
    """Collect wheels, or run everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect-wheels", type=Path, metavar="DIR", help="download the wheels, and do nothing else")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="folder with the wheels; needed to run")
    parser.add_argument(
        "--data", type=Path, metavar="AFHQ", help="images in the layout of AFHQ  [default: generated images]"
    )
    parser.add_argument("--minutes", type=float, default=8, help="time for everything  [default: 8]")
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path("gpu-results"), help="[default: gpu-results]")
    parser.add_argument("--device", default="cuda", help="[default: cuda]; cpu tests the script itself")
    arguments = parser.parse_args()
    if arguments.collect_wheels is not None:
        collect_wheels(arguments.collect_wheels)
        return 0
    if arguments.wheels is None:
        parser.error("give --wheels DIR, or --collect-wheels DIR to fill it")
    _say(report(run(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
