"""The DPM-Solver++ 2M: manifest and config."""

from collections.abc import Iterator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class DpmSolver2mConfig(ComponentConfig):
    """Keys of `[sampler]` when `use = "dpm-solver-2m"`."""

    clip_x0: bool = True
    """Clamp x0_hat to [-1, 1], as in ancestral sampling."""
    keep_eps: bool = True
    """Where x0_hat is clamped, keep the eps that the network says, and let x lose what the clamp takes away: a young
    network's errors of colour then fade. `false`: eps is the noise that is left in x beside the clamped x0_hat."""

    def unused_keys(self) -> Iterator[tuple[str, str]]:
        """What says how to clamp, without a clamp."""
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
