"""The keys of a recipe that belong to the core, section by section.

The text under a key is its description in error messages, the JSON schema and the docs. Every other key of a section
belongs to the component that the section uses. This module knows components only by the names of the defaults.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from ddpmkit.contracts import ImageShape, Prediction
from ddpmkit.recipe.toml_positions import Key
from ddpmkit.recipe.weights_choice import LARGEST_SIGMA_REL, SMALLEST_SIGMA_REL, Weights, parse_weights

__all__ = [
    "LOCK_TABLE",
    "SECTIONS",
    "SWEEP_TABLE",
    "BackboneSection",
    "ComponentSection",
    "DataSection",
    "DiffusionSection",
    "Header",
    "LossSection",
    "MetricSection",
    "RequiresSection",
    "SamplerSection",
    "ScheduleSection",
    "SectionKind",
    "SweepSection",
    "TrackerSection",
    "TrainSection",
    "section_at",
]

LOCK_TABLE = "lock"
"""What a lock file holds beside a recipe. Reading a recipe passes it over, so that a lock can be run."""

SWEEP_TABLE = "sweep"
"""What makes many runs of one recipe; `ddpmkit sweep` reads it, and a single run cannot."""

# The last three: Intel, Ascend and Gaudi, for those who have torch with them.
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|npu|hpu)(:\d+)?")

Pixels = Annotated[int, Field(ge=8)]
Interval = Annotated[int, Field(ge=0)]
Word = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Unknown keys refused, no silent conversion, immutable, finite numbers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Header(Section):
    """What stands above the first section."""

    extends: Word | None = None
    """A recipe to start from, relative to this file: tables merge, arrays and plain values replace."""
    name: Word
    """Name of the run and of its folder; when absent, the recipe file's. Not inherited through `extends`."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if name.startswith(".") or not name.isprintable() or set(name) & set("/\\") or len(name.encode()) > 200:
            raise ValueError("this cannot be the name of a folder")
        return name


class ComponentSection(Section):
    """A section that is filled by a component."""

    use: Word
    """The component: a built-in (`name`) or another distribution's (`namespace/name`)."""


class RequiresSection(Section):
    """`[requires]`: what must be installed for the recipe to mean what it says."""

    plugins: tuple[Word, ...] = ()
    """Distributions, with versions as pip writes them: `["ddpmkit-acme>=1.2"]`."""
    sources: dict[Word, Word] = Field(default_factory=dict)
    """Where pip finds those that are not in its index, by name: `{ ddpmkit-acme = "./plugins/acme" }`."""


