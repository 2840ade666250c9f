"""The sections of a recipe except `[train]`: their keys, defaults and ranges.

The string under a key is its description in error messages, the JSON schema and the docs. A section with `use` has
further keys, which belong to the component it uses.
"""

from collections import Counter
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ddpmkit.contracts import ImageShape, Prediction
from ddpmkit.recipe.schema.weights_choice import parse_weights

__all__ = [
    "BackboneSection",
    "ComponentSection",
    "DataSection",
    "DiffusionSection",
    "Interval",
    "LossSection",
    "MetricSection",
    "RequiresSection",
    "SamplerSection",
    "ScheduleSection",
    "Section",
    "TrackerSection",
    "Word",
]

Pixels = Annotated[int, Field(ge=8)]
Interval = Annotated[int, Field(ge=0)]
Word = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Immutable; unknown keys, implicit conversions, NaN and infinity are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class ComponentSection(Section):
    """A section that selects a component."""

    use: Word
    """The component: a built-in (`name`) or one of another package (`namespace/name`)."""


class RequiresSection(Section):
    """`[requires]`: the packages that must be installed."""

    plugins: tuple[Word, ...] = ()
    """Packages with their versions, written as for pip: `["ddpmkit-acme>=1.2"]`."""
    sources: dict[Word, Word] = Field(default_factory=dict)
    """Where pip finds packages that are not in its index, by name: `{ ddpmkit-acme = "./plugins/acme" }`."""


class DataSection(ComponentSection):
    """`[data]`: the images."""

    use: Word = "critters"
    """The dataset: a built-in (`name`) or one of another package (`namespace/name`)."""
    image_size: Pixels | tuple[Pixels, Pixels] = 32
    """Side of the square images in pixels, or `[height, width]`."""
    channels: Literal[1, 3] = 3
    """3 for colour, 1 for grayscale."""
    classes: Literal["all"] | Annotated[tuple[Word, ...], Field(min_length=1)] = "all"
    """Names of the classes to use, or "all"."""
    labels: bool = False
    """Class conditioning: train with the class label of each image, and generate images of each class in turn. Requires
    a list in `classes`."""
    flip: bool = True
    """Flip training images horizontally with probability 0.5."""
    crop_margin: float = Field(default=1.0, ge=1, le=4)
    """Resize images to `image_size` times this factor, rounded down to whole pixels. Each training step takes a random
    crop of `image_size`; validation and metrics use the centre."""

    @field_validator("classes")
    @classmethod
    def _listed_once(cls, classes: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(classes, tuple) and (twice := [name for name, times in Counter(classes).items() if times > 1]):
            raise ValueError(f"must not list a class twice: {', '.join(sorted(twice))}")
        return classes

    @field_validator("labels")
    @classmethod
    def _of_listed_classes(cls, labels: bool, info: ValidationInfo) -> bool:
        if labels and info.data.get("classes") == "all":
            raise ValueError("must be false unless `classes` lists the classes")
        return labels

    @property
    def num_classes(self) -> int:
        """Number of classes that the network is conditioned on; 0 if it is unconditional."""
        return len(self.classes) if self.labels else 0

    @property
    def image_shape(self) -> ImageShape:
        """Shape of the images that the network receives."""
        size = self.image_size
        return ImageShape(self.channels, *((size, size) if isinstance(size, int) else size))

    @property
    def decoded_shape(self) -> ImageShape:
        """Shape of the images that the dataset returns: larger if `crop_margin` leaves room for a random crop."""
        channels, height, width = self.image_shape
        return ImageShape(channels, self._with_margin(height), self._with_margin(width))

    def _with_margin(self, side: int) -> int:
        """Return the longer side, rounded down from the exact product: in binary, 50 * 1.14 is less than 57."""
        return int(side * Decimal(repr(self.crop_margin)))


class DiffusionSection(Section):
    """`[diffusion]`: the diffusion process."""

    timesteps: int = Field(default=50, ge=1, le=10_000)
    """T, the number of timesteps."""
    prediction: Prediction = "epsilon"
    """What the network predicts: the noise, the clean image, or v (Salimans & Ho 2022)."""
    zero_terminal_snr: bool = False
    """Rescale the schedule so that the last timestep is pure noise (Lin et al. 2024). Requires prediction x0 or v."""
    offset_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of additional training noise that is equal for all pixels of a channel. It helps the network
    to generate very dark and very bright images."""
    self_conditioning: bool = False
    """Give the network its previous estimate of the clean image as additional input channels (Chen et al. 2022).
    About half of the training steps compute this estimate, so training takes up to a quarter longer."""

    @field_validator("zero_terminal_snr")
    @classmethod
    def _x0_is_recovered(cls, zero_terminal_snr: bool, info: ValidationInfo) -> bool:
        if zero_terminal_snr and info.data.get("prediction") == "epsilon":
            raise ValueError(
                'must be false unless prediction is "v" or "x0": x0 cannot be recovered from eps at alpha_bar = 0'
            )
        return zero_terminal_snr


class ScheduleSection(ComponentSection):
    """`[schedule]`: the noise schedule."""

    use: Word = "cosine"
    """The schedule: a built-in (`name`) or one of another package (`namespace/name`)."""


class BackboneSection(ComponentSection):
    """`[backbone]`: the network."""

    use: Word = "attention-unet"
    """The network: a built-in (`name`) or one of another package (`namespace/name`)."""


class LossSection(ComponentSection):
    """`[loss]`: the training loss."""

    use: Word = "l1"
    """The loss: a built-in (`name`) or one of another package (`namespace/name`)."""


class SamplerSection(ComponentSection):
    """`[sampler]`: how images are generated from noise."""

    use: Word = "ancestral"
    """The sampler: a built-in (`name`) or one of another package (`namespace/name`)."""
    steps: int | None = Field(default=None, ge=1)
    """Number of sampling steps; by default `diffusion.timesteps`, which is also the maximum."""
    count: int = Field(default=36, ge=1)
    """Number of images in a grid of samples."""
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Number of images generated in one batch. `auto`: 64 on the CPU and on MPS; on CUDA the largest power of two that
    needs at most a quarter of the free memory, at most 1,024. It does not change the noise of an image, but rounding
    may change a pixel by one grey level."""
    weights: Word = "ema"
    """Weights that generate the samples: "ema", the moving average of `train.ema_decay`; "raw", the weights of the last
    step; "decay=0.9999", an average of `train.ema_decays`; "sigma_rel=0.075", an average of any width, reconstructed
    from `train.ema_sigma_rels`."""
    guidance: float = Field(default=1.0, ge=0)
    """Scale of classifier-free guidance: 0 is the unconditional prediction, 1 the conditional prediction (no guidance),
    and larger values extrapolate. Requires `data.labels`."""

    @field_validator("weights")
    @classmethod
    def _are_weights(cls, weights: str) -> str:
        return str(parse_weights(weights))


class MetricSection(ComponentSection):
    """`[[metric]]`: a metric, evaluated during the run and at its end."""

    use: Word
    """The metric: a built-in (`name`) or one of another package (`namespace/name`)."""
    every: Interval = 0
    """Steps between evaluations; 0: only at the end."""
    num_samples: int | None = Field(default=None, ge=2)
    """Number of samples in an evaluation; by default that of the metric's protocol."""


class TrackerSection(ComponentSection):
    """`[[tracker]]`: sends the progress of the run to another program, such as Weights & Biases."""

    use: Word
    """The tracker: a built-in (`name`) or one of another package (`namespace/name`)."""
