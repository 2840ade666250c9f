"""Measure the cost of everything but the network: reading images, FID, plugins, the first step, sampling.

    python tests/benchmarks/parts.py --data data/afhq

Prints one line of JSON per part. Needs torchvision, whose untrained Inception v3 replaces the network of clean-fid:
it has the same layers and takes the same time.
"""

import argparse
import copy
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from systems import RECIPES
from torch import Tensor, nn

from ddpmkit.contracts import ImageShape
from ddpmkit.experiment.build import build_images
from ddpmkit.experiment.model import build_model
from ddpmkit.randomness import Purpose, integers, normal
from ddpmkit.recipe import Recipe, read_recipe
from ddpmkit.training.ema import warmed_up_decay
from ddpmkit.training.trainer import Trainer


def shipped(data: Path, *changes: str) -> Recipe:
    """Read the recipe for cats, without metric and tracker."""
    overrides = [f"data.root={data}", "metric=[]", "tracker=[]", *changes]
    return read_recipe(RECIPES / "afhq_cat.toml", overrides=overrides)


def images(data: Path) -> dict[str, float]:
    """Measure the image folder, first with an empty cache, then again."""
    recipe = shipped(data)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DDPMKIT_CACHE"] = cache
        first, found = _seconds(lambda: build_images(recipe, "train"))
        again, _ = _seconds(lambda: build_images(recipe, "train"))
        del os.environ["DDPMKIT_CACHE"]
    return {"images": len(found), "images_per_second": len(found) / first, "seconds_again": again}


def first_step(data: Path) -> dict[str, float]:
    """Measure the time from the command to the first training record, with cached images."""
    build_images(shipped(data), "train")
    command = [sys.executable, "-m", "ddpmkit", "run", str(RECIPES / "afhq_cat.toml"), "--set", f"data.root={data}"]
    for change in ("metric=[]", "tracker=[]", "train.steps=1000", "train.log_every=1", "train.sample_every=1000"):
        command += ["--set", change]
    found = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            log, began = Path(folder) / "run" / "metrics.jsonl", time.perf_counter()
            quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            with subprocess.Popen([*command, "--out", str(log.parent)], **quiet) as process:
                while process.poll() is None and not (log.exists() and '"loss"' in log.read_text()):
                    time.sleep(0.02)
                found.append(time.perf_counter() - began)
                process.kill()
    return {"seconds_to_the_first_step": statistics.median(found)}


_MANIFEST = """
from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class WaveConfig(ComponentConfig):
    depth: float = Field(default=0.5, ge=0, lt=1)


@hookimpl
def ddpmkit_components():
    for name in ("one", "two", "three"):
        names = {"target": f"{__name__}.schedule:Wave", "config": f"{__name__}:WaveConfig"}
        yield Component(kind="schedule", name=name, summary="a third-party wave", **names)
"""


def listing(packages: int = 20) -> dict[str, float]:
    """Measure `ddpmkit plugins list` with sixty third-party components in twenty packages and the built-in ones."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(packages):
            name, info = f"acme{number}", Path(folder) / f"acme{number}-1.0.dist-info"
            (Path(folder) / name).mkdir()
            (Path(folder) / name / "__init__.py").write_text(_MANIFEST)
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[ddpmkit.plugins]\n{name}.waves = {name}\n")
        command = [sys.executable, "-m", "ddpmkit", "plugins", "list"]
        settings: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": folder}, "capture_output": True, "text": True}
        shown = [_seconds(lambda: subprocess.run(command, check=True, **settings)) for _ in range(7)]
    components = shown[0][1].stdout.count("a third-party wave")
    return {"third_party_components": components, "seconds_to_list": statistics.median(took for took, _ in shown)}


class StandIn(nn.Module):
    """Inception v3 up to its pooled features, with the call of clean-fid's file."""

    def __init__(self) -> None:
        from torchvision.models import inception_v3

        super().__init__()
        network = inception_v3(weights=None, init_weights=False, aux_logits=False, transform_input=False).eval()
        network.fc = nn.Identity()
        self.layers = torch.jit.trace(network, torch.zeros(2, 3, 299, 299))

    def forward(self, x: Tensor, return_features: bool = True) -> Tensor:
        """float32 [B, 3, 299, 299] in 0 .. 255 -> [B, 2048]."""
        features: Tensor = self.layers(x / 127.5 - 1)
        return features


def fid(images: int = 128, of: int = 5000) -> dict[str, float]:
    """Measure FID without the network, as a share of the network's time, for `of` images of 32 px."""
    from ddpmkit_plugins.clean_fid import CleanFidConfig
    from ddpmkit_plugins.clean_fid.metric import CleanFid

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inception.pt"
        torch.jit.save(torch.jit.script(StandIn().eval()), path)
        metric = CleanFid(CleanFidConfig(inception=str(path)), device=torch.device("cpu"))
    batch = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8)
    # The memory layout of the metric, which makes the network a third faster.
    resized = (torch.rand(metric.features.batch_size, 299, 299, 3) * 255).permute(0, 3, 1, 2)
    with torch.no_grad():
        for _ in range(3):  # TorchScript optimizes in its first calls
            metric.features.network(resized)
        network = min(_seconds(lambda: metric.features.network(resized))[0] for _ in range(4)) / len(resized)
    state = metric.measure_generated(batch)
    measured = [_seconds(lambda: metric.merge(state, metric.measure_generated(batch)))[0] for _ in range(3)]
    # A state of full rank, so that the eigenvalues take their usual time.
    features = torch.randn(of, 2048, dtype=torch.float64)
    full = {"n": torch.tensor(float(of)), "sum": features.sum(0), "outer": features.T @ features}
    scoring, _ = _seconds(lambda: metric.scores(full, full))
    share = (min(measured) / images * of + scoring) / (network * of) - 1
    return {"milliseconds_an_image": 1000 * network, "scoring_seconds": scoring, "share_beyond_the_network": share}


