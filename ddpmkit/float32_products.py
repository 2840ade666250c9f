"""How torch multiplies float32 matrices and convolves float32 images on CUDA devices: exactly, or with TF32.

torch has two interfaces for this, and raises an error if one has changed what the other cannot describe. So a state is
set through both: all readers, such as torch.compile, then agree.
"""

import warnings
from typing import Any, NamedTuple

import torch

__all__ = ["Float32Products", "float32_products", "set_float32_products"]

# The types of torch lack these attributes.
_cudnn: Any = torch.backends.cudnn
_mkldnn: Any = torch.backends.mkldnn


class Float32Products(NamedTuple):
    """The settings of torch: `ieee` is float32, `tf32` is TF32, `none` is the default of the next wider setting."""

    legacy: str
    """`torch.get_float32_matmul_precision()`."""
    matmul: str
    convolution: str
    recurrent: str
    cpu_matmul: str
    """The same for matrices on the CPU, which the legacy interface sets too."""

    def with_tf32(self, allowed: bool) -> "Float32Products":
        """Return this state with TF32 allowed or not for everything on CUDA devices. The CPU's setting stays."""
        name = "tf32" if allowed else "ieee"
        return Float32Products("high" if allowed else "highest", name, name, name, self.cpu_matmul)


def float32_products() -> Float32Products:
    """Return the present state."""
    try:
        legacy = torch.get_float32_matmul_precision()
    except RuntimeError:
        # Someone allowed TF32 through the new interface alone, which the old one cannot describe.
        legacy = "highest"
    return Float32Products(
        legacy,
        torch.backends.cuda.matmul.fp32_precision,
        _cudnn.conv.fp32_precision,
        _cudnn.rnn.fp32_precision,
        _mkldnn.matmul.fp32_precision,
    )


def set_float32_products(state: Float32Products) -> None:
    """Set a state that `float32_products` returned."""
    with warnings.catch_warnings():
        # Some versions of torch recommend the new interface, which follows.
        warnings.simplefilter("ignore")
        torch.set_float32_matmul_precision(state.legacy)
        _cudnn.allow_tf32 = state.convolution == "tf32"
    torch.backends.cuda.matmul.fp32_precision = state.matmul
    _cudnn.conv.fp32_precision = state.convolution
    _cudnn.rnn.fp32_precision = state.recurrent
    _mkldnn.matmul.fp32_precision = state.cpu_matmul
