from collections.abc import Callable
from typing import Any

from ddpmkit.experiment.profile import profile
from ddpmkit.recipe import read_recipe


def test_flops_scale_with_the_batch_and_phases_add_up(small: Callable[..., dict[str, Any]]) -> None:
    progress: list[int] = []
    found = profile(read_recipe(small()), 3, progress.append)
    assert progress == [1, 1, 1]
    assert min(found.phases.values()) > 0
    assert sum(found.phases.values()) <= found.phased_seconds == found.seconds
    twice = profile(read_recipe(small(train={"batch_size": 8})), 1)
    # All products and convolutions are per image; only the embedding of t is not, and it is one row an image as well.
    assert twice.flops == 2 * found.flops > 0
    assert found.kernels is found.idle_share is None
    assert found.bytes_moved > 2 * 4 * found.parameters
    assert found.share_of_copy_rate == found.bytes_moved / found.seconds / found.copy_rate
    assert found.share_of_matmul_rate == found.flops / found.seconds / found.matmul_rate
