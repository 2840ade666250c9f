import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import incidents
from torch import Tensor

import ddpmkit
from ddpmkit.checkpoint import checkpoint_folders, newest_checkpoint, step_of
from ddpmkit.contracts import MetricProtocol, NoiseSource, RunEnded, SamplerState
from ddpmkit.diffusion import Denoiser
from ddpmkit.errors import PluginError, RunFailed
from ddpmkit.experiment import Run
from ddpmkit.experiment.profile import profile
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.registry import Registry
from ddpmkit.training.optimizer import Optimizer

Recipe = Callable[..., dict[str, Any]]
RunWith = Callable[..., Run]


class BrokenConfig(ComponentConfig):
    from_call: int = 1
    """The first call that fails."""
    how: str = "raises"
    """`raises` an error of its own, allocates more `memory` than any machine has, or raises one of RAISED."""


class Textless(Exception):
    """An exception whose `str` fails."""

    def __str__(self) -> str:
        raise SystemExit(0)


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307 -- that is the fault


class OfItsOwn(BaseException):
    pass


RAISED: dict[str, tuple[Callable[[], BaseException], str]] = {
    "exit": (lambda: SystemExit(0), "SystemExit: 0"),
    "interrupt": (lambda: KeyboardInterrupt(), "KeyboardInterrupt"),
    "generator": (lambda: GeneratorExit(), "GeneratorExit"),
    "own": (lambda: OfItsOwn("oh"), "OfItsOwn: oh"),
    "textless": (lambda: Textless(), "Textless: (its text cannot be shown: SystemExit)"),
    "not text": (lambda: NotText(), "NotText: (its text cannot be shown: TypeError)"),
}


class _Broken:
    def __init__(self, config: BrokenConfig, **_runtime: object) -> None:
        self.config, self.calls = config, 0

    def count(self) -> None:
        self.calls += 1
        if self.calls >= self.config.from_call:
            if self.config.how == "memory":
                torch.empty(2**50, dtype=torch.uint8)
            raise RAISED[self.config.how][0]() if self.config.how in RAISED else KeyError("beta")


class BrokenLoss(_Broken):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        self.count()
        return (prediction - target).square().flatten(1).mean(1)


class BrokenSampler(_Broken):
    def network_calls(self, steps: int) -> int:
        return steps

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        self.count()
        yield SamplerState(0, noise(0), noise(0))


class BrokenMetric(_Broken):
    better = {"x": "lower"}  # noqa: RUF012 -- a test's own
    protocol = MetricProtocol("plain", num_samples=4, weights="ema", comparable=True)

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        return {"count": torch.tensor(len(images), dtype=torch.float64)}

    measure_generated = measure_real

    def merge(self, first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, Tensor]:
        return first

    def scores(self, real: dict[str, Tensor], generated: dict[str, Tensor]) -> dict[str, float]:
        self.count()
        return {"x": 0.0}


class OddConfig(ComponentConfig):
    how: str = "fine"


class OddMetric(BrokenMetric):
    """Returns states without values."""

    def __init__(self, config: OddConfig, **_runtime: object) -> None: ...

    def measure_real(self, images: Tensor) -> dict[str, Tensor]:
        return {"count": torch.tensor(len(images), dtype=torch.float64, device="meta")}

    measure_generated = measure_real


class CarelessMetric(BrokenMetric):
    def __init__(self, config: OddConfig, **_runtime: object) -> None:
        torch.set_num_threads(torch.get_num_threads() + 1)

    def count(self) -> None:
        pass


class BrokenTracker(_Broken):
    def run_started(self, event: object) -> None:
        self.count()

    step = picture = scores = run_ended = run_started


class BrokenDatasetConfig(ComponentConfig):
    how: str


class OddSchedule:
    """Its constructor never fails; `alphas_cumprod` may."""

    def __init__(self, config: OddConfig, *, timesteps: int) -> None:
        self.how, self.timesteps = config.how, timesteps

    def __getattr__(self, name: str) -> Any:
        if name == "alphas_cumprod" and self.how != "misnamed":
            return self._answer
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _answer(self) -> object:
        alpha_bar = torch.linspace(0.9, 0.4, self.timesteps, dtype=torch.float64)
        if self.how == "raises":
            raise KeyError("beta")
        if self.how in RAISED:
            raise RAISED[self.how][0]()
        answers = {
            "list": alpha_bar.tolist(),
            "float32": alpha_bar.float(),
            "rises": alpha_bar.flip(0),
            "long": torch.linspace(0.9, 0.4, 2 * self.timesteps, dtype=torch.float64),
        }
        return answers.get(self.how, alpha_bar)


