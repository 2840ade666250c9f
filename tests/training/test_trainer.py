from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.device_program import DeviceProgram
from ddpmkit.randomness import Purpose, integers
from ddpmkit.recipe import WeightsChoice
from ddpmkit.training.state import state_tensors
from ddpmkit.training.trainer import NotFinite, StepOutcome, Trainer

MakeTrainer = Callable[..., Trainer]
TakeStep = Callable[[Trainer], StepOutcome]
SpoilBatches = Callable[..., None]
FlatWeights = Callable[[nn.Module], Tensor]


def flat_gradient(item: Trainer) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in item.network.parameters()])  # type: ignore[union-attr]


@pytest.mark.parametrize("self_conditioning", [False, True])
def test_accumulation_does_not_change_a_step(
    make_trainer: MakeTrainer, take_step: TakeStep, flat_weights: FlatWeights, self_conditioning: bool
) -> None:
    whole, parts = (make_trainer(self_conditioning=self_conditioning, accumulate=parts) for parts in (1, 4))
    for _ in range(5):
        first, second = take_step(whole), take_step(parts)
        assert first.loss == pytest.approx(second.loss, rel=1e-5)
        assert first.gradient_norm == pytest.approx(second.gradient_norm, rel=1e-4)
    torch.testing.assert_close(flat_weights(whole.network), flat_weights(parts.network), rtol=1e-4, atol=1e-6)


def test_a_step_is_adam_on_the_clipped_gradient(
    make_trainer: MakeTrainer, take_step: TakeStep, flat_weights: FlatWeights
) -> None:
    item = make_trainer(gradient_clip=0.01, learning_rate=0.1)
    before = flat_weights(item.network)
    outcome = take_step(item)
    assert outcome.gradient_norm > 0.01
    gradient = flat_gradient(item)
    assert gradient.norm().item() == pytest.approx(0.01, rel=1e-3)
    # Kingma & Ba (2015), algorithm 1 at t = 1: both bias corrections cancel the decay rates.
    torch.testing.assert_close(flat_weights(item.network), before - 0.1 * gradient / (gradient.abs() + 1e-8))


def test_gradient_clip_0_only_measures_the_norm(make_trainer: MakeTrainer, take_step: TakeStep) -> None:
    item = make_trainer(gradient_clip=0.0)
    reported = take_step(item).gradient_norm
    assert flat_gradient(item).norm().item() == pytest.approx(reported, rel=1e-5)


