"""Numbers in sentences for people. It does not know what is counted."""

__all__ = ["counted"]


def counted(count: int, noun: str) -> str:
    """`1 call`, `2,000 calls`; for nouns that take an s."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