class BrokenWhenBuilt:
    def __init__(self, config: OddConfig, **_runtime: object) -> None:
        raise RAISED[config.how][0]() if config.how in RAISED else KeyError("gamma")


class OddLoss:
    """Returns a form that is not allowed, or changes process-wide settings."""

    def __init__(self, config: OddConfig, *, prediction: str) -> None:
        self.how = config.how

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Any:
        loss = (prediction - target).square().flatten(1).mean(1)
        if self.how == "careless":
            torch.set_grad_enabled(False)
            torch.set_default_dtype(torch.float64)
            torch.set_num_threads(3)
            torch.set_default_device("meta")
            torch.autocast("cpu", dtype=torch.bfloat16).__enter__()
            os.chdir("/")
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.how == "inference":
            self.guard = torch.inference_mode()  # inference mode lasts as long as this object
            self.guard.__enter__()
        forms = {
            "column": loss[:, None],
            "mean": loss.mean(),
            "whole": loss.long(),
            "detached": loss.detach(),
            "meta": loss.to("meta"),
        }
        return loss.tolist() if self.how == "list" else forms.get(self.how, loss)


class BrokenDataset:
    """Raises when its fingerprint is read."""

    class_names = ("one",)

    def __init__(self, config: BrokenDatasetConfig, **_runtime: object) -> None:
        self.how = config.how

    @property
    def fingerprint(self) -> str:
        raise RAISED[self.how][0]()

    def __len__(self) -> int:
        return 4


class OddSampler:
    def __init__(self, config: OddConfig) -> None:
        pass

    def network_calls(self, steps: int) -> int:
        return steps

    def sample(self, denoiser: Denoiser, noise: NoiseSource, steps: int) -> Iterator[SamplerState]:
        x = noise(0).to("meta")
        yield SamplerState(0, x, x)


class MetaBackbone(torch.nn.Module):
    """Returns a tensor without values."""

    def __init__(self, config: OddConfig, **_runtime: object) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return (self.scale * x).to("meta")


@pytest.fixture
def registry(with_parts: Callable[..., Registry]) -> Registry:
    kinds = ("loss", "sampler", "metric", "tracker")
    broken = [
        Component(
            kind=kind,
            name="broken",
            target=f"{__name__}:Broken{kind.title()}",
            config=f"{__name__}:BrokenConfig",
            summary=f"a {kind}",
        )
        for kind in kinds
    ]
    others = [
        ("loss", "unbuildable", "BrokenWhenBuilt", "OddConfig"),
        ("loss", "odd", "OddLoss", "OddConfig"),
        ("metric", "odd", "OddMetric", "OddConfig"),
        ("sampler", "odd", "OddSampler", "OddConfig"),
        ("backbone", "meta", "MetaBackbone", "OddConfig"),
        ("metric", "careless", "CarelessMetric", "OddConfig"),
        ("schedule", "odd", "OddSchedule", "OddConfig"),
        ("dataset", "broken", "BrokenDataset", "BrokenDatasetConfig"),
    ]
    return with_parts(
        *broken,
        *(
            Component(
                kind=kind, name=name, target=f"{__name__}:{target}", config=f"{__name__}:{config}", summary="a part"
            )
            for kind, name, target, config in others
        ),
    )


@pytest.fixture
def run(registry: Registry, small: Recipe, tmp_path: Path) -> RunWith:
    return lambda **sections: ddpmkit.run(small(**sections), tmp_path, registry=registry)


def ended(run: Run) -> RunEnded:
    assert run.ended is not None
    return run.ended


def test_a_loss_that_raises_in_the_profiler_is_named(small: Recipe, registry: Registry) -> None:
    with pytest.raises(RunFailed, match="loss 'local/broken' failed while training to profile it, with KeyError"):
        profile(ddpmkit.read_recipe(small(loss={"use": "local/broken"}), registry=registry), 1)


def test_a_loss_that_raises_stops_the_run_and_is_named_and_the_weights_are_saved(run: RunWith, tmp_path: Path) -> None:
    with pytest.raises(RunFailed) as caught:
        run(loss={"use": "local/broken", "from_call": 6})
    assert "loss 'local/broken' failed while training step 6, with KeyError: 'beta'" in caught.value.message
    assert f"{Path(__file__)}:" in caught.value.message
    assert "report it to the authors of" in caught.value.remedies[0]
    kept = newest_checkpoint(tmp_path / "checkpoints")
    assert kept is not None
    assert kept.step == 5


