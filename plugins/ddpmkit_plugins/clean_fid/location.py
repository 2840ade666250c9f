"""Path, URL and SHA-256 of the Inception network's file. Imports no torch."""

from pathlib import Path

from cleanfid.downloads_helper import inception_url

from ddpmkit.plugin import InputError, cache_folder, setting

FILE_NAME = "inception-2015-12-05.pt"
URL: str = inception_url
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""The SHA-256 of the published file (95,607,719 bytes); k-diffusion's `evaluation.py` contains the same value."""


def cached_inception() -> Path:
    """The path of the download."""
    return cache_folder() / FILE_NAME


def named_inception(named: str) -> Path | None:
    """The file named by the recipe, else by DDPMKIT_INCEPTION, else None. Raises InputError if it does not exist."""
    for source, value in (("metric.inception", named), ("DDPMKIT_INCEPTION", setting("INCEPTION"))):
        if not value:
            continue
        path = Path(value).expanduser()
        if not path.is_file():
            raise InputError(
                f"{source} is {path.absolute()}, which does not exist.",
                remedies=["correct the path", f"unset {source} to search for the file or download it"],
            )
        return path
    return None
