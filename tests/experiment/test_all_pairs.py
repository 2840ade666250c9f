"""Every pair of choices of schedule, loss, prediction, sampler and backbone occurs in at least one run."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import ddpmkit
from ddpmkit.plugin.discovery import discover
from ddpmkit.recipe import RecipeError, read_recipe

Choice = tuple[str, str]

_INSTALLED = discover(third_party=False).registry()
FACTORS: Mapping[str, list[str]] = {
    **{kind: sorted(entry.use for entry in _INSTALLED.of_kind(kind)) for kind in ("schedule", "loss", "sampler")},
    "backbone": sorted(entry.use for entry in _INSTALLED.of_kind("backbone")),
    "prediction": ["epsilon", "x0", "v"],
    "zero_terminal_snr": ["no", "yes"],
}
# Without signal, eps does not determine x0, and sigma is infinite.
IMPOSSIBLE: list[tuple[Choice, Choice, str]] = [
    (("zero_terminal_snr", "yes"), ("prediction", "epsilon"), "x0 cannot be recovered from eps"),
    (("zero_terminal_snr", "yes"), ("sampler", "heun"), "sampler `heun` needs some signal at the last timestep"),
]
SMALL_BACKBONES: Mapping[str, dict[str, Any]] = {
    "attention-unet": {"dim": 8, "multipliers": [1, 2], "linear_attention_levels": [1], "heads": 1, "head_dim": 8},
    "adm-unet": {"dim": 8, "multipliers": [1, 2], "attention_levels": [1], "head_dim": 8, "groups": 4},
    "dit": {"dim": 16, "depth": 1, "heads": 2},
    "diffusers-unet": {
        **{"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4},
        **{"attention_levels": [1], "attention_head_dim": 8},
    },
}


def is_possible(row: Mapping[str, str]) -> bool:
    return not any(row[a[0]] == a[1] and row[b[0]] == b[1] for a, b, _ in IMPOSSIBLE if {a[0], b[0]} <= row.keys())


def covering() -> Iterator[dict[str, str]]:
    """Rows that cover all pairs, chosen greedily: each choice covers as many missing pairs as possible."""
    choices = [(factor, value) for factor, values in FACTORS.items() for value in values]
    missing = {
        frozenset(pair)
        for pair in itertools.combinations(choices, 2)
        if pair[0][0] != pair[1][0] and is_possible(dict(pair))
    }
    while missing:
        row: dict[str, str] = dict(min(sorted(pair) for pair in missing))
        for factor in FACTORS:
            if factor not in row:
                able = [value for value in FACTORS[factor] if is_possible({**row, factor: value})]
                row[factor] = max(able, key=lambda value: len(_met({**row, factor: value}) & missing))
        missing -= _met(row)
        yield row


def _met(row: Mapping[str, str]) -> set[frozenset[Choice]]:
    return {frozenset(pair) for pair in itertools.combinations(row.items(), 2)}


def recipe(small: Callable[..., dict[str, Any]], row: Mapping[str, str]) -> dict[str, Any]:
    backbone = {"use": row["backbone"], **SMALL_BACKBONES[row["backbone"]]}
    return {
        **small(train={"steps": 20, "batch_size": 4, "log_every": 20}),
        "schedule": {"use": row["schedule"]},
        "loss": {"use": row["loss"]},
        "sampler": {"use": row["sampler"], "count": 4, "batch_size": 4},
        "backbone": backbone,
        "diffusion": {
            "timesteps": 6,
            "prediction": row["prediction"],
            "zero_terminal_snr": row["zero_terminal_snr"] == "yes",
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize("row", list(covering()), ids=lambda row: "-".join(row.values()))
def test_a_combination_trains_and_samples(
    row: dict[str, str], small: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run = ddpmkit.run(recipe(small, row), tmp_path / "run")
    assert run.step == 20
    assert all(torch.isfinite(weight).all() for weight in run.model.network.parameters())
    images = run.sample(2)
    assert images.shape == (2, 3, 8, 8)
    assert images.float().std() > 1


@pytest.mark.parametrize(("one", "other", "why"), IMPOSSIBLE)
def test_an_impossible_combination_is_rejected_with_the_reason(
    one: Choice, other: Choice, why: str, small: Callable[..., dict[str, Any]]
) -> None:
    row = {factor: values[0] for factor, values in FACTORS.items()} | {"prediction": "v"} | dict([one, other])
    with pytest.raises(RecipeError, match=why):
        read_recipe(recipe(small, row), registry=_INSTALLED)


def test_every_possible_pair_is_covered() -> None:
    rows = list(covering())
    assert all(is_possible(row) and row.keys() == FACTORS.keys() for row in rows)
    for one, other in itertools.combinations(FACTORS, 2):
        for pair in itertools.product(FACTORS[one], FACTORS[other]):
            possible = is_possible(dict(zip((one, other), pair, strict=True)))
            assert any((row[one], row[other]) == pair for row in rows) == possible, pair
