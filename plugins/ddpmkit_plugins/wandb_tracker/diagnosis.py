"""What `ddpmkit doctor` says of Weights & Biases. The key is looked for, never shown, and no server is asked."""

from urllib.parse import urlsplit

from ddpmkit.plugin import Diagnosis


def connection() -> Diagnosis:
    """Where runs of `use = "wandb"` go."""
    try:
        import wandb
    except ImportError:
        return Diagnosis("wandb", "problem", "not installed", ("pip install wandb",))
    # What wandb was set up with before is not what a run of its own would find.
    wandb.teardown()
    try:
        settings = wandb.setup(wandb.Settings(silent=True)).settings
        mode, server = settings.mode, settings.base_url
        key = bool(settings.api_key or settings.identity_token_file or _in_netrc(server))
    finally:
        wandb.teardown()
    host = urlsplit(server).netloc
    if mode != "online":
        silenced = f"{wandb.__version__}; its own settings say {mode!r}, whatever a recipe says"
        return Diagnosis("wandb", "note", silenced, ("wandb online", "unset WANDB_MODE"))
    if not key:
        return Diagnosis(
            "wandb",
            "note",
            f"{wandb.__version__}, no key for {host}: runs go offline",
            ("wandb login", "wandb sync FOLDER  uploads such a run later"),
        )
    return Diagnosis("wandb", "ok", f"{wandb.__version__}, with a key for {host}: runs go online")


def _in_netrc(server: str) -> bool:
    """Whether `wandb login` left a key for that server."""
    from requests.utils import get_netrc_auth

    return get_netrc_auth(server) is not None
