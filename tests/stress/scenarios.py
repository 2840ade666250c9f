"""The commands that `every_operation.py` kills, and the state of the disk before each."""

import os
import shutil
import signal
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from operations import counted, operations
from PIL import Image
from processes import call

__all__ = ["SCENARIOS", "Scenario", "Workspace"]

_PLUGIN = Path(__file__).with_name("stress_plugin.py")
_RECIPE = """
name = "stressed"
metric = [{metric}]
[data]
use = "image-folder"
root = "{data}"
image_size = 8
[diffusion]
timesteps = 4
[backbone]
use = "attention-unet"
dim = 8
multipliers = [1]
linear_attention_levels = []
heads = 1
head_dim = 8
[loss]
use = "local/unlucky"
[sampler]
count = 2
[train]
steps = 6
batch_size = 2
log_every = 1
validate_every = 3
sample_every = 3
checkpoint_every = 2
keep_last = 1
keep_best = "brightness"
ema_sigma_rels = [0.1]
ema_snapshot_every = 3
on_nonfinite = "rollback"
device = "cpu"
[[tracker]]
use = "csv"
"""
_METRIC = '{use = "local/brightness", every = 2, num_samples = 4}'
_OTHER_METRIC = '{use = "nearest-neighbours", num_samples = 4}'
_UNLUCKY_ABOVE = 1.5


class Workspace:
    """The folders and files of a scenario. Processes may change only `watched`, which is always the same path."""

    def __init__(self, folder: Path) -> None:
        """Create the images, the archive and the recipe in an empty folder."""
        self.folder = folder.resolve()
        self.watched = self.folder / "watched"
        self.run, self.cache = self.watched / "run", self.watched / "cache"
        self.record, self.output = self.folder / "operations.txt", self.folder / "output.log"
        self.recipe = self.folder / "stressed.toml"
        self.archive = self.folder / "afhq.zip"
        data = self.folder / "data"
        for split, count in (("train", 6), ("val", 2)):
            for number in range(count):
                file = data / split / "cat" / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng([number, count]).integers(256, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(file)
        with zipfile.ZipFile(self.archive, "w") as archive:
            for file in sorted(data.rglob("*.png")):
                archive.write(file, file.relative_to(data))
        self.recipe.write_text(_RECIPE.format(data=data, metric=_METRIC), encoding="utf-8")

    def command(self, arguments: Sequence[str], fatal: int | None = None) -> int:
        """Run `ddpmkit ARGUMENTS` in a new process, killed before change number `fatal`, and return the exit code."""
        os.environ["DDPMKIT_CACHE"] = str(self.cache)
        plugin = [] if arguments[0] == "data" else ["--plugin", str(_PLUGIN)]
        return call(_counted, [*arguments, *plugin], self.watched, self.record, self.output, str(self.cache), fatal)

    def finish(self, arguments: Sequence[str]) -> None:
        """Run `ddpmkit ARGUMENTS`, which must succeed."""
        if (exit_code := self.command(arguments)) != 0:
            raise RuntimeError(f"exit code {exit_code} of {' '.join(arguments)}: see {self.output}")

    def reset(self, template: Path | None = None) -> None:
        """Replace the watched folder with a copy of `template`; None: empty it."""
        shutil.rmtree(self.watched, ignore_errors=True)
        if template is None:
            self.run.mkdir(parents=True)
            self.cache.mkdir()
        else:
            shutil.copytree(template, self.watched)

    def keep(self, name: str) -> Path:
        """Copy the watched folder and return the copy."""
        copy = self.folder / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.watched, copy)
        return copy


@dataclass(frozen=True)
class Scenario:
    """A command, and a function that prepares the disk for it."""

    arguments: Callable[[Workspace], list[str]]
    prepare: Callable[[Workspace], None] = lambda place: None


def _run(place: Workspace, *settings: str) -> list[str]:
    return ["run", str(place.recipe), "--out", str(place.run), *(part for key in settings for part in ("--set", key))]


def _interrupted(place: Workspace) -> None:
    """Kill a process after the first checkpoint, while it saves the second."""
    place.finish(_run(place))
    saved = "os.rename checkpoints/.step-00000004.partial checkpoints/step-00000004"
    fatal = operations(place.record).index(saved.replace("checkpoints", "run/checkpoints"))
    place.reset()
    if place.command(_run(place), fatal) != -signal.SIGKILL:
        raise RuntimeError("the process should have been killed in its second checkpoint")


def _finished(place: Workspace) -> None:
    place.finish(_run(place))


def _finished_without_cache(place: Workspace) -> None:
    place.finish(_run(place))
    shutil.rmtree(place.cache)
    place.cache.mkdir()


SCENARIOS: dict[str, Scenario] = {
    "fresh": Scenario(_run),
    "resume": Scenario(_run, _interrupted),
    "rollback": Scenario(lambda place: _run(place, f"loss.above={_UNLUCKY_ABOVE}", "train.seed=3")),
    "evaluate": Scenario(lambda place: ["evaluate", str(place.run), "--num-samples", "6"], _finished_without_cache),
    "longer": Scenario(lambda place: _run(place, "train.steps=8"), _finished),
    "another metric": Scenario(lambda place: _run(place, f"metric=[{_METRIC}, {_OTHER_METRIC}]"), _finished),
    "sweep": Scenario(
        lambda place: [
            *("sweep", str(place.recipe), "--out", str(place.run), "--set", "train.steps=2"),
            *("--set", "sweep.over.train.learning_rate=[0.001, 0.002]"),
        ]
    ),
    "fetch": Scenario(
        lambda place: ["data", "fetch", "afhq", "--out", str(place.run / "afhq"), "--url", place.archive.as_uri()]
    ),
}


def _counted(arguments: list[str], watched: Path, record: Path, output: Path, cache: str, fatal: int | None) -> None:
    os.environ["DDPMKIT_CACHE"] = cache  # forks of the server have its environment
    counted(arguments, watched, record, output, fatal)
