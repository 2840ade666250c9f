"""Loads the network that a recipe names, and computes its hash."""

import hashlib
import importlib
import warnings
from pathlib import Path

import torch
from torch import nn

from ddpmkit.plugin import InputError, sha256_file

_REMEDIES = (
    'for a TorchScript file, set extractor = "/path/to/extractor.pt"',
    'for a function without arguments that returns a torch module, set extractor = "package.module:function"',
)


def load_extractor(named: str, device: torch.device) -> tuple[nn.Module, str]:
    """The network in evaluation mode, and the SHA-256 of its file or of its weights.

    Raises InputError if it does not exist or is something else.
    """
    path = Path(named).expanduser()
    if path.is_file():
        network, digest = _from_file(path), sha256_file(path)
    elif ":" in named:
        network = _from_function(named)
        digest = _digest_of_weights(network)
    else:
        raise InputError(f"metric.extractor is {path.absolute()}, which does not exist.", remedies=_REMEDIES)
    return network.eval().to(device), digest


def _from_file(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.load` is deprecated")
        try:
            network: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]  # it is
            return network
        except Exception as error:  # a file that is something else can raise many errors
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{path} is not a TorchScript file: {reason}", remedies=_REMEDIES) from error


def _from_function(named: str) -> nn.Module:
    module, _, function = named.partition(":")
    try:
        network = getattr(importlib.import_module(module), function)()
    except Exception as error:
        raise InputError(
            f"metric.extractor: {named} failed with {type(error).__name__}: {error}", remedies=_REMEDIES
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"metric.extractor: {named} returned {type(network).__name__}, not a torch module.", remedies=_REMEDIES
        )
    return network


def _digest_of_weights(network: nn.Module) -> str:
    """SHA-256 over names and bytes of all weights and buffers."""
    digest = hashlib.sha256()
    for name, weight in network.state_dict().items():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
