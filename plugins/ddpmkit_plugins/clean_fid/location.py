"""Where the file of the Inception network is, and which file it is. Imports no torch."""

from pathlib import Path

from cleanfid.downloads_helper import inception_url

from ddpmkit.plugin import InputError, cache_folder, setting

FILE_NAME = "inception-2015-12-05.pt"
URL: str = inception_url
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Of the published file, 95,607,719 bytes. k-diffusion's `evaluation.py` gives the same."""


def cached_inception() -> Path:
    """Where the file is downloaded to."""
    return cache_folder() / FILE_NAME


def named_inception(named: str) -> Path | None:
    """The file that the recipe names, else DDPMKIT_INCEPTION, else None. Raises InputError when it is not there."""
    for source, value in (("metric.inception", named), ("DDPMKIT_INCEPTION", setting("INCEPTION"))):
        if not value:
            continue
        path = Path(value).expanduser()
        if not path.is_file():
            raise InputError(
                f"{source} names {path.absolute()}, and there is no such file.",
                remedies=["correct the path", f"leave {source} unset: the file is then looked for and downloaded"],
            )
        return path
    return None
