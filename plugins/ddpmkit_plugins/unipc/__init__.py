"""The UniPC sampler: manifest and config."""

from collections.abc import Iterator

from ddpmkit.plugin import Component, ComponentConfig, hookimpl


class UniPcConfig(ComponentConfig):
    """Keys of `[sampler]` when `use = "unipc"`."""

    corrector: bool = True
    """Correct each step by what the network says at its end, which costs no call."""
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
        name="unipc",
        target="ddpmkit_plugins.unipc.sampler:UniPcSampler",
        config="ddpmkit_plugins.unipc:UniPcConfig",
        summary="unified predictor and corrector, second order: one call a step (Zhao et al. 2023)",
    )
