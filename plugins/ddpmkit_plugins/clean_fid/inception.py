"""Finds, downloads and loads the Inception network of clean-fid."""

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
    """The network's file: `named`, else DDPMKIT_INCEPTION, else the published one, downloaded if not cached.

    Raises InputError if a named file does not exist, ComponentUnavailable if the download fails.
    """
    if (path := named_inception(named)) is not None:
        return path
    cached = cached_inception()
    if cached.is_file():
        if sha256_file(cached) == SHA256:
            return cached
        logger.warning("%s is damaged or not the published network; it is downloaded again.", cached)
    logger.info("downloading the Inception network from %s to %s", URL, cached)
    try:
        return download(URL, cached, sha256=SHA256)
    except (DdpmkitError, OSError) as error:
        reason = error.message if isinstance(error, DdpmkitError) else str(error)
        raise ComponentUnavailable(
            f"the Inception network is not available: metric.inception and "
            f"DDPMKIT_INCEPTION are not set, {cached} is {'another file' if cached.is_file() else 'missing'}, and "
            f"downloading it failed: {reason}",
            remedies=[
                f"download {URL} manually and save it as {cached}",
                'use a copy: metric.inception = "/path/to/the/file.pt", or DDPMKIT_INCEPTION in the environment',
                "add --skip-unavailable-metrics to skip this metric",
            ],
        ) from error


def load_inception(path: Path, device: torch.device) -> nn.Module:
    """clean-fid's network: float32 [B, 3, 299, 299] in 0 .. 255 -> features float32 [B, 2048].

    Raises InputError if the file at `path` is not that network.
    """
    # InceptionV3W takes a folder with a fixed file name, so a file with another name needs a temporary folder.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.load` is deprecated")
        try:
            _check_checksums(path)
            _place(path, Path(folder) / FILE_NAME)
            network: nn.Module = InceptionV3W(folder, download=False)
        except Exception as error:
            # A file that is something else can raise many errors.
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{path} is not the Inception network in TorchScript: {reason}",
                remedies=["delete it to download it again", f"the published file is {URL}"],
            ) from error
    return network.eval().to(device)


def _check_checksums(path: Path) -> None:
    """Check the checksums of the zip archive, which torch ignores when it reads TorchScript."""
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"it is damaged: the checksum of {damaged} is wrong")


def _place(source: Path, target: Path) -> None:
    """Create a link if the system allows it, otherwise a copy."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
