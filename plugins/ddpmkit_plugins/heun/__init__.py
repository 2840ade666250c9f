"""The second order sampler of EDM: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class HeunConfig(ComponentConfig):
    """Keys of `[sampler]` when `use = "heun"`."""

    churn: float = Field(default=0.0, ge=0)
    """S_churn: how much noise is added back on the way; 0 is deterministic."""
    churn_from: float = Field(default=0.05, ge=0)
    """S_min: no churn below this noise over signal."""
    churn_to: float = Field(default=50.0, gt=0)
    """S_max: no churn above this noise over signal."""
    churn_noise: float = Field(default=1.003, gt=0)
    """S_noise: standard deviation of the noise that is added."""
    clip_x0: bool = True
    """Clamp x0_hat to [-1, 1], as in ancestral sampling."""
    keep_eps: bool = True
    """Where x0_hat is clamped, keep the eps that the network says, and let x lose what the clamp takes away: a young
    network's errors of colour then fade. `false`: eps is the noise that is left in x beside the clamped x0_hat."""

    def unused_keys(self) -> Iterator[tuple[str, str]]:
        """What says how churn and clamp work, if there is none."""
        if not self.churn:
            yield from ((name, "churn = 0 adds no noise") for name in ("churn_from", "churn_to", "churn_noise"))
        if not self.clip_x0:
            yield "keep_eps", "clip_x0 = false clamps nothing"


@hookimpl
def ddpmkit_components() -> Iterator[Component]:
    """Declare the sampler."""
    yield Component(
        kind="sampler",
        name="heun",
        target="ddpmkit_plugins.heun.sampler:HeunSampler",
        config="ddpmkit_plugins.heun:HeunConfig",
        summary="the second order sampler of EDM, with churn: two calls a step (Karras et al. 2022)",
        needs=("terminal-signal",),
    )
