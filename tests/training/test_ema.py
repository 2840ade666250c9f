import numpy as np
import pytest
import torch
from torch import nn

from ddpmkit.recipe import TrainSection
from ddpmkit.training.ema import Average, Ema, PowerEma, build_averages, warmed_up_decay


def weight_at(average: Average, step: int) -> torch.Tensor:
    return torch.tensor(1 - average.decay_at(step))


def test_a_constant_weight_is_approached_as_in_closed_form() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = Ema(network, decay=0.9)
    nn.init.ones_(network.weight)
    missing = 1.0
    for step in range(1, 40):
        ema.update(network, weight_at(ema, step))
        missing *= min(0.9, (1 + step) / (10 + step))
        assert ema.network.weight.item() == pytest.approx(1 - missing, rel=1e-5)


def test_the_warm_up_forgets_the_first_weights_within_a_hundred_steps() -> None:
    share_of_the_first = 1.0
    for step in range(1, 101):
        share_of_the_first *= warmed_up_decay(step, 0.9999)
    assert share_of_the_first < 1e-6


def test_buffers_are_copied_and_never_averaged() -> None:
    network = nn.BatchNorm1d(1)
    ema = Ema(network, decay=0.99)
    network.running_mean = torch.tensor([5.0])
    ema.update(network, weight_at(ema, 1))
    assert ema.network.running_mean.item() == 5.0  # type: ignore[union-attr, operator]


def test_the_average_takes_no_gradient_and_leaves_the_weights_alone() -> None:
    network = nn.Linear(2, 2)
    before = network.weight.detach().clone()
    ema = Ema(network, decay=0.99)
    ema.update(network, weight_at(ema, 1))
    assert torch.equal(network.weight, before)
    assert not any(weight.requires_grad for weight in ema.network.parameters())


def test_a_weight_of_0_leaves_averages_and_buffers_alone() -> None:
    network = nn.BatchNorm1d(2)
    ema = Ema(network, decay=0.99)
    before = {name: value.clone() for name, value in ema.network.state_dict().items()}
    nn.init.constant_(network.weight, 3.0)
    network.running_mean = torch.tensor([1.0, torch.nan])
    ema.update(network, torch.tensor(0.0))
    assert all(torch.equal(value, before[name]) for name, value in ema.network.state_dict().items())


def test_an_update_compiles_to_one_graph() -> None:
    network = nn.BatchNorm1d(3)
    eager, traced = Ema(network, decay=0.99), Ema(network, decay=0.99)
    nn.init.constant_(network.weight, 3.0)
    eager.update(network, torch.tensor(0.25))
    torch.compile(traced.update, fullgraph=True, backend="eager")(network, torch.tensor(0.25))
    assert torch.equal(eager.network.weight, traced.network.weight)  # type: ignore[arg-type]
    assert eager.network.weight.tolist() == [1.5] * 3  # type: ignore[union-attr, operator]


def weight_of_each_step(average: Average, steps: int) -> list[float]:
    """The share of each step's weights in the average after `steps`."""
    shares = []
    for counted in range(1, steps + 1):
        network = average.network
        nn.init.zeros_(network.weight)  # type: ignore[arg-type]
        for step in range(1, steps + 1):
            current = nn.Linear(1, 1, bias=False).double()
            nn.init.constant_(current.weight, float(step == counted))
            average.update(current, weight_at(average, step))
        shares.append(network.weight.item())  # type: ignore[union-attr, operator]
    return shares


@pytest.mark.parametrize(("sigma_rel", "gamma"), [(0.05, 16.9722), (0.10, 6.93720)])
def test_a_power_average_counts_each_step_by_the_integral_of_its_profile(sigma_rel: float, gamma: float) -> None:
    """Over the step k that is (k^(gamma + 1) - (k - 1)^(gamma + 1)) / n^(gamma + 1); the initial weights count 0."""
    n = 40
    average = PowerEma(nn.Linear(1, 1, bias=False).double(), sigma_rel)
    k = np.arange(1, n + 1)
    expected = (k / n) ** (gamma + 1) - ((k - 1) / n) ** (gamma + 1)
    np.testing.assert_allclose(weight_of_each_step(average, n), expected, rtol=1e-3, atol=1e-12)
    assert expected.sum() == pytest.approx(1)


def test_all_averages_of_the_recipe_are_built() -> None:
    settings = TrainSection(ema_decay=0.9, ema_decays=(0.99,), ema_sigma_rels=(0.05, 0.1))
    averages = build_averages(nn.Linear(1, 1), settings)
    assert list(map(str, averages)) == ["ema", "decay=0.99", "sigma_rel=0.05", "sigma_rel=0.1"]
    assert build_averages(nn.Linear(1, 1), TrainSection(ema_decay=0)) == {}
    shares = [average.decay_at(100) for average in averages.values()]
    assert shares == pytest.approx([0.9, 101 / 110, 0.99**17.9722, 0.99**7.9372], rel=1e-6)
