import pytest

from ddpmkit.plural import counted


@pytest.mark.parametrize(("count", "text"), [(0, "0 calls"), (1, "1 call"), (2000, "2,000 calls")])
def test_one_is_singular_and_thousands_are_parted(count: int, text: str) -> None:
    assert counted(count, "call") == text
