"""The systems to compare, each with a training step and a function that generates images.

    python tests/benchmarks/systems.py lucidrains --data FOLDER --steps 20

Measures one system in this process, and prints one line of JSON. The other packages, `denoising-diffusion-pytorch` and
`diffusers`, train as in their own examples: their dataset, their loss, Adam, EMA, clipping, batch 32 at 32 px, T = 50.
`FOLDER` has the layout of AFHQ. On a GPU, they get images that are in its memory already, so that a comparison is not
decided by how fast a DataLoader reads files.
"""

import argparse
import contextlib
import functools
import itertools
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

RECIPES = Path(__file__).parent.parent.parent / "recipes"
SIZE, TIMESTEPS, SAMPLE_BATCH = 32, 50, 64


@dataclass(frozen=True)
class Task:
    """What all systems do: train on the cats in `data` and generate images."""

    data: Path
    device: str = "cpu"
    batch_size: int = 32
    precision: Literal["float32", "bfloat16"] = "float32"
    sample_batch: int = SAMPLE_BATCH
    """Images that are generated together."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context of mixed precision, for the other packages."""
        device = torch.device(self.device).type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bfloat16")


@dataclass
class System:
    """A network to train, and functions to train it and to generate images."""

    network: nn.Module
    step: Callable[[], Any]
    """Performs or queues one training step, with data loading."""
    sample: Callable[[int], Tensor]
    """Generates N images, float [N, 3, H, W] in 0 .. 1."""
    averaged: Callable[[bool], None] = lambda _wanted: None
    """Selects EMA weights or raw weights for sampling, if the system has both."""
    settle: Callable[[], Any] = lambda: None
    """Waits for the queued training steps."""
    settings: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
    """Context manager in which the system computes."""


def ddpmkit(task: Task, recipe: str = "afhq_cat", changes: Sequence[str] = ()) -> System:
    """Build the shipped recipe with `--set` changes."""
    from ddpmkit.experiment.build import build_images
    from ddpmkit.experiment.model import build_model
    from ddpmkit.recipe import read_recipe
    from ddpmkit.training.trainer import Trainer

    overrides = [
        *(f"data.root={task.data}", "metric=[]", "tracker=[]", f"train.device={task.device}"),
        *(f"train.precision={task.precision}", f"sampler.batch_size={task.sample_batch}", *changes),
    ]
    read = read_recipe(RECIPES / f"{recipe}.toml", overrides=[f"train.batch_size={task.batch_size}", *overrides])
    model = build_model(read)
    trainer = Trainer(model.network, model.objective(), build_images(read, "train"), read.train)
    networks = {True: trainer.averaged_network(), False: trainer.network}
    chosen = [model.generator(networks[True])]

    def averaged(wanted: bool) -> None:
        chosen[0] = model.generator(networks[wanted])

    indices = itertools.count(step=task.sample_batch)  # an image is a function of its index

    def sample(count: int) -> Tensor:
        first = next(indices)
        return chosen[0].images(range(first, first + count), 0) / 255

    return System(model.network, trainer.train_step, sample, averaged, trainer.settle, model.runtime.settings)


def ddpmkit_adam(task: Task, changes: Sequence[str] = ()) -> System:
    """Build the shipped recipe with Adam, like the other packages."""
    rate = ["train.learning_rate=1e-3", "train.learning_rate_decay=none", "train.warmup_steps=0"]
    return ddpmkit(task, changes=["train.optimizer=adam", *rate, *changes])


def ddpmkit_coarse(task: Task, changes: Sequence[str] = ()) -> System:
    """Build the shipped recipe without attention at 16 px."""
    return ddpmkit(task, changes=["backbone.linear_attention_levels=[2, 3]", *changes])


def ddpmkit_original(task: Task, changes: Sequence[str] = ()) -> System:
    """Build the original's recipe: linear attention on all levels, two parts per step, no EMA, no clipping."""
    twice = "train.batch_size=64" if task.batch_size == 32 else f"train.batch_size={task.batch_size}"
    return ddpmkit(task, "afhq_cat_original", [twice, *changes])


