"""How checks are selected, reported and declared to fail."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from ddpmkit.contracts import KINDS
from ddpmkit.errors import ComponentUnavailable, InputError, PluginError
from ddpmkit.plugin import Component, ComponentConfig
from ddpmkit.plugin.discovery import discover
from ddpmkit.plugin.finder import FoundPlugin
from ddpmkit.plugin.registered_component import RegisteredComponent
from ddpmkit.recipe import RecipeError
from ddpmkit.testing import Check, ConformanceError, checks_text, conformance_checks
from ddpmkit.testing.conformance import rules

BUILT_INS = discover(third_party=False).registry()
NOT_APPLICABLE = {"loss.with-bound"}
DOCS = Path(__file__).parents[2] / "docs"


class OneNumber:
    """A loss that returns one number per batch."""

    def __init__(self, config: ComponentConfig, *, prediction: str) -> None: ...

    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        return (prediction - target).square().mean()


class Unavailable(OneNumber):
    def __init__(self, config: ComponentConfig, *, prediction: str) -> None:
        raise ComponentUnavailable("not here")


class Broken(OneNumber):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        raise KeyError("scale")


class Quitting(OneNumber):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        raise SystemExit(0)


class Unbuildable(OneNumber):
    def __init__(self, config: ComponentConfig, *, prediction: str) -> None:
        raise RuntimeError("no scale")


class UncallableWithoutSignal(OneNumber):
    def __call__(self, prediction: Tensor, target: Tensor, alpha_bar: Tensor) -> Tensor:
        if (alpha_bar == 0).any():
            raise ZeroDivisionError("no signal")
        return (prediction - target).square().flatten(1).mean(dim=1)


def registered(target: type) -> RegisteredComponent:
    component = Component(kind="loss", name="one-number", target=f"{__name__}:{target.__name__}", summary="a loss")
    return RegisteredComponent(component, FoundPlugin("acme.one-number", "", "ddpmkit-acme", "1.0"))


def checked(target: type, name: str, **options: Any) -> Check:
    (found,) = (check for check in conformance_checks(registered(target), **options) if check.id == name)
    return found


def test_a_failure_shows_the_check_the_requirement_the_finding_and_the_remedy() -> None:
    with pytest.raises(ConformanceError) as caught:
        checked(OneNumber, "loss.per-sample").run()
    assert str(caught.value).splitlines() == [
        "loss.per-sample: acme/one-number failed",
        "  expected: returns one loss per image, [B]",
        "  found:    shape [] instead of [4] for a batch of 4, prediction epsilon",
        "  to fix:   Average over channels and pixels, and not over the batch: `.flatten(1).mean(dim=1)`. The core "
        "averages over the batch, and reports the loss by timestep.",
    ]


def test_an_exception_in_a_check_is_a_failure_with_its_cause() -> None:
    with pytest.raises(ConformanceError, match="found:    KeyError: 'scale'"):
        checked(Broken, "loss.grows").run()


@pytest.mark.parametrize(("target", "raised"), [(Broken, "KeyError: 'scale'"), (Quitting, "SystemExit: 0")])
def test_a_component_that_always_raises_passes_no_check_that_uses_it(target: type, raised: str) -> None:
    outcomes = {check.id: check.outcome() for check in conformance_checks(registered(target))}
    grows = outcomes["loss.grows"]
    assert grows.status == "failed"
    assert re.fullmatch(rf"{raised}, raised at \S*test_conformance.py:\d+ in __call__", grows.seen)
    assert "It raises even in the simplest use" in grows.facts()[-1][1]
    assert grows.traceback.splitlines()[-1] == raised
    unseen = ("manners.no-global-rng", "manners.built-twice", "manners.silent", "manners.settings-kept")
    for name in unseen:
        assert outcomes[name].status == "not checked"
        assert outcomes[name].seen.startswith(f"it raises when it is used: {raised}")
    with pytest.raises(ConformanceError, match="one-number not checked"):
        checked(target, "manners.silent").run()


def test_an_exception_in_one_check_only_shows_the_remedy_of_that_check() -> None:
    outcome = checked(UncallableWithoutSignal, "loss.finite").outcome()
    assert outcome.seen.startswith("ZeroDivisionError: no signal, raised at ")
    assert "divides by alpha_bar" in outcome.facts()[-1][1]
    assert checked(UncallableWithoutSignal, "manners.silent").outcome().status == "passed"


def test_a_component_that_cannot_be_built_is_not_checked_even_with_xfail() -> None:
    declared = {"loss.grows": "because"}
    outcomes = {check.id: check.outcome() for check in conformance_checks(registered(Unbuildable), xfail=declared)}
    of_the_declaration = {"manners.fields-described", "manners.keys-free", "manners.config-as-toml"}
    not_checked = {name for name, outcome in outcomes.items() if outcome.status == "not checked"}
    assert outcomes.keys() - not_checked == of_the_declaration | {"manners.manifest-without-torch"} | NOT_APPLICABLE
    assert not outcomes["loss.grows"].good
    assert re.fullmatch(
        r"it cannot be built: RuntimeError: no scale, raised at \S*test_conformance.py:\d+ in __init__",
        outcomes["loss.grows"].seen,
    )


def test_an_unavailable_component_is_not_checked() -> None:
    with pytest.raises(ComponentUnavailable, match="not here"):
        checked(Unavailable, "loss.per-sample").run()
    with pytest.raises(ComponentUnavailable, match="not here"):
        checked(Unavailable, "manners.silent").run()


def test_an_xfail_check_that_fails_shows_its_reason() -> None:
    outcome = checked(OneNumber, "loss.per-sample", xfail={"loss.per-sample": "one number until 2.0"}).run()
    assert (outcome.status, outcome.good) == ("xfailed", True)
    assert outcome.facts()[0] == ("reason", "one number until 2.0")
    assert "shape [] instead of [4]" in str(outcome)


def test_an_xfail_check_that_passes_is_a_failure() -> None:
    with pytest.raises(ConformanceError, match="it passes, but was declared to fail: it never did"):
        checked(OneNumber, "loss.grows", xfail={"loss.grows": "it never did"}).run()


@pytest.mark.parametrize(
    ("xfail", "message"),
    [
        (
            {"loss.grow": "because"},
            "xfail contains 'loss.grow', which is not a check of a loss.*did you mean 'loss.grows'",
        ),
        ({"schedule.snr": "because"}, "not a check of a loss"),
        ({"loss.grows": "  "}, "xfail of loss.grows has no reason"),
        ({"loss.grows": None}, "xfail of loss.grows has no reason"),
    ],
)
def test_an_invalid_xfail_is_an_error(xfail: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"(?s){message}"):
        conformance_checks(registered(OneNumber), xfail=xfail)


def test_a_check_that_does_not_apply_neither_passes_nor_fails() -> None:
    outcome = checked(OneNumber, "loss.with-bound").run()
    assert (outcome.status, outcome.good, outcome.facts()) == ("not applicable", True, [])
    assert str(outcome).endswith("one-number not applicable: it does not provide `learned-variance`")
    declared = checked(OneNumber, "loss.with-bound", xfail={"loss.with-bound": "until 2.0"})
    with pytest.raises(ConformanceError, match="`learned-variance`, but was declared to fail: until"):
        declared.run()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("loss", "loss.with-bound"), ("backbone", "backbone.labels"), ("backbone", "backbone.label-not-told")],
)
def test_checks_of_a_capability_apply_only_if_it_is_provided(kind: str, name: str) -> None:
    component = Component(kind=kind, name="one-number", target=f"{__name__}:OneNumber", summary="no promise")
    entry = RegisteredComponent(component, FoundPlugin("acme.one-number", "", "ddpmkit-acme", "1.0"))
    (check,) = (check for check in conformance_checks(entry) if check.id == name)
    assert check.outcome().status == "not applicable"


def test_a_single_file_may_import_torch() -> None:
    file = FoundPlugin("local.one", "", "one.py", "sha256:0", Path("one.py"))
    checks = conformance_checks(RegisteredComponent(registered(OneNumber).component, file))
    (check,) = (check for check in checks if check.id == "manners.manifest-without-torch")
    assert (check.outcome().status, check.outcome().seen[:13]) == ("not applicable", "a single file")


def test_xfail_does_not_remove_a_check() -> None:
    names = [check.id for check in conformance_checks(registered(OneNumber))]
    assert [check.id for check in conformance_checks(registered(OneNumber), xfail={"loss.grows": "because"})] == names


def test_invalid_settings_are_reported() -> None:
    with pytest.raises(RecipeError, match="settings: `root` is missing in dataset `image-folder`\n  - `root`, a non-"):
        conformance_checks("image-folder", registry=BUILT_INS)
    with pytest.raises(RecipeError) as caught:
        conformance_checks("ddim", settings={"eta": 2.0, "etta": 1.0}, registry=BUILT_INS)
    wrong, unknown = caught.value.problems
    assert wrong.message == "`eta` in sampler `ddim` must be a number from 0 to 1, but is 2.0"
    assert unknown.hints[0].startswith("did you mean `eta`")
    # As in a recipe, an array makes a tuple.
    levels = {"linear_attention_levels": [1, 2]}
    checks = conformance_checks("attention-unet", settings=levels, registry=BUILT_INS)
    assert checks[0].subject.config.model_dump()["linear_attention_levels"] == (1, 2)


def test_an_unknown_component_lists_the_closest_name() -> None:
    with pytest.raises(PluginError, match="did you mean 'cosine'"):
        conformance_checks("cosin", registry=BUILT_INS)
    with pytest.raises(PluginError, match="there is no loss 'cosine'"):
        conformance_checks("cosine", kind="loss", registry=BUILT_INS)


PLUGIN = """
from ddpmkit.plugin import Component, hookimpl

