"""The second order sampler of EDM: manifest and config."""

from collections.abc import Iterator

from pydantic import Field

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class HeunConfig(ComponentConfig):
    """Keys of `[sampler]` with `use = "heun"`."""

    churn: float = Field(default=0.0, ge=0)
    """S_churn: amount of noise that the steps add; 0 is deterministic."""
    churn_from: float = Field(default=0.05, ge=0)
    """S_tmin: no noise is added at a sigma (ratio of noise to signal) below this."""
    churn_to: float = Field(default=50.0, gt=0)
    """S_tmax: no noise is added at a sigma above this."""
    churn_noise: float = Field(default=1.003, gt=0)
    """S_noise: factor on the standard deviation of the added noise."""
    clip_x0: bool = True
    """Clamp x0_hat to [-1, 1], as in ancestral sampling."""
    keep_eps: bool = True
    """Which eps a step uses if x0_hat was clamped. `true`: the eps that the network predicted, so that the clamp also
    corrects x; this removes colour errors early in training. `false`: eps recomputed from x and the clamped x0_hat."""
    log_snr_spacing: float = Field(default=0.5, ge=0, le=1)
    """Spacing of the sampling timesteps: 0 is even in t, 1 even in the half log-SNR, 0.5 even in the mean of both."""

    def unused_keys(self) -> Iterator[tuple[str, str]]:
        """Return the keys without effect: those of churn if it is 0, `keep_eps` if nothing is clamped."""
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
