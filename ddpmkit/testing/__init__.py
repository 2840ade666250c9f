"""The conformance kit: what every component of a kind must do, as checks that built-ins and third parties run alike.

    @pytest.mark.parametrize("check", conformance_checks("acme/zigzag"), ids=str)
    def test_conformance(check):
        check.run()

No check can be overridden; one that must be tolerated for a while is marked in the test suite that tolerates it.
"""

from ddpmkit.testing.checks import Check, ConformanceError
from ddpmkit.testing.conformance import conformance_checks

__all__ = ["Check", "ConformanceError", "conformance_checks"]
