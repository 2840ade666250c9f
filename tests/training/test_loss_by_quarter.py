import pytest
import torch

from ddpmkit.training.loss_by_quarter import LossByQuarter

YES, NO = torch.tensor(True), torch.tensor(False)


def test_means_by_quarter_over_several_batches() -> None:
    progress = LossByQuarter(timesteps=50, device=torch.device("cpu"))
    progress.add(torch.tensor([0, 12, 13, 49]), torch.tensor([1.0, 3.0, 5.0, 7.0]), YES)
    progress.add(torch.tensor([24, 25]), torch.tensor([7.0, 9.0]), YES)
    # Quarters of 50 begin at 0, 12.5, 25, 37.5.
    assert progress.take() == pytest.approx((2.0, 6.0, 9.0, 7.0))


def test_a_quarter_without_images_is_none_and_taking_resets_the_sums() -> None:
    progress = LossByQuarter(timesteps=4, device=torch.device("cpu"))
    progress.add(torch.tensor([3]), torch.tensor([0.5]), YES)
    assert progress.take() == (None, None, None, 0.5)
    assert progress.take() == (None, None, None, None)


def test_losses_of_a_step_that_is_not_finite_are_not_added() -> None:
    progress = LossByQuarter(timesteps=4, device=torch.device("cpu"))
    progress.add(torch.tensor([0, 3]), torch.tensor([1.0, 2.0]), YES)
    progress.add(torch.tensor([0, 3]), torch.tensor([torch.nan, torch.inf]), NO)
    assert progress.sums.tolist() == [1.0, 0.0, 0.0, 2.0]
    assert progress.counts.tolist() == [1.0, 0.0, 0.0, 1.0]
