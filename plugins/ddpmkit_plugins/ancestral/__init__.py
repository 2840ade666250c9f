"""The ancestral sampler: manifest and config."""

from collections.abc import Iterator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class AncestralConfig(ComponentConfig):
    """Keys of `[sampler]` with `use = "ancestral"`."""

    clip_x0: bool = True
    """Clamp x0_hat to [-1, 1]. Without it, pixel values explode: at T = 50, the first step divides by 0.001."""


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the sampler."""
    yield Component(
        kind="sampler",
        name="ancestral",
        target="ddpmkit_plugins.ancestral.sampler:AncestralSampler",
        config="ddpmkit_plugins.ancestral:AncestralConfig",
        summary="the reverse Markov chain of DDPM (Ho et al. 2020)",
    )
