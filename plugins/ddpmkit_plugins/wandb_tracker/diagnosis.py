"""The diagnosis of Weights & Biases in `ddpmkit doctor`. Never shows the key and contacts no server."""

from urllib.parse import urlsplit

from ddpmkit.plugin import Diagnosis


def connection() -> Diagnosis:
    """Whether runs with `use = "wandb"` are online or offline."""
    try:
        import wandb
    except ImportError:
        return Diagnosis("wandb", "problem", "not installed", ("pip install wandb",))
    # An earlier setup in this process may differ from the settings of a new run.
    wandb.teardown()
    try:
        settings = wandb.setup(wandb.Settings(silent=True)).settings
        mode, server = settings.mode, settings.base_url
        key = bool(settings.api_key or settings.identity_token_file or _in_netrc(server))
    finally:
        wandb.teardown()
    host = urlsplit(server).netloc
    if mode != "online":
        overridden = f"{wandb.__version__}; its own settings have mode {mode!r}, which overrides the recipe"
        return Diagnosis("wandb", "note", overridden, ("wandb online", "unset WANDB_MODE"))
    if not key:
        return Diagnosis(
            "wandb",
            "note",
            f"{wandb.__version__}, no key for {host}: runs are offline",
            ("wandb login", "run `wandb sync FOLDER` to upload such a run later"),
        )
    return Diagnosis("wandb", "ok", f"{wandb.__version__}, with a key for {host}: runs are online")


def _in_netrc(server: str) -> bool:
    """Whether `wandb login` left a key for that server."""
    from requests.utils import get_netrc_auth

    return get_netrc_auth(server) is not None
