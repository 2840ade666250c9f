import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ddpmkit.randomness import Purpose, integers
from ddpmkit.recipe import WeightsChoice
from ddpmkit.training.objective import Objective
from ddpmkit.training.trainer import NotFinite, Trainer

MakeTrainer = Callable[..., Trainer]
FlatWeights = Callable[[nn.Module], Tensor]


def flat_gradient(item: Trainer) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in item.network.parameters()])  # type: ignore[union-attr]


@pytest.mark.parametrize("self_conditioning", [False, True])
def test_accumulation_does_not_change_a_step(
    make_trainer: MakeTrainer, flat_weights: FlatWeights, self_conditioning: bool
) -> None:
    whole, parts = (make_trainer(self_conditioning=self_conditioning, accumulate=parts) for parts in (1, 4))
    for _ in range(5):
        first, second = whole.train_step(), parts.train_step()
        assert first.loss == pytest.approx(second.loss, rel=1e-5)
        assert first.gradient_norm == pytest.approx(second.gradient_norm, rel=1e-4)
    torch.testing.assert_close(flat_weights(whole.network), flat_weights(parts.network), rtol=1e-4, atol=1e-6)


def test_a_step_is_adam_on_the_clipped_gradient(make_trainer: MakeTrainer, flat_weights: FlatWeights) -> None:
    item = make_trainer(gradient_clip=0.01, learning_rate=0.1)
    before = flat_weights(item.network)
    outcome = item.train_step()
    assert outcome.gradient_norm > 0.01
    gradient = flat_gradient(item)
    assert gradient.norm().item() == pytest.approx(0.01, rel=1e-3)
    # Kingma & Ba (2015), algorithm 1 at t = 1: both bias corrections cancel the decay rates.
    torch.testing.assert_close(flat_weights(item.network), before - 0.1 * gradient / (gradient.abs() + 1e-8))


def test_gradient_clip_0_only_measures_the_norm(make_trainer: MakeTrainer) -> None:
    item = make_trainer(gradient_clip=0.0)
    reported = item.train_step().gradient_norm
    assert flat_gradient(item).norm().item() == pytest.approx(reported, rel=1e-5)


def test_every_step_uses_its_learning_rate(make_trainer: MakeTrainer) -> None:
    item = make_trainer(warmup_steps=4, learning_rate=0.8)
    assert [item.train_step().learning_rate for _ in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_a_power_average_counts_a_skipped_step(make_trainer: MakeTrainer, flat_weights: FlatWeights) -> None:
    item = make_trainer(ema_sigma_rels=(0.1,), learning_rate=0.1)
    seen = []
    for step in range(1, 6):
        item.skip_step() if step == 4 else item.train_step()
        seen.append(flat_weights(item.network))
    share = [((step / 5) ** 7.9372 - ((step - 1) / 5) ** 7.9372) for step in range(1, 6)]
    expected = sum(part * then for part, then in zip(share, seen, strict=True))
    found = flat_weights(item.averaged_network(WeightsChoice("sigma_rel", 0.1)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_an_infinite_loss_never_reaches_the_weights(make_trainer: MakeTrainer, flat_weights: FlatWeights) -> None:
    item = make_trainer()
    item.train_step()
    before = flat_weights(item.network)
    item.objective = Objective(
        item.objective.process,
        lambda prediction, *_: prediction.flatten(1).sum(1) * math.inf,
        item.objective.runtime,
    )
    sums = item.loss_by_quarter.sums.clone()
    with pytest.raises(NotFinite) as caught:
        item.train_step()
    assert torch.equal(flat_weights(item.network), before)
    assert torch.equal(item.loss_by_quarter.sums, sums)
    assert item.step == 1
    facts = caught.value.facts
    assert (facts["step"], facts["loss"], len(facts["losses"])) == (2, "inf", 8)
    assert facts["images"] == item.images.batch(1, range(8), 8).indices.tolist()
    assert facts["timesteps"] == integers(3, Purpose.TIMESTEP, 1, torch.arange(8), 50).tolist()


def test_offset_noise_of_the_recipe_is_used(make_trainer: MakeTrainer) -> None:
    assert make_trainer(offset_noise=0.5).train_step() != make_trainer().train_step()


def test_a_rollback_leads_to_other_batches_deterministically(make_trainer: MakeTrainer) -> None:
    items = [make_trainer() for _ in range(3)]
    items[1].rollbacks = items[2].rollbacks = 1
    first, rolled_back, again = (item.train_step().loss for item in items)
    assert first != rolled_back
    assert rolled_back == again
