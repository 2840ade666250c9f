"""`[train]`: the keys of the training loop, their defaults and ranges.

The string under a key is its description in error messages, the JSON schema and the docs.
"""

import re
from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from ddpmkit.recipe.schema.sections import Interval, Section, Word
from ddpmkit.recipe.schema.weights_choice import LARGEST_SIGMA_REL, SMALLEST_SIGMA_REL, WeightsChoice
from ddpmkit.recipe.toml.writer import toml_value

__all__ = ["TrainSection"]

# In addition to CPU and the usual GPUs: Intel (xpu), Ascend (npu) and Gaudi (hpu), for which torch has backends.
_DEVICE = re.compile(r"cpu|mps|(cuda|xpu|npu|hpu)(:(0|[1-9]\d*))?")


class TrainSection(Section):
    """`[train]`: the training loop."""

    steps: int = Field(default=10_000, ge=1)
    """Training steps."""
    batch_size: int = Field(default=32, ge=1)
    """Images in one training step."""
    accumulate: int = Field(default=1, ge=1)
    """Number of parts in which a batch is computed, one after the other, to save memory (gradient accumulation).
    Must divide `batch_size`."""
    label_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of images whose class label is replaced by the null label in training, so that the network also learns
    the unconditional prediction, which guidance needs. Used only with `data.labels`."""
    optimizer: Literal["adam", "adamw", "muon"] = "adam"
    """`adam`; `adamw` (decoupled weight decay); or `muon` for the matrices of the hidden layers and `adamw` for all
    other weights."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of all weights."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Decay rates of Adam's two moment estimates."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Weight decay: an L2 penalty with `adam`; decoupled with `adamw` and `muon` (Loshchilov & Hutter 2019)."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate grows linearly from 0."""
    learning_rate_decay: Literal["none", "linear", "cosine"] = "none"
    """How the learning rate decreases to 0 between the end of the warm-up and `steps`. If `steps` is increased later,
    the run continues at the rate of the longer run."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Maximum norm of the gradient; 0: no clipping."""
    ema_decay: float = Field(default=0.995, ge=0, lt=1)
    """Decay of the exponential moving average (EMA) of the weights; 0: no average."""
    ema_decays: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Decays of further averages, each with its own copy of the weights; `sampler.weights` selects one."""
    ema_sigma_rels: tuple[Annotated[float, Field(ge=SMALLEST_SIGMA_REL, le=LARGEST_SIGMA_REL)], ...] = ()
    """Relative widths of averages whose length grows with training, as in EDM2 (Karras et al. 2024). With the snapshots
    of two widths, such as [0.05, 0.1], `sampler.weights` can reconstruct any other width after the run."""
    ema_snapshot_every: Interval = 1000
    """Steps between snapshots of the averages in `ema_sigma_rels`; 0: no snapshots. All snapshots are kept. With more
    of them, a reconstructed width is more exact."""
    seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Seed of all randomness of the run."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network; `auto` is bfloat16 on CUDA GPUs that support it natively, and otherwise float32."""
    tf32: bool = False
    """Allow TF32, with a mantissa of 10 bits, in float32 products of matrices and convolutions on CUDA GPUs. It is
    several times as fast as float32."""
    compile: bool = False
    """Compile the network by torch.compile. The first steps take minutes; later ones can be faster on a GPU. The
    result differs by rounding."""
    device: Word = "auto"
    """Device: `auto` (CUDA if available, otherwise the CPU), `cpu`, `cuda`, `cuda:1` (the second GPU) or `mps`."""
    log_every: int = Field(default=10, ge=1)
    """Steps between records in `metrics.jsonl`."""
    sample_every: Interval = 1000
    """Steps between grids of samples; 0: only at the end."""
    validate_every: Interval = 1000
    """Steps between validation losses; 0: only at the end."""
    checkpoint_every: Interval = 1000
    """Steps between checkpoints; 0: only at the end."""
    keep_last: int = Field(default=3, ge=0)
    """Number of most recent checkpoints to keep; 0 keeps all."""
    keep_every: int = Field(default=0, ge=0)
    """Also keep each checkpoint whose step is a multiple of this; 0: none."""
    keep_best: str = ""
    """Also keep the checkpoint with the best score of this name, such as "fid"; empty: none. If several metrics report
    the score, the first one counts."""
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    """What to do if a loss or a gradient is NaN or infinity: stop, skip the batch, or return to the last checkpoint and
    continue with other batches."""
    nonfinite_limit: int = Field(default=10, ge=1)
    """Maximum number of batches that are skipped in a row, or of returns to one checkpoint, before the run stops."""

    @field_validator("accumulate")
    @classmethod
    def _equal_parts(cls, accumulate: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size")
        if batch_size and batch_size % accumulate:
            raise ValueError(f"must divide batch_size = {batch_size}, but is {accumulate}")
        return accumulate

    @field_validator("ema_decays", "ema_sigma_rels")
    @classmethod
    def _listed_once(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        known = [info.data.get("ema_decay"), *values] if info.field_name == "ema_decays" else [*values]
        if twice := [str(value) for value, times in Counter(known).items() if times > 1]:
            also = " (ema_decay counts too)" if info.field_name == "ema_decays" else ""
            raise ValueError(f"must not list a value twice{also}: {', '.join(twice)}")
        return values

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        if device != "auto" and not _DEVICE.fullmatch(device):
            raise ValueError(
                f'must be "auto", "cpu", "cuda", "cuda:1" (the second GPU) or "mps", but is {toml_value(device)}'
            )
        return device

    def stored_average(self, weights: WeightsChoice) -> WeightsChoice | None:
        """Return the name under which a run stores these weights; None if it stores no such average."""
        if weights.kind == "decay" and weights.value == self.ema_decay:
            return WeightsChoice("ema")
        if weights.kind == "decay":
            return weights if weights.value in self.ema_decays else None
        return weights if weights.kind != "sigma_rel" or self.ema_sigma_rels else None