@pytest.mark.parametrize("how", RAISED)
def test_any_exception_of_a_loss_is_named_and_the_weights_are_saved(run: RunWith, tmp_path: Path, how: str) -> None:
    with pytest.raises(RunFailed) as caught:
        run(loss={"use": "local/broken", "from_call": 6, "how": how})
    assert f"loss 'local/broken' failed while training step 6, with {RAISED[how][1]}" in caught.value.message
    kept = newest_checkpoint(tmp_path / "checkpoints")
    assert kept is not None
    assert kept.step == 5


@pytest.mark.parametrize("how", RAISED)
def test_any_exception_of_a_sampler_or_a_metric_is_reported_and_the_run_continues(run: RunWith, how: str) -> None:
    metric = {"use": "local/broken", "num_samples": 4, "how": how}
    one = ended(run(sampler={"use": "local/broken", "count": 4, "how": how}))
    two = ended(run(metric=[metric]))
    assert (one.status, two.status, len(one.problems), len(two.problems)) == ("finished", "finished", 2, 1)
    text = f", with {RAISED[how][1]}"
    assert f"sampler 'local/broken' failed while generating the samples of step 20{text}" in one.problems[0]
    assert f"metric 'local/broken' failed while evaluating step 20 by local/broken{text}" in two.problems[0]


@pytest.mark.parametrize("how", RAISED)
def test_any_exception_while_a_component_is_built_names_it(run: RunWith, how: str) -> None:
    with pytest.raises(PluginError) as caught:
        run(loss={"use": "local/unbuildable", "how": how})
    assert f"loss 'local/unbuildable': its target {__name__}:BrokenWhenBuilt failed with" in caught.value.message
    assert RAISED[how][1] in caught.value.message


@pytest.mark.parametrize("how", RAISED)
def test_any_exception_of_a_schedule_or_a_dataset_names_it(run: RunWith, tmp_path: Path, how: str) -> None:
    with pytest.raises(PluginError) as schedule:
        run(schedule={"use": "local/odd", "how": how})
    with pytest.raises(RunFailed) as dataset:
        run(data={"use": "local/broken", "image_size": 8, "how": how})
    assert f"its alphas_cumprod() failed with {RAISED[how][1]}" in schedule.value.message
    assert (
        f"dataset 'local/broken' failed while opening the images of train, with {RAISED[how][1]}"
        in dataset.value.message
    )
    assert not (tmp_path / "checkpoints").exists()


