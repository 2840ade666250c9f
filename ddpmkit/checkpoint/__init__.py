"""Checkpoints: folders of safetensors and JSON files with a SHA-256 for each file. Nothing is pickled.

A checkpoint is written under a temporary name, every file is flushed to the disk, a manifest with the SHA-256 of each
file comes last, and one rename puts it in place: it is complete or it does not exist. `resumable_checkpoint` is for the
process that has locked the run folder: it moves damaged checkpoints aside. `newest_checkpoint` is for all others: it
changes nothing, and works while a run saves and removes checkpoints.
"""

from ddpmkit.checkpoint.manifest import DamagedCheckpoint
from ddpmkit.checkpoint.names import checkpoint_folders, step_of
from ddpmkit.checkpoint.opening import Checkpoint, open_checkpoint
from ddpmkit.checkpoint.removal import clear_leftovers, remove_checkpoint
from ddpmkit.checkpoint.saving import save_checkpoint
from ddpmkit.checkpoint.search import newest_checkpoint, resumable_checkpoint

__all__ = [
    "Checkpoint",
    "DamagedCheckpoint",
    "checkpoint_folders",
    "clear_leftovers",
    "newest_checkpoint",
    "open_checkpoint",
    "remove_checkpoint",
    "resumable_checkpoint",
    "save_checkpoint",
    "step_of",
]