def sampling(data: Path, images: int = 1024) -> dict[str, float]:
    """Measure the time of sampling outside of the network, as a share of all. The weights are the initial ones."""
    model = build_model(shipped(data))
    generator = model.generator(model.network)
    began, inside = 0.0, 0.0

    def enter(*_arguments: Any) -> None:
        nonlocal began
        model.runtime.synchronize()
        began = time.perf_counter()

    def leave(*_arguments: Any) -> None:
        nonlocal inside
        model.runtime.synchronize()
        inside += time.perf_counter() - began

    generator.seconds_per_call()  # the first call allocates
    model.network.register_forward_pre_hook(enter)
    model.network.register_forward_hook(leave)
    took, made = _seconds(lambda: generator.images(range(images), seed=0))
    return {"images": len(made), "images_per_second": images / took, "share_outside_the_network": 1 - inside / took}


# Both sides omit Muon, whose time is not a cost of plugins.
_WIRED = ("loss.use=l1", "train.optimizer=adam", "train.warmup_steps=0", "train.learning_rate_decay=none")


def hand_written(data: Path) -> Callable[[], None]:
    """Return the training step of the shipped recipe, written without recipe, registry and contracts."""
    from ddpmkit_plugins.attention_unet import AttentionUnetConfig
    from ddpmkit_plugins.attention_unet.unet import AttentionUnet

    train = shipped(data, *_WIRED).train
    dataset = build_images(shipped(data, *_WIRED), "train")
    network = AttentionUnet(AttentionUnetConfig(), image_shape=ImageShape(3, 32, 32), num_classes=0, out_channels=3)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), lr=train.learning_rate, betas=train.betas, fused=True)
    angle = (torch.arange(51, dtype=torch.float64) / 50 + 0.008) / 1.008 * math.pi / 2
    bar = (angle.cos() ** 2 / angle[0].cos() ** 2)[1:].clamp(min=1e-6)
    signal, sigma = bar.sqrt().float()[:, None, None, None], (1 - bar).sqrt().float()[:, None, None, None]
    steps = itertools.count()

    def step() -> None:
        n = next(steps)
        x0 = dataset.batch(n, range(32), 32).x0
        t = integers(0, Purpose.TIMESTEP, n, torch.arange(32), 50)
        noise = normal(0, Purpose.NOISE, n, torch.arange(32), (3, 32, 32))
        optimizer.zero_grad(set_to_none=True)
        loss = (network(signal[t] * x0 + sigma[t] * noise, t) - noise).abs().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), train.gradient_clip)
        optimizer.step()
        with torch.no_grad():
            weights = list(network.parameters())
            torch._foreach_lerp_(list(average.parameters()), weights, 1 - warmed_up_decay(n + 1, train.ema_decay))
        loss.item()

    return step


def plugin_overhead(data: Path, pairs: int = 40) -> dict[str, float]:
    """Measure a trainer's step and the hand-written step in turns; the share is the median over pairs."""
    recipe = shipped(data, *_WIRED)
    model = build_model(recipe)
    trainer = Trainer(model.network, model.objective(), build_images(recipe, "train"), recipe.train)
    hand = hand_written(data)

    def own() -> None:
        trainer.train_step()
        trainer.settle()

    for step in (own, hand) * 3:
        step()
    found = [pair for _ in range(pairs // 2) for pair in _both_ways(own, hand)]
    ratios = [with_components / without - 1 for with_components, without in found]
    return {
        "step_milliseconds": 1000 * statistics.median(first for first, _ in found),
        "hand_written_milliseconds": 1000 * statistics.median(second for _, second in found),
        "overhead_of_plugins": statistics.median(ratios),
    }


def _both_ways(first: Callable[[], Any], second: Callable[[], Any]) -> Iterator[tuple[float, float]]:
    """Yield the seconds of both functions, once in each order."""
    yield _seconds(first)[0], _seconds(second)[0]
    later = _seconds(second)[0]
    yield _seconds(first)[0], later


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


_PARTS = ("images", "listing", "first_step", "fid", "plugin_overhead", "sampling")


def main() -> None:
    """Measure the given parts; all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("parts", nargs="*", default=list(_PARTS))
    arguments = parser.parse_args()
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "images": lambda: images(arguments.data),
        "listing": listing,
        "first_step": lambda: first_step(arguments.data),
        "fid": fid,
        "plugin_overhead": lambda: plugin_overhead(arguments.data),
        "sampling": lambda: sampling(arguments.data),
    }
    for name in arguments.parts:
        sys.stdout.write(json.dumps({"part": name, **measures[name]()}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
