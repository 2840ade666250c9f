"""Writes a count with its noun: `1 image`, `2,000 images`."""

__all__ = ["counted"]


def counted(count: int, noun: str) -> str:
    """Return `1 call`, `2,000 calls`; for nouns with a plural in -s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
