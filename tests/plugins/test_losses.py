import pytest
import torch
import torch.nn.functional as F

from ddpmkit.plugin import ComponentConfig
from ddpmkit_plugins.huber import HuberConfig
from ddpmkit_plugins.huber.loss import HuberLoss
from ddpmkit_plugins.l1.loss import L1Loss
from ddpmkit_plugins.l2.loss import L2Loss

ALPHA_BAR = torch.tensor([0.9, 0.5, 0.1])


@pytest.mark.parametrize(
    ("loss", "reference"),
    [
        (L1Loss(ComponentConfig(), prediction="epsilon"), F.l1_loss),
        (L2Loss(ComponentConfig(), prediction="v"), F.mse_loss),
        (HuberLoss(HuberConfig(delta=0.7), prediction="x0"), lambda a, b: F.huber_loss(a, b, delta=0.7)),
    ],
)
def test_the_loss_of_each_image_equals_torch(loss, reference) -> None:  # type: ignore[no-untyped-def]
    prediction, target = torch.randn(2, 3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = loss(prediction, target, ALPHA_BAR)
    assert found.tolist() == pytest.approx([reference(prediction[i], target[i]).item() for i in range(3)], rel=1e-5)


def test_values_computed_by_hand() -> None:
    prediction = torch.tensor([[[[0.0, 3.0]]]])
    target = torch.tensor([[[[0.5, 1.0]]]])
    bar = torch.tensor([0.5])
    assert L1Loss(ComponentConfig(), prediction="epsilon")(prediction, target, bar).item() == 1.25
    assert L2Loss(ComponentConfig(), prediction="epsilon")(prediction, target, bar).item() == 2.125
    # delta 1: 0.5 * 0.25, and 1 * (2 - 0.5).
    assert HuberLoss(HuberConfig(), prediction="epsilon")(prediction, target, bar).item() == 0.8125
