"""The Inception network that clean-fid measures with: had and loaded."""

import logging
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from cleanfid.inception_torchscript import InceptionV3W
from torch import nn

from ddpmkit.plugin import ComponentUnavailable, DdpmkitError, InputError, download
from ddpmkit_plugins.clean_fid.location import FILE_NAME, SHA256, URL, cached_inception, named_inception

logger = logging.getLogger(__name__)


def find_inception(named: str) -> Path:
    """The network's file: `named`, else DDPMKIT_INCEPTION, else the one in the cache folder, fetched when missing.

    Raises InputError when a named file is not there, ComponentUnavailable when it cannot be fetched.
    """
    if (path := named_inception(named)) is not None:
        return path
    cached = cached_inception()
    if cached.is_file():
        return cached
    logger.info("downloading the Inception network from %s to %s", URL, cached)
    try:
        return download(URL, cached, sha256=SHA256)
    except (DdpmkitError, OSError) as error:
        reason = error.message if isinstance(error, DdpmkitError) else str(error)
        raise ComponentUnavailable(
            f"metric clean-fid needs the Inception network, and it is not to be had here: metric.inception and "
            f"DDPMKIT_INCEPTION are not set, {cached} is not there, and downloading {URL} failed: {reason}",
            remedies=[
                f"download {URL} by hand and save it as {cached}",
                'name a copy: metric.inception = "/path/to/the/file.pt", or DDPMKIT_INCEPTION in the environment',
                "--skip-unavailable-metrics goes on without this score",
            ],
        ) from error


def load_inception(path: Path, device: torch.device) -> nn.Module:
    """clean-fid's network: float32 [B, 3, 299, 299] in 0 .. 255 -> features float32 [B, 2048].

    Raises InputError when the file at `path` is not that network.
    """
    # InceptionV3W takes a folder and fixes the file's name, so any other name needs a folder of its own.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.load` is deprecated")
        try:
            _place(path, Path(folder) / FILE_NAME)
            network: nn.Module = InceptionV3W(folder, download=False)
        except (RuntimeError, AttributeError) as error:
            raise InputError(
                f"{path} is not the Inception network in TorchScript: {str(error).splitlines()[0]}",
                remedies=["delete it, and it is downloaded again", f"the published file is {URL}"],
            ) from error
    return network.eval().to(device)


def _place(source: Path, target: Path) -> None:
    """A link where the system allows it, else a copy."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