def lucidrains(task: Task) -> System:
    """Build denoising-diffusion-pytorch, trained as its `Trainer` does."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Dataset
    from ema_pytorch import EMA

    network = Unet(dim=16, dim_mults=(1, 2, 4, 8), flash_attn=False)
    diffusion = GaussianDiffusion(network, image_size=SIZE, timesteps=TIMESTEPS, objective="pred_noise").to(task.device)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-3, betas=(0.9, 0.99))
    average = EMA(diffusion, beta=0.995, update_every=10).to(task.device)
    if task.device == "cpu":
        batches = _endless(Dataset(str(_resized(task.data)), SIZE, augment_horizontal_flip=True), task.batch_size)
    else:
        batches = _on_device(task)

    def step() -> float:
        with task.autocast():
            loss = diffusion(next(batches))
        loss.backward()
        nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update()
        return float(loss)  # for the progress bar of its `Trainer`

    chosen = [average.ema_model]

    def averaged(wanted: bool) -> None:
        chosen[0] = average.ema_model if wanted else diffusion

    def sample(count: int) -> Tensor:
        with task.autocast():
            images: Tensor = chosen[0].sample(batch_size=count)
        return images.cpu()

    return System(network, step, sample, averaged, settings=lambda: _tf32(task))


def diffusers(task: Task) -> System:
    """Build diffusers' example for unconditional training, with a width that gives the same number of parameters."""
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    network = UNet2DModel(
        sample_size=SIZE,
        layers_per_block=2,
        block_out_channels=(16, 32, 64, 96),
        norm_num_groups=8,
        attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    ).to(task.device)
    scheduler = DDPMScheduler(num_train_timesteps=TIMESTEPS, beta_schedule="squaredcos_cap_v2")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True)
    if task.device == "cpu":
        from torchvision import transforms
        from torchvision.datasets import ImageFolder

        prepare = transforms.Compose(
            [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])]
        )
        files = ImageFolder(str(_resized(task.data)), prepare)
        batches = (images for images, _ in _endless(files, task.batch_size))
    else:
        batches = (images * 2 - 1 for images in _on_device(task))

    def step() -> float:
        x0 = next(batches)
        noise, t = torch.randn_like(x0), torch.randint(0, TIMESTEPS, (len(x0),), device=x0.device)
        with task.autocast():
            predicted = network(scheduler.add_noise(x0, noise, t), t).sample
        loss = nn.functional.mse_loss(predicted.float(), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(network.parameters())
        return float(loss)  # for the progress bar of the example

    def sample(count: int) -> Tensor:
        pipeline = DDPMPipeline(network, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        with task.autocast():
            images = pipeline(batch_size=count, num_inference_steps=TIMESTEPS, output_type="np").images
        return torch.tensor(images).permute(0, 3, 1, 2)

    raw: list[Tensor] = []

    def averaged(wanted: bool) -> None:
        if wanted and not raw:
            raw.extend(weight.detach().clone() for weight in network.parameters())
            average.copy_to(network.parameters())
        elif not wanted and raw:
            for weight, value in zip(network.parameters(), raw, strict=True):
                weight.data.copy_(value)
            raw.clear()

    return System(network, step, sample, averaged, settings=lambda: _tf32(task))


SYSTEMS: dict[str, Callable[[Task], System]] = {
    "ddpmkit": ddpmkit,
    "ddpmkit-coarse": ddpmkit_coarse,
    "ddpmkit-adam": ddpmkit_adam,
    "ddpmkit-original": ddpmkit_original,
    "lucidrains": lucidrains,
    "diffusers": diffusers,
}


def _resized(data: Path) -> Path:
    """Resize the cats once, because the other packages would decode 512 px in every epoch."""
    from PIL import Image

    folder = Path(tempfile.gettempdir()) / "ddpmkit-benchmark-cats"
    if not (folder / "done").exists():
        (folder / "cat").mkdir(parents=True, exist_ok=True)
        for path in sorted((data / "train" / "cat").iterdir()):
            Image.open(path).convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(
                folder / "cat" / f"{path.stem}.png"
            )
        (folder / "done").touch()
    return folder


def _endless(dataset: Any, batch_size: int) -> Any:
    from torch.utils.data import DataLoader

    settings: dict[str, Any] = {"num_workers": 2, "drop_last": True, "persistent_workers": True}
    loader = DataLoader(dataset, batch_size=batch_size, shuffle=True, **settings)
    while True:
        yield from loader


@functools.cache
def _cats(data: Path) -> Tensor:
    """Return all training cats, uint8 [N, 3, 32, 32], from ddpmkit's cache of decoded images."""
    from ddpmkit.experiment.build import build_images
    from ddpmkit.recipe import read_recipe

    overrides = [f"data.root={data}", "metric=[]", "tracker=[]"]
    images = build_images(read_recipe(RECIPES / "afhq_cat.toml", overrides=overrides), "train")
    return images.center_crops(torch.arange(len(images)).numpy())


def _on_device(task: Task) -> Iterator[Tensor]:
    """Yield batches of random images, half of them flipped, float [B, 3, 32, 32] in 0 .. 1, all on the device."""
    images = _cats(task.data).to(task.device)
    while True:
        chosen = images[torch.randint(0, len(images), (task.batch_size,), device=task.device)].float() / 255
        is_flipped = torch.rand(task.batch_size, 1, 1, 1, device=task.device) < 0.5
        yield torch.where(is_flipped, chosen.flip(3), chosen)


@contextlib.contextmanager
def _tf32(task: Task) -> Iterator[None]:
    """Allow TF32 on a GPU, as a user would who wants speed. Torch's own default allows it for convolutions only."""
    before = torch.get_float32_matmul_precision()
    if task.device != "cpu":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def measure(system: System, steps: int, sample_batches: int) -> dict[str, Any]:
    """Return medians over single steps and single batches of images, after two warm-up steps."""

    def settled_step() -> None:
        system.step()
        system.settle()

    settled_step()
    with FlopCounterMode(display=False) as counter:
        settled_step()
    step_seconds = _seconds(settled_step, steps)
    with torch.no_grad():
        sample_seconds = _seconds(lambda: system.sample(SAMPLE_BATCH), sample_batches)
    return {
        "parameters": sum(weight.numel() for weight in system.network.parameters()),
        "flops_a_step": counter.get_total_flops(),
        "steps_per_second": 1 / statistics.median(step_seconds),
        "images_per_second": SAMPLE_BATCH / statistics.median(sample_seconds) if sample_seconds else None,
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "matmul_flops": _matmul_rate(),
    }


def _seconds(work: Callable[[], Any], times: int) -> list[float]:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found


def _matmul_rate(size: int = 2048) -> float:
    """Return the FLOP/s of a float32 matrix product, the best that the machine reaches."""
    a = torch.randn(size, size)
    return 2 * size**3 / min(_seconds(lambda: a @ a, 5))


def main() -> None:
    """Measure one system."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batches", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    found = measure(SYSTEMS[arguments.system](Task(arguments.data)), arguments.steps, arguments.batches)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
