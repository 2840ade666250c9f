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
    takes float32 [B, 3, H, W] and gives features [B, D], or maps [B, D, h, w] that are averaged. It is run: name none
    that you do not trust. If a run from elsewhere names one, it is run only with `--trust`."""
    size: int = Field(default=224, ge=1)
    """Height and width that images are resized to, bicubic and antialiased."""
    mean: tuple[float, ...] = Field(default=(127.5,), min_length=1, max_length=3)
    """Taken off pixels of 0 .. 255: one number, or one a channel."""
    std: tuple[float, ...] = Field(default=(127.5,), min_length=1, max_length=3)
    """What pixels are divided by then: one number, or one a channel."""
    batch_size: int = Field(default=32, ge=1)
    """Images that the network sees at once; the score does not depend on it."""


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
