import contextlib
import os
import signal
from pathlib import Path

import pytest
import torch

from ddpmkit.global_state import SettingsGuard, settings_now
from ddpmkit.interrupts import STOP_SIGNALS


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_replaced_signal_handler_is_restored_and_reported(
    number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(number)
    with contextlib.suppress(KeyError), SettingsGuard().guard("plugin acme"):
        signal.signal(number, signal.SIG_IGN)
        raise KeyError
    assert signal.getsignal(number) == before
    assert [message.partition(" from ")[0] for message in caplog.messages] == [
        f"the plugin acme changed the handler of {number.name}"
    ]


@pytest.mark.parametrize("outer", [contextlib.nullcontext, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("is_inner", [True, False])
def test_inference_mode_is_restored_together_with_gradients(
    outer: type[torch.no_grad], is_inner: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with outer():
        before = settings_now()
        settings = SettingsGuard()
        for _ in range(3):
            with settings.guard("loss 'x'"):
                guard = torch.inference_mode(is_inner)  # inference mode lasts as long as this object
                guard.__enter__()
                assert torch.is_inference_mode_enabled() == is_inner
            assert settings_now() == before
        del guard
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    said = [message for message in caplog.messages if "torch.is_inference_mode_enabled()" in message]
    assert len(said) == (is_inner != before["torch.is_inference_mode_enabled()"])


def test_a_setting_is_reported_once_for_each_component(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings, before = SettingsGuard(), Path.cwd()
    for who in ("loss 'x'", "loss 'x'", "metric 'y'"):
        with settings.guard(who):
            os.chdir(tmp_path)
        assert Path.cwd() == before
    assert caplog.messages == [
        f"the {who} changed the working directory from {before} to {tmp_path}; it was restored."
        for who in ("loss 'x'", "metric 'y'")
    ]
