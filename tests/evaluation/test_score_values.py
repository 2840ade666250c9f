import math

import numpy as np
import pytest
import torch

from ddpmkit.errors import RunFailed
from ddpmkit.evaluation.score_values import check_scores


def test_numbers_of_any_library_are_values() -> None:
    found = check_scores("m", {"a": 1, "b": np.float32(0.5), "c": torch.tensor(2.0), "d": -3.25})
    assert found == ({"a": 1.0, "b": 0.5, "c": 2.0, "d": -3.25}, {})
    assert all(type(value) is float for value in found.values.values())


def test_values_that_are_not_finite_numbers_are_stored_as_text() -> None:
    answer = {"a": math.nan, "b": -math.inf, "c": "good", "d": None, "e": torch.zeros(2), "f": 1.0}
    found = check_scores("m", answer)
    assert found.values == {"f": 1.0}
    assert found.unusable == {"a": "nan", "b": "-inf", "c": "'good'", "d": "None", "e": "tensor([0., 0.])"}
    assert len(check_scores("m", {"a": "x" * 1000}).unusable["a"]) == 100


@pytest.mark.parametrize("answer", [None, 3.0, [1.0]])
def test_a_return_value_that_is_not_a_mapping_names_the_metric(answer: object) -> None:
    with pytest.raises(RunFailed, match=r"metric 'fd': its scores\(\) returned \w+, not a mapping of names to numbers"):
        check_scores("fd", answer)
