"""Counts in sentences."""

__all__ = ["counted"]


def counted(count: int, noun: str) -> str:
    """`1 call`, `2,000 calls`; for nouns with a plural in -s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