def test_every_step_uses_its_learning_rate(make_trainer: MakeTrainer, take_step: TakeStep) -> None:
    item = make_trainer(warmup_steps=4, learning_rate=0.8)
    assert [take_step(item).learning_rate for _ in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_a_power_average_counts_a_skipped_step_and_an_ordinary_one_does_not(
    make_trainer: MakeTrainer, spoil_batches: SpoilBatches, flat_weights: FlatWeights
) -> None:
    item = make_trainer(ema_sigma_rels=(0.1,), ema_decay=0.9, learning_rate=0.1, on_nonfinite="skip")
    spoil_batches(item, 3)
    seen, exponential = [], flat_weights(item.network)
    for step in range(1, 6):
        item.train_step()
        seen.append(flat_weights(item.network))
        if step != 4:
            # TensorFlow's warm-up: min(decay, (1 + step) / (10 + step)).
            exponential = exponential.lerp(seen[-1], 1 - min(0.9, (1 + step) / (10 + step)))
    assert torch.equal(seen[3], seen[2])
    share = [((step / 5) ** 7.9372 - ((step - 1) / 5) ** 7.9372) for step in range(1, 6)]
    expected = sum(part * then for part, then in zip(share, seen, strict=True))
    found = flat_weights(item.averaged_network(WeightsChoice("sigma_rel", 0.1)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(flat_weights(item.averaged_network()), exponential, rtol=1e-4, atol=1e-6)


def everything(item: Trainer) -> dict[str, Tensor]:
    """All tensors that a step changes."""
    return {
        f"{part}/{name}": tensor.clone()
        for part, tensors in state_tensors(item).items()
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon"])
def test_a_step_that_is_not_finite_changes_nothing(
    make_trainer: MakeTrainer, spoil_batches: SpoilBatches, optimizer: str
) -> None:
    item = make_trainer(optimizer=optimizer, batch_norm=True, weight_decay=0.1, ema_sigma_rels=(0.1,))
    spoil_batches(item, 1)
    item.train_step()
    item.settle()
    before = everything(item)
    item.train_step()
    item.train_step()  # it follows a step that was refused
    with pytest.raises(NotFinite) as caught:
        item.settle()
    assert item.step == 1
    after = everything(item)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    facts = caught.value.facts
    assert (facts["step"], str(facts["loss"]), len(facts["losses"])) == (2, "nan", 8)
    assert facts["images"] == item.images.batch(1, range(8), 8).indices.tolist()
    assert facts["timesteps"] == integers(3, Purpose.TIMESTEP, 1, torch.arange(8), 50).tolist()


def test_a_step_that_fails_changes_nothing(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two parts has updated the statistics of batch normalization when the second one fails."""
    item = make_trainer(batch_norm=True, accumulate=2)
    item.train_step()
    before = everything(item)
    backward = Tensor.backward
    calls: list[Tensor] = []

    def failing(loss: Tensor) -> None:
        calls.append(loss)
        if len(calls) == 2:
            raise MemoryError
        backward(loss)  # type: ignore[no-untyped-call]

    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "backward", failing)
        with pytest.raises(MemoryError):
            item.train_step()
    item.settle()
    after = everything(item)
    assert item.step == 1
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_steps_are_skipped_up_to_the_limit(make_trainer: MakeTrainer, spoil_batches: SpoilBatches) -> None:
    item = make_trainer(on_nonfinite="skip", nonfinite_limit=2)
    spoil_batches(item, 1, 3, 4, 6, 7, 8)
    skipped: list[int] = []
    item.on_skip = lambda error: skipped.append(error.facts["step"])
    for _ in range(5):
        item.train_step()
    assert item.settle() is None
    assert (item.step, item.skipped, skipped) == (5, 2, [2, 4, 5])
    item.train_step()
    outcome = item.settle()
    assert outcome is not None
    assert item.skipped == 0
    for _ in range(4):
        item.train_step()
    with pytest.raises(NotFinite, match="step 9"):
        item.settle()
    assert (item.step, item.skipped, skipped) == (8, 2, [2, 4, 5, 7, 8])


def test_a_skipped_step_leaves_the_others_as_they_are(
    make_trainer: MakeTrainer, take_step: TakeStep, spoil_batches: SpoilBatches
) -> None:
    """The steps after a skipped one are those of a trainer that has the weights and moments of the step before."""
    skipping, other = (make_trainer(on_nonfinite="skip", ema_decay=0.0) for _ in range(2))
    spoil_batches(skipping, 1)
    take_step(skipping)
    take_step(other)
    skipping.train_step()
    other.restart(2)
    for _ in range(3):
        assert take_step(skipping) == take_step(other)


def test_many_steps_can_be_queued(make_trainer: MakeTrainer, take_step: TakeStep, flat_weights: FlatWeights) -> None:
    waiting, queueing = make_trainer(), make_trainer(log_every=4)
    for _ in range(11):
        expected = take_step(waiting)
        queueing.train_step()
    assert queueing.settle() == expected
    assert queueing.settle() == expected
    assert torch.equal(flat_weights(queueing.network), flat_weights(waiting.network))


def test_offset_noise_of_the_recipe_is_used(make_trainer: MakeTrainer, take_step: TakeStep) -> None:
    assert take_step(make_trainer(offset_noise=0.5)) != take_step(make_trainer())


def test_a_rollback_leads_to_other_batches_deterministically(make_trainer: MakeTrainer, take_step: TakeStep) -> None:
    items = [make_trainer() for _ in range(3)]
    items[1].rollbacks = items[2].rollbacks = 1
    first, rolled_back, again = (take_step(item).loss for item in items)
    assert first != rolled_back
    assert rolled_back == again


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam"},
        {"optimizer": "adamw", "ema_decays": (0.9,), "ema_sigma_rels": (0.1,)},
        {"optimizer": "muon"},
        {"self_conditioning": True},
        {"accumulate": 2, "dropout": 0.3, "batch_norm": True},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_a_step_is_one_graph_that_reads_nothing_on_the_host(
    make_trainer: MakeTrainer, take_step: TakeStep, flat_weights: FlatWeights, settings: dict[str, object]
) -> None:
    expected, compiled = make_trainer(**settings), make_trainer(**settings)
    if not hasattr(torch._dynamo.config, "trace_autograd_ops"):
        pytest.skip("this version of torch traces no backward pass")
    # With fullgraph, the compiler raises an error for code that it cannot trace, such as a branch on a value.
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        torch._dynamo.reset()  # a second compilation would take numbers that have changed as variables
        step = torch.compile(compiled.compute_step, fullgraph=True, dynamic=False, backend="eager")
        compiled._programs = {
            self_condition: DeviceProgram(partial(step, self_condition=self_condition), torch.device("cpu"))
            for self_condition in (False, True)
        }
        for _ in range(4):
            assert take_step(compiled) == take_step(expected)
    assert torch.equal(flat_weights(compiled.network), flat_weights(expected.network))
    for name, average in compiled.averages.items():
        assert torch.equal(flat_weights(average.network), flat_weights(expected.averages[name].network))
