"""The DPM-Solver++ 2M sampler: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class DpmSolver2mConfig(ComponentConfig):
    """Keys of `[sampler]` with `use = "dpm-solver-2m"`."""

    clip_x0: bool = True
    """Clamp x0_hat to [-1, 1], as in ancestral sampling."""
    keep_eps: bool = True
    """Which eps a step uses if x0_hat was clamped. `true`: the eps that the network predicted, so that the clamp also
    corrects x; this removes colour errors early in training. `false`: eps recomputed from x and the clamped x0_hat."""
    log_snr_spacing: float = Field(default=0.5, ge=0, le=1)
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
        name="dpm-solver-2m",
        target="ddpmkit_plugins.dpm_solver_2m.sampler:DpmSolver2mSampler",
        config="ddpmkit_plugins.dpm_solver_2m:DpmSolver2mConfig",
        summary="DPM-Solver++, second order, multistep: one call a step (Lu et al. 2022)",
    )