def test_a_failure_in_the_middle_of_an_update_saves_nothing(
    run: RunWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the weights would belong to another step."""
    update = Optimizer.update
    taken = []

    def failing(optimizer: Optimizer, learning_rate: Tensor, is_finite: Tensor) -> None:
        taken.append(learning_rate)
        update(optimizer, learning_rate, is_finite)
        if len(taken) == 6:
            raise MemoryError

    monkeypatch.setattr(Optimizer, "update", failing)
    with pytest.raises(RunFailed, match="out of memory while training step 6"):
        run(train={"checkpoint_every": 4})
    assert [step_of(folder) for folder in checkpoint_folders(tmp_path / "checkpoints")] == [4]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("column", "it must return one loss per image, float [4], not float32 [4, 1]"),
        ("mean", "it must return one loss per image, float [4], not float32 []"),
        ("whole", "it must return one loss per image, float [4], not int64 [4]"),
        ("list", "it must return one loss per image, float [4], not a list"),
        ("meta", "it must return losses on the device cpu, not meta"),
        ("detached", "its return value has no gradient: it does not depend on the prediction"),
    ],
)
def test_a_loss_that_returns_an_invalid_value_is_named(run: RunWith, tmp_path: Path, how: str, said: str) -> None:
    with pytest.raises(RunFailed, match="loss 'local/odd' failed while training step 1: ") as caught:
        run(loss={"use": "local/odd", "how": how})
    assert said in caught.value.message
    assert "report it to the authors of" in caught.value.remedies[0]


def test_settings_that_a_component_changes_are_restored_and_it_is_named_once(
    run: RunWith, small: Recipe, registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = Path.cwd(), torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    run(loss={"use": "local/odd", "how": "careless"})
    assert (Path.cwd(), torch.get_num_threads(), signal.getsignal(signal.SIGTERM)) == before
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_device() == torch.device("cpu")
    assert not torch.is_autocast_enabled("cpu")
    said = [message for message in caplog.messages if "it was restored" in message]
    assert len(said) == 7
    assert said[0] == "the loss 'local/odd' changed torch.is_grad_enabled() from True to False; it was restored."
    careless = newest_checkpoint(tmp_path / "checkpoints")
    assert careless is not None
    careful = ddpmkit.run(small(loss={"use": "local/odd"}), tmp_path / "careful", registry=registry)
    for name, weight in careful.checkpoint.tensors("model").items():
        assert torch.equal(weight, careless.tensors("model")[name])


def test_a_metric_or_a_sampler_that_returns_tensors_without_values_is_named(run: RunWith) -> None:
    metric = {"use": "local/odd", "num_samples": 4}
    done = run(metric=[metric], sampler={"use": "local/odd", "count": 4})
    assert any("x must have values, and is on the device meta at t = 0" in text for text in ended(done).problems)
    done = run(metric=[metric])
    (problem,) = ended(done).problems
    assert "metric 'local/odd': measuring returned tensors without values (on the device meta)" in problem


def test_a_loss_that_leaves_inference_mode_on_does_not_stop_training(
    run: RunWith, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(loss={"use": "local/odd", "how": "inference"}).step == 20
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    said = [message for message in caplog.messages if "torch.is_inference_mode_enabled()" in message]
    assert said == [
        "the loss 'local/odd' changed torch.is_inference_mode_enabled() from False to True; it was restored."
    ]


def test_a_backbone_that_returns_a_tensor_on_another_device_is_named(run: RunWith) -> None:
    with pytest.raises(RunFailed) as caught:
        run(backbone={"use": "local/meta"})
    assert (
        "backbone 'local/meta' failed while training step 1: it must return a tensor on the device cpu, not meta."
        in caught.value.message
    )


def test_settings_that_a_metric_changes_when_it_is_built_are_restored(
    run: RunWith, caplog: pytest.LogCaptureFixture
) -> None:
    """Another number of threads would change the bits of all later weights."""
    threads = torch.get_num_threads()
    metric = {"use": "local/careless", "num_samples": 4}
    done = run(metric=[metric])
    assert torch.get_num_threads() == threads
    done.evaluate()
    assert torch.get_num_threads() == threads
    warning = f"the metric 'local/careless' changed torch.get_num_threads() from {threads} to {threads + 1}"
    assert sum(warning in message for message in caplog.messages) == 2


def test_a_component_that_cannot_be_built_is_named_before_anything_is_written(run: RunWith, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"loss 'local/unbuildable': its target .* failed with KeyError: 'gamma'"):
        run(loss={"use": "local/unbuildable"})
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "its alphas_cumprod() failed with KeyError: 'beta'"),
        ("misnamed", "failed with AttributeError: 'OddSchedule' object has no attribute 'alphas_cumprod'"),
        ("list", "alpha_bar must be a float64 tensor [T], and is a list."),
        ("float32", "alpha_bar must be float64 [6], and is float32 [6]."),
        ("rises", "alpha_bar must decrease strictly, and goes from 0.4 at t = 0 to 0.5 at t = 1."),
        ("long", "alpha_bar must be float64 [6], and is float64 [12]."),
    ],
)
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_an_invalid_schedule_is_named_before_anything_is_written(
    run: RunWith, tmp_path: Path, how: str, said: str, zero_terminal_snr: bool
) -> None:
    diffusion = {"zero_terminal_snr": zero_terminal_snr, "prediction": "v"}
    with pytest.raises(PluginError) as caught:
        run(schedule={"use": "local/odd", "how": how}, diffusion=diffusion)
    assert caught.value.message.startswith("schedule 'local/odd' (unpackaged 0): ")
    assert said in caught.value.message
    assert caught.value.remedies[0] == (
        f"run `ddpmkit plugins check local/odd --kind schedule --set 'how=\"{how}\"' --timesteps 6` to see the details"
    )
    assert not (tmp_path / "checkpoints").exists()


def test_a_schedule_that_became_invalid_is_named_when_its_run_is_opened(
    run: RunWith, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(schedule={"use": "local/odd"})
    monkeypatch.setattr(OddSchedule, "_answer", lambda schedule: [0.5] * schedule.timesteps)
    with pytest.raises(PluginError, match=r"schedule 'local/odd' \(unpackaged 0\): alpha_bar must be .* a list"):
        ddpmkit.load(tmp_path, registry=registry)


def test_a_component_that_fails_in_an_opened_run_is_named(run: RunWith, registry: Registry, tmp_path: Path) -> None:
    run()
    metric = 'metric=[{use="local/broken", num_samples=4, from_call=2}]'
    opened = ddpmkit.load(tmp_path, overrides=["sampler.use=local/broken", metric], registry=registry)
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for doing, work in {
        "generating 3 samples": lambda: opened.sample(3),
        "generating 2 samples": lambda: opened.edit(image, 2),
        "generating 1 sample": lambda: opened.inpaint(image, torch.ones(8, 8, dtype=torch.bool), 1),
        "generating 4 samples": lambda: opened.interpolate(0, 1, 4),
        "visualizing the forward and the reverse process": opened.visualize,
        "evaluating by local/broken": opened.evaluate,
    }.items():
        with pytest.raises(RunFailed) as caught:
            work()
        assert f"sampler 'local/broken' failed while {doing}, with KeyError: 'beta'" in caught.value.message
    opened = ddpmkit.load(tmp_path, overrides=['metric=[{use="local/broken", num_samples=4}]'], registry=registry)
    with pytest.raises(RunFailed, match="metric 'local/broken' failed while evaluating by local/broken, with KeyError"):
        opened.evaluate()


def test_a_metric_that_fails_is_reported_and_the_run_continues(
    run: RunWith, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metric = {"use": "local/broken", "every": 10, "num_samples": 4}
    done = run(metric=[metric])
    assert done.step == 20
    first, last = ended(done).problems
    assert first.startswith("metric 'local/broken' failed while evaluating step 10 by local/broken, with KeyError")
    assert last.startswith("metric 'local/broken' failed while evaluating step 20 by local/broken, with KeyError")
    assert "The run continues." in caplog.text
    assert [(entry["event"], entry["step"]) for entry in incidents(tmp_path)] == [("failed", 10), ("failed", 20)]
    assert (tmp_path / "report.html").exists()
    # The same command tries again to take the score that is missing at the end, with a metric that works now.
    again = run(metric=[{**metric, "from_call": 100}])
    assert ended(again).problems == ()
    assert [record["step"] for record in again.folder.log.records("scores")] == [20]


def test_a_sampler_that_fails_does_not_stop_training(run: RunWith, tmp_path: Path) -> None:
    done = run(sampler={"use": "local/broken", "count": 4})
    assert done.step == 20
    assert [text.partition(", with KeyError")[0] for text in ended(done).problems] == [
        "sampler 'local/broken' failed while generating the samples of step 20",
        "sampler 'local/broken' failed while visualizing the forward and the reverse process",
    ]
    assert newest_checkpoint(tmp_path / "checkpoints") is not None


def test_missing_images_are_made_when_the_sampler_works_again(run: RunWith, tmp_path: Path) -> None:
    strips = [tmp_path / "viz" / f"{name}.png" for name in ("forward", "backward")]
    run(sampler={"use": "local/broken", "count": 4})
    assert not any(strip.exists() for strip in strips)
    page = (tmp_path / "report.html").read_bytes()
    fixed = run()
    assert ended(fixed).problems == ()
    assert all(strip.exists() for strip in strips)
    assert (tmp_path / "report.html").read_bytes() != page
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.suffix in (".png", ".html")}
    run()
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_score_that_was_missing_is_added_to_the_report(run: RunWith, tmp_path: Path) -> None:
    metric = {"use": "local/broken", "num_samples": 4}
    run(metric=[metric])
    assert "<h2>Scores</h2>" not in (tmp_path / "report.html").read_text()
    run(metric=[{**metric, "from_call": 100}])
    assert "<h2>Scores</h2>" in (tmp_path / "report.html").read_text()


def test_a_tracker_that_fails_is_disabled_and_named(run: RunWith, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        done = run(tracker=[{"use": "local/broken", "from_call": 3}])
    assert done.step == 20
    assert ended(done).problems == ()
    assert caplog.text.count("tracker local/broken failed with KeyError: 'beta'; it is disabled") == 1


def test_out_of_memory_in_training_names_the_keys_that_help(run: RunWith, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="out of memory while training step 3") as caught:
        run(loss={"use": "local/broken", "from_call": 3, "how": "memory"})
    assert "train.batch_size = 4" in caught.value.message
    assert [remedy.split()[1].rstrip(",") for remedy in caught.value.remedies] == [
        "train.accumulate",
        "train.batch_size",
    ]
    assert newest_checkpoint(tmp_path / "checkpoints") is not None


def test_out_of_memory_in_sampling_is_reported_and_the_run_continues(run: RunWith) -> None:
    done = run(sampler={"use": "local/broken", "count": 4, "how": "memory"})
    assert any("out of memory while generating the samples of step 20" in text for text in ended(done).problems)


def test_an_error_of_ddpmkit_itself_is_not_attributed_to_a_plugin(
    run: RunWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ddpmkit.training.objective.integers", fail)
    with pytest.raises(ZeroDivisionError):
        run()
