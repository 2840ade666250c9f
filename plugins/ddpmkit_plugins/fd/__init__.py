"""The Fréchet distance in the features of any network: manifest and config."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, RunsCode, hookimpl


class FdConfig(ComponentConfig):
    """Keys of `[[metric]]` when `use = "fd"`."""

    without_effect: ClassVar = frozenset({"batch_size"})

    extractor: Annotated[str, RunsCode("a TorchScript file that is run, or a function that is imported and called")]
    """A TorchScript file (`extractor.pt`), or a function that returns a torch module (`package.module:function`). It
    takes float32 [B, 3, H, W] and returns features [B, D], or maps [B, D, h, w] that are averaged. Its code runs, so
    use only one that you trust. The extractor of a run from someone else runs only with `--trust`."""
    size: int = Field(default=224, ge=1)
    """Images are resized to this height and width, bicubic and antialiased."""
    mean: tuple[float, ...] = Field(default=(127.5,), min_length=1, max_length=3)
    """Subtracted from pixels of 0 .. 255: one number, or one per channel."""
    std: tuple[float, ...] = Field(default=(127.5,), min_length=1, max_length=3)
    """The divisor of pixels after `mean` is subtracted: one number, or one per channel."""
    batch_size: int = Field(default=32, ge=1)
    """The batch size of the network; the score does not depend on it."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the metric."""
    yield Component(
        kind="metric",
        name="fd",
        target="ddpmkit_plugins.fd.metric:Fd",
        config="ddpmkit_plugins.fd:FdConfig",
        summary="Fréchet distance in the features of a network that the recipe names",
        provides=("score:fd",),
    )