class DataSection(ComponentSection):
    """`[data]`: the pictures."""

    use: Word = "critters"
    """The dataset: a built-in (`name`) or another distribution's (`namespace/name`)."""
    image_size: Pixels | tuple[Pixels, Pixels] = 32
    """Side of the square images in pixels, or `[height, width]`."""
    channels: Literal[1, 3] = 3
    """3 for colour, 1 for grayscale."""
    classes: Literal["all"] | Annotated[tuple[Word, ...], Field(min_length=1)] = "all"
    """The classes to use, by name."""
    labels: bool = False
    """Tell the network the class of each image, and draw images of each class in turn; `classes` must name them."""
    flip: bool = True
    """Mirror each picture left to right at half of its visits."""
    crop_margin: float = Field(default=1.0, ge=1, le=4)
    """Images are decoded this much larger, rounded down to whole pixels, and a random crop of `image_size` is taken at
    every visit."""

    @field_validator("classes")
    @classmethod
    def _named_once(cls, classes: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(classes, tuple) and (twice := [name for name, times in Counter(classes).items() if times > 1]):
            raise ValueError(f"named twice: {', '.join(sorted(twice))}")
        return classes

    @field_validator("labels")
    @classmethod
    def _of_named_classes(cls, labels: bool, info: ValidationInfo) -> bool:
        if labels and info.data.get("classes") == "all":
            raise ValueError("the network must know how many classes there are: name them in `classes`")
        return labels

    @property
    def num_classes(self) -> int:
        """How many classes the network is told apart; 0: it is told none."""
        return len(self.classes) if self.labels else 0

    @property
    def image_shape(self) -> ImageShape:
        """What the network sees."""
        size = self.image_size
        return ImageShape(self.channels, *((size, size) if isinstance(size, int) else size))

    @property
    def decoded_shape(self) -> ImageShape:
        """What the dataset delivers; larger where `crop_margin` leaves room for a random crop."""
        channels, height, width = self.image_shape
        return ImageShape(channels, self._with_margin(height), self._with_margin(width))

    def _with_margin(self, side: int) -> int:
        """Rounded down from the exact product: in binary, 50 * 1.14 is less than 57."""
        return int(side * Decimal(repr(self.crop_margin)))


class DiffusionSection(Section):
    """`[diffusion]`: the process."""

    timesteps: int = Field(default=50, ge=1, le=10_000)
    """T, the number of noising steps."""
    prediction: Prediction = "epsilon"
    """What the network answers: the noise, the clean image, or v of Salimans & Ho (2022)."""
    zero_terminal_snr: bool = False
    """Rescale the schedule so that no signal is left at the last step; needs prediction x0 or v."""
    offset_noise: float = Field(default=0.0, ge=0)
    """Standard deviation of noise that is the same for all pixels of a channel, added in training: it teaches the
    network to change how bright an image is."""
    self_conditioning: bool = False
    """Give the network its own estimate of the clean image beside the noisy one: in sampling that of the step before,
    in training at half of the steps, which takes up to a quarter longer (Chen et al. 2022)."""

    @field_validator("zero_terminal_snr")
    @classmethod
    def _x0_is_recovered(cls, zero_terminal_snr: bool, info: ValidationInfo) -> bool:
        if zero_terminal_snr and info.data.get("prediction") == "epsilon":
            raise ValueError('where no signal is left, x0 cannot be recovered from eps: set prediction to "v" or "x0"')
        return zero_terminal_snr


class ScheduleSection(ComponentSection):
    """`[schedule]`: how fast the signal fades."""

    use: Word = "cosine"
    """The schedule: a built-in (`name`) or another distribution's (`namespace/name`)."""


class BackboneSection(ComponentSection):
    """`[backbone]`: the network."""

    use: Word = "attention-unet"
    """The network: a built-in (`name`) or another distribution's (`namespace/name`)."""


class LossSection(ComponentSection):
    """`[loss]`: what is minimised."""

    use: Word = "l1"
    """The loss: a built-in (`name`) or another distribution's (`namespace/name`)."""


class SamplerSection(ComponentSection):
    """`[sampler]`: the way from noise to image."""

    use: Word = "ancestral"
    """The sampler: a built-in (`name`) or another distribution's (`namespace/name`)."""
    steps: int | None = Field(default=None, ge=1)
    """Steps from noise to image; when absent, `diffusion.timesteps`, which is also the most."""
    count: int = Field(default=36, ge=1)
    """Images of a grid of samples."""
    batch_size: int = Field(default=64, ge=1)
    """Images generated at once. The noise of an image does not depend on it; by rounding, a pixel may differ by a grey
    level between batches of different sizes."""
    weights: Word = "ema"
    """Which weights draw the samples: "ema", their moving average; "raw", as the last step left them; "decay=0.9999",
    an average of `train.ema_decays`; "sigma_rel=0.075", one of any such width, by means of `train.ema_sigma_rels`."""
    guidance: float = Field(default=1.0, ge=0)
    """How far to go from the answer without a class towards the one with it, and beyond: 1 is the plain answer; needs
    `data.labels`."""

    @field_validator("weights")
    @classmethod
    def _are_weights(cls, weights: str) -> str:
        return str(parse_weights(weights))


class TrainSection(Section):
    """`[train]`: the optimisation, and how often to look at it."""

    steps: int = Field(default=10_000, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=32, ge=1)
    """Images of one optimizer step."""
    accumulate: int = Field(default=1, ge=1)
    """Parts that a batch is computed in, to save memory; it must divide `batch_size`."""
    label_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of images whose class the network is not told, for guidance to compare with; where there are labels."""
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    """`adam`; `adamw`, whose weight decay is apart from the gradient; `muon` for the matrices inside the network, with
    `adamw` for all other weights."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate, of every weight."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay of Adam's two moments."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Share of each weight that a step of learning rate 1 would take away."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate grows from 0."""
    learning_rate_decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate falls to 0 from the end of the warm-up to `steps`. A run that is made longer goes on at the
    rate that its new length has there."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0 never clips."""
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    """Decay of the moving average of the weights; 0 keeps none."""
    ema_decays: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Decays of further moving averages, each a copy of the weights; `sampler.weights` chooses one."""
    ema_sigma_rels: tuple[Annotated[float, Field(ge=SMALLEST_SIGMA_REL, le=LARGEST_SIGMA_REL)], ...] = ()
    """Widths of averages whose length grows with training, as in EDM2 (Karras et al. 2024). From two of them, such as
    [0.05, 0.1], and their snapshots, `sampler.weights` has any other width after the run."""
    ema_snapshot_every: Interval = 1000
    """Steps between two snapshots of `ema_sigma_rels`, which are all kept: the more, the better other widths; 0:
    none."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """The one number that all randomness of the run is a function of."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network; `auto` is bfloat16 where the device is made for it."""
    device: Word = "auto"
    """Where to compute: `auto`, `cpu`, `cuda`, `cuda:1` (the second GPU), `mps`."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of the log."""
    sample_every: Interval = 1000
    """Steps between two grids of samples; 0: only at the end."""
    validate_every: Interval = 1000
    """Steps between two validation losses; 0: only at the end."""
    checkpoint_every: Interval = 1000
    """Steps between two checkpoints; 0: only at the end."""
    keep_last: int = Field(default=3, ge=0)
    """How many of the newest checkpoints are kept; 0 keeps all."""
    keep_every: int = Field(default=0, ge=0)
    """Checkpoints whose step is a multiple of this are kept as well; 0: none."""
    keep_best: str = ""
    """The score whose best checkpoint is kept as well, as in "fid", by the first metric that gives it; empty: none."""
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    """What to do when a loss or a gradient is no finite number: stop, pass over the batch, or go back to the last
    checkpoint and on from there with other batches."""
    nonfinite_limit: int = Field(default=10, ge=1)
    """How many batches in a row are passed over, or how often one checkpoint is gone back to, before the run stops."""

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if device != "auto" and not _DEVICE.fullmatch(device):
            raise ValueError(
                f'"{device}" is not a device; use "auto", "cpu", "cuda", "cuda:1" (the second GPU) or "mps"'
            )
        return device

    @field_validator("ema_decays", "ema_sigma_rels")
    @classmethod
    def _kept_once(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        known = [info.data.get("ema_decay"), *values] if info.field_name == "ema_decays" else [*values]
        if twice := [str(value) for value, times in Counter(known).items() if times > 1]:
            raise ValueError(f"kept twice: {', '.join(twice)}")
        return values

    @field_validator("accumulate")
    @classmethod
    def _equal_parts(cls, accumulate: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size")
        if batch_size and batch_size % accumulate:
            raise ValueError(f"{accumulate} does not divide batch_size = {batch_size}")
        return accumulate

    def average(self, weights: Weights) -> Weights | None:
        """The weights by the name that a run keeps them under; None where it keeps nothing to have them from."""
        if weights.kind == "decay" and weights.value == self.ema_decay:
            return Weights("ema")
        if weights.kind == "decay":
            return weights if weights.value in self.ema_decays else None
        return weights if weights.kind != "sigma_rel" or self.ema_sigma_rels else None


class MetricSection(ComponentSection):
    """`[[metric]]`: a score, taken during the run and at its end."""

    use: Word
    """The metric: a built-in (`name`) or another distribution's (`namespace/name`)."""
    every: Interval = 0
    """Steps between two scores; 0: only at the end."""
    num_samples: int | None = Field(default=None, ge=2)
    """Images to generate for a score; when absent, as many as the metric's protocol asks for."""


class TrackerSection(ComponentSection):
    """`[[tracker]]`: someone who is told how the run goes."""

    use: Word
    """The tracker: a built-in (`name`) or another distribution's (`namespace/name`)."""


class SweepSection(Section):
    """`[sweep]`: many runs by one recipe, for `ddpmkit sweep`."""

    mode: Literal["grid", "zip", "ablation"] = "grid"
    """`grid`: every value of each key with every value of the others. `zip`: the first values together, the second
    values together, and so on. `ablation`: the recipe as it is, then with one value of one key at a time."""
    over: dict[str, Any] = Field(min_length=1)
    """The keys that vary, each with the list of its values: `schedule.use = ["cosine", "linear"]`."""


@dataclass(frozen=True)
class SectionKind:
    """One of the sections a recipe can have."""

    name: str
    model: type[Section]
    kind: str | None = None
    """The kind of component that fills it."""
    many: bool = False
    """Whether it may be written several times, as `[[name]]`."""

    def __str__(self) -> str:
        """As its header is written."""
        return f"[[{self.name}]]" if self.many else f"[{self.name}]"

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the section that belong to the core."""
        return frozenset(self.model.model_fields)

    @property
    def default_use(self) -> str | None:
        """The component when the recipe names none; None where there is no default."""
        use = self.model.model_fields.get("use")
        return use.default if use is not None and not use.is_required() else None


SECTIONS: Mapping[str, SectionKind] = {
    section.name: section
    for section in (
        SectionKind("requires", RequiresSection),
        SectionKind("data", DataSection, "dataset"),
        SectionKind("diffusion", DiffusionSection),
        SectionKind("schedule", ScheduleSection, "schedule"),
        SectionKind("backbone", BackboneSection, "backbone"),
        SectionKind("loss", LossSection, "loss"),
        SectionKind("sampler", SamplerSection, "sampler"),
        SectionKind("train", TrainSection),
        SectionKind("metric", MetricSection, "metric", many=True),
        SectionKind("tracker", TrackerSection, "tracker", many=True),
    )
}
"""Every section, in the order in which a resolved recipe shows them."""


def section_at(key: Key) -> SectionKind | None:
    """The section whose table stands at `key`: `("data",)`, or `("metric", 0)` for one of many."""
    section = SECTIONS.get(str(key[0])) if key else None
    return section if section is not None and len(key) == 1 + section.many else None
