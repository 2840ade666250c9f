"""The diagnoses of the Inception network's file and of torchvision in `ddpmkit doctor`."""

import importlib
import importlib.metadata
import shlex
import traceback

from ddpmkit.plugin import Diagnosis, InputError, sha256_file
from ddpmkit_plugins.clean_fid.location import SHA256, URL, cached_inception, named_inception

# Installing only one of them does not replace it by the build that matches the other.
_PAIR = (
    "pip install --force-reinstall torch torchvision",
    "pip install --force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cpu  for CPU builds",
)


def inception_file() -> Diagnosis:
    """Whether the network is available and is the published one."""
    cached = cached_inception()
    try:
        path = named_inception("") or cached
    except InputError as error:
        return Diagnosis("inception", "problem", error.message.rstrip("."), error.remedies)
    if not path.is_file():
        return Diagnosis(
            "inception",
            "note",
            f"DDPMKIT_INCEPTION is not set, and {cached} does not exist; clean-fid downloads it when needed",
            (
                f"curl --location --create-dirs --output {shlex.quote(str(cached))} {URL}",
                "or set DDPMKIT_INCEPTION=/path/to/the/file.pt in the environment to use a copy",
            ),
        )
    if (found := sha256_file(path)) != SHA256:
        again = "ddpmkit downloads it again" if path == cached else f"the published file is {URL}"
        return Diagnosis(
            "inception",
            "problem",
            f"{path} is not the published network: its SHA-256 begins with {found[:12]}, not {SHA256[:12]}",
            (f"rm {shlex.quote(str(path))}  {again}",),
        )
    return Diagnosis("inception", "ok", f"{path}, SHA-256 as published")


def torchvision_package() -> Diagnosis:
    """Whether torch and torchvision are builds that go together. Our FID does without the latter; others may not."""
    try:
        import torch
    except Exception:
        return Diagnosis("torchvision", "note", "unknown, because torch does not work")
    try:
        found = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        missing = "not installed, though clean-fid requires it; the metric clean-fid works without it"
        return Diagnosis("torchvision", "note", missing, ("pip install torchvision",))
    try:
        torchvision = importlib.import_module("torchvision")
    except Exception as error:
        return Diagnosis(
            "torchvision",
            "problem",
            f"{found} cannot be imported with torch {torch.__version__}: {_cause(error)}",
            _PAIR,
            "".join(traceback.format_exception(error)),
        )
    if torch.version.cuda and not getattr(torchvision.version, "cuda", None):
        mixed = f"{found} is a CPU build, but torch is for CUDA {torch.version.cuda}: its operators run on the CPU"
        return Diagnosis("torchvision", "note", mixed, _PAIR[:1])
    return Diagnosis("torchvision", "ok", f"{torchvision.__version__}, matches torch {torch.__version__}")


def _cause(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    if "torchvision::" in text or "C++ ops" in text or "undefined symbol" in text:
        return f"{text}. The builds do not match, such as a CPU torch and a CUDA torchvision"
    if "different CUDA" in text:
        return "they are built for different versions of CUDA"
    return f"{type(error).__name__}: {text}"
