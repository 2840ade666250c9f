"""A small part of `tests/stress/damaged_folders.py`, another one for each command."""

import random

import pytest
from damaged_folders import COMMANDS, Case, cases, damage_everything, finished_run
from damages import DAMAGES
from every_operation import Workspace

_EACH = 4
"""Damages that each command is tried on."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return finished_run(tmp_path_factory.mktemp("damaged"))


def some(place: Workspace) -> list[Case]:
    """Of every kind of damage several cases, and of every command."""
    chance, kinds = random.Random(0), list(DAMAGES)
    chosen = []
    for number, command in enumerate(COMMANDS):
        mine = {kinds[(number * _EACH + place) % len(kinds)] for place in range(_EACH)}
        for kind in sorted(mine):
            chosen.append(chance.choice([case for case in cases(place, [command]) if case.kind == kind]))
    return chosen


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_damage_of_a_run_folder_makes_a_command_crash_or_hang(place: Workspace) -> None:
    chosen = some(place)
    assert {case.kind for case in chosen} == set(DAMAGES)
    outcome = damage_everything(place, chosen)
    assert outcome.problems == []
    assert outcome.commands == len(COMMANDS) * _EACH
    assert 0 < outcome.refused < outcome.commands