class OneNumber:
    def __init__(self, config, *, prediction): ...

    def __call__(self, prediction, target, alpha_bar):
        return (prediction - target).square().mean()

@hookimpl
def ddpmkit_components():
    yield Component(kind="loss", name="one-number", target="acme:OneNumber", summary="one number a batch")
"""

TESTS = """
from ddpmkit.testing import conformance_tests

test_l1 = conformance_tests("l1", xfail={"loss.grows": "it passes in truth"})
test_acme = conformance_tests("acme/one-number", xfail={"loss.per-sample": "until 2.0"})
"""


def test_in_pytest_each_check_is_a_test_and_xfail_is_reported_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "acme.py").write_text(PLUGIN)
    (tmp_path / "test_it.py").write_text(TESTS)
    info = tmp_path / "ddpmkit_acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ddpmkit-acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ddpmkit.plugins]\nacme.one-number = acme\n")
    command = [sys.executable, "-m", "pytest", "-rxfs", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert f"1 failed, {2 * len(rules('loss')) - 4} passed, 2 skipped, 1 xfailed" in done.stdout, done.stdout
    assert "XFAIL test_it.py::test_acme[loss.per-sample] - until 2.0" in done.stdout
    assert "FAILED test_it.py::test_l1[loss.grows]" in done.stdout
    assert "it passes, but was declared to fail: it passes in truth" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_has_a_valid_id_a_requirement_and_a_remedy(kind: str) -> None:
    for rule in rules(kind):
        family, _, name = rule.id.partition(".")
        assert family in ("manners", kind)
        assert name.replace("-", "").isalnum()
        assert name == name.lower()
        assert rule.requirement[-1] not in ".?"
        assert len(rule.remedy) > 40
    assert len({rule.id for rule in rules(kind)}) == len(rules(kind))


def test_conformance_md_is_up_to_date() -> None:
    _, _, documented = (DOCS / "conformance.md").read_text(encoding="utf-8").partition("<!-- checks -->\n")
    assert documented.strip() == checks_text().strip()
    for kind in KINDS:
        for rule in rules(kind):
            assert f"### `{rule.id}`" in documented
