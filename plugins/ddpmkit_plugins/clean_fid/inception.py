"""The Inception network that clean-fid measures with: had and loaded."""

import logging
import shutil
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
from cleanfid.inception_torchscript import InceptionV3W
from torch import nn

from ddpmkit.plugin import ComponentUnavailable, DdpmkitError, InputError, download, sha256_file
from ddpmkit_plugins.clean_fid.location import FILE_NAME, SHA256, URL, cached_inception, named_inception

logger = logging.getLogger(__name__)


def find_inception(named: str) -> Path:
    """The network's file: `named`, else DDPMKIT_INCEPTION, else the published one, fetched when the cache has another.

    Raises InputError when a named file is not there, ComponentUnavailable when it cannot be fetched.
    """
    if (path := named_inception(named)) is not None:
        return path
    cached = cached_inception()
    if cached.is_file():
        if sha256_file(cached) == SHA256:
            return cached
        logger.warning("%s is not the published network, or damaged: it is downloaded again.", cached)
    logger.info("downloading the Inception network from %s to %s", URL, cached)
    try:
        return download(URL, cached, sha256=SHA256)
    except (DdpmkitError, OSError) as error:
        reason = error.message if isinstance(error, DdpmkitError) else str(error)
        raise ComponentUnavailable(
            f"the Inception network is not available here: metric.inception and "
            f"DDPMKIT_INCEPTION are not set, {cached} is {'another file' if cached.is_file() else 'not there'}, and "
            f"downloading it failed: {reason}",
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
            _check_checksums(path)
            _place(path, Path(folder) / FILE_NAME)
            network: nn.Module = InceptionV3W(folder, download=False)
        except Exception as error:
            # There is no end to the ways in which a file can be something else, and to what is raised then.
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{path} is not the Inception network in TorchScript: {reason}",
                remedies=["delete it, and it is downloaded again", f"the published file is {URL}"],
            ) from error
    return network.eval().to(device)


def _check_checksums(path: Path) -> None:
    """TorchScript is a zip archive, and torch reads it without a look at its checksums."""
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"it is damaged, the checksum of {damaged} is wrong")


def _place(source: Path, target: Path) -> None:
    """A link where the system allows it, else a copy."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
