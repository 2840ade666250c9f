"""The DDIM sampler: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class DdimConfig(ComponentConfig):
    """Keys of `[sampler]` with `use = "ddim"`."""

    eta: float = Field(default=0.0, ge=0, le=1)
    """Noise that each step adds, as a fraction of that of the ancestral sampler: 0 is deterministic, 1 is DDPM."""
    clip_x0: bool = True
    """Clamp x0_hat to [-1, 1], as in ancestral sampling."""
    keep_eps: bool = True
    """Which eps a step uses if x0_hat was clamped. `true`: the eps that the network predicted, so that the clamp also
    corrects x; this removes colour errors early in training. `false`: eps recomputed from x and the clamped x0_hat,
    which at eta = 1 is the ancestral sampler."""
    log_snr_spacing: float = Field(default=0.0, ge=0, le=1)
    """Spacing of the sampling timesteps: 0 is even in t, 1 even in the half log-SNR, 0.5 even in the mean of both."""

    def unused_keys(self) -> Iterator[tuple[str, str]]:
        """Return the keys without effect: `keep_eps` if nothing is clamped."""
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
