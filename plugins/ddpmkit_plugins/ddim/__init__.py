"""The DDIM sampler: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class DdimConfig(ComponentConfig):
    """Keys of `[sampler]` when `use = "ddim"`."""

    eta: float = Field(default=0.0, ge=0, le=1)
    """Share of the ancestral sampler's noise that each step adds: 0 is deterministic, 1 as noisy as DDPM."""
    clip_x0: bool = True
    """Clamp x0_hat to [-1, 1], as in ancestral sampling."""
    keep_eps: bool = True
    """Where x0_hat is clamped, keep the eps that the network says, and let x lose what the clamp takes away: a young
    network's errors of colour then fade. `false`: eps is the noise that is left in x beside the clamped x0_hat.
    At eta = 1 that is the ancestral sampler."""

    def unused_keys(self) -> Iterator[tuple[str, str]]:
        """What says how to clamp, without a clamp."""
        if not self.clip_x0:
            yield "keep_eps", "clip_x0 = false clamps nothing"


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the sampler."""
    yield Component(
        kind="sampler",
        name="ddim",
        target="ddpmkit_plugins.ddim.sampler:DdimSampler",
        config="ddpmkit_plugins.ddim:DdimConfig",
        summary="the non-Markovian process, deterministic at eta = 0 (Song et al. 2021)",
    )
