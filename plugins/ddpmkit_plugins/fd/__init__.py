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
    takes float32 [B, 3, H, W] and returns features [B, D], or maps [B, D, h, w] that are averaged. Its code is run, so
    use only an extractor that you trust. The extractor of another user's run requires `--trust`."""
    size: int = Field(default=224, ge=1)
    """Height and width to which images are resized, bicubic and antialiased."""
    mean: tuple[float, ...] = Field(default=(127.5,), min_length=1, max_length=3)
    """Subtracted from the pixels (0 .. 255): one number, or one per channel."""
    std: tuple[float, ...] = Field(default=(127.5,), min_length=1, max_length=3)
    """Divides the pixels after `mean` is subtracted: one number, or one per channel."""
    batch_size: int = Field(default=32, ge=1)
    """Batch size of the network. The score does not depend on it."""


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
