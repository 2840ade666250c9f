"""The differences between two resolved recipes, and whether a run can be resumed with them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ddpmkit.recipe.schema.sections import DataSection
from ddpmkit.recipe.toml.writer import toml_key, toml_value

__all__ = ["Change", "differences", "leaves"]

_FREE_SECTIONS = frozenset({"name", "requires", "sampler", "metric", "tracker"})
_ACCEPTABLE = ("data.", "loss.", "train.")
_NEVER_ACCEPTABLE = frozenset({"data.channels", "data.labels", "train.optimizer"})
_FREE_TRAIN_KEYS = frozenset(
    {
        *("steps", "accumulate", "device", "on_nonfinite", "nonfinite_limit"),
        *("log_every", "sample_every", "validate_every", "checkpoint_every"),
        *("keep_last", "keep_every", "keep_best", "ema_snapshot_every"),
    }
)


@dataclass(frozen=True)
class Change:
    """One key whose value has changed; None means absent."""

    key: str
    """Dotted: `train.steps`, `metric.0.every`."""
    old: Any
    new: Any

    def __str__(self) -> str:
        """`train.steps: 1000 -> 2000`."""
        return f"{self.key}: {_as_text(self.old)} -> {_as_text(self.new)}"

    @property
    def affects_model(self) -> bool:
        """Whether the new recipe would have trained other weights up to this step.

        The length of a run, its device, samples, metrics and trackers can change freely. So can the dataset component
        and its keys (its folder may move, or become an archive), because the fingerprint detects changed images.
        """
        section, _, key = self.key.partition(".")
        if section == "train":
            return key not in _FREE_TRAIN_KEYS
        if section == "data":
            return key != "use" and key.partition(".")[0] in DataSection.model_fields
        return section not in _FREE_SECTIONS

    @property
    def is_acceptable(self) -> bool:
        """Whether `--accept-changes` can allow it: the stored weights and moments still fit the network."""
        return not self.affects_model or (self.key.startswith(_ACCEPTABLE) and self.key not in _NEVER_ACCEPTABLE)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return every key whose value differs between two recipes, each as `Recipe.as_data` returns it, sorted by key."""
    before, after = dict(leaves(old)), dict(leaves(new))
    keys = sorted(before.keys() | after.keys())
    return tuple(
        Change(key, before.get(key), after.get(key)) for key in keys if not _equal(before.get(key), after.get(key))
    )


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value with its dotted key. Tables in an array are numbered: `metric.0`."""
    if isinstance(value, list) and value and all(isinstance(entry, Mapping) for entry in value):
        value = {str(index): entry for index, entry in enumerate(value)}
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{toml_key(name)}" if key else toml_key(name))
    else:
        yield key, value


def _equal(old: Any, new: Any) -> bool:
    """In Python, 1, 1.0 and True are equal; in a recipe, True is not a number."""
    return bool(old == new) and isinstance(old, bool) == isinstance(new, bool)


def _as_text(value: Any) -> str:
    return "absent" if value is None else toml_value(value)
