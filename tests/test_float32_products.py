from collections.abc import Iterator

import pytest
import torch

from ddpmkit.float32_products import float32_products, set_float32_products
from ddpmkit.global_state import SettingsGuard


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = float32_products()
    yield
    set_float32_products(before)


def test_a_state_of_the_new_interface_alone_is_restored() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
        torch.get_float32_matmul_precision()
    mixed = float32_products()
    set_float32_products(mixed.with_tf32(False))
    assert torch.get_float32_matmul_precision() == "highest"
    set_float32_products(mixed)
    assert float32_products() == mixed
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


@pytest.mark.parametrize("allowed", [True, False])
def test_the_setting_of_the_cpu_stays(allowed: bool) -> None:
    torch.set_float32_matmul_precision("medium")
    cpu = float32_products().cpu_matmul
    set_float32_products(float32_products().with_tf32(allowed))
    assert float32_products().cpu_matmul == cpu == "bf16"


@pytest.mark.parametrize("through", ["old", "new", "convolutions"])
def test_the_guard_of_plugins_restores_tf32(through: str, caplog: pytest.LogCaptureFixture) -> None:
    before = float32_products()
    with SettingsGuard().guard("backbone 'x'"):
        if through == "old":
            torch.set_float32_matmul_precision("high")
        elif through == "new":
            torch.backends.cuda.matmul.fp32_precision = "tf32"
        else:
            torch.backends.cudnn.allow_tf32 = before.convolution != "tf32"
    assert float32_products() == before
    assert "backbone 'x' changed torch.get_float32_matmul_precision()" in caplog.text
