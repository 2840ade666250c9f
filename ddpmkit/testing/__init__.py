"""The conformance kit: checks that a component fulfils the contract of its kind.

In a test module, one test for each check:

    test_conformance = conformance_tests("acme/zigzag")

If the settings come from a fixture:

    def test_conformance(tmp_path):
        for check in conformance_checks("acme/images", settings={"root": str(tmp_path)}):
            check.run()

A check cannot be overridden or skipped. A check that is known to fail is declared with a reason,
`xfail={"schedule.snr": "flat by design below t = 3"}`, and then fails the tests as soon as it passes.
"""

from ddpmkit.testing.checks import Check, Outcome
from ddpmkit.testing.conformance import checks_text, conformance_checks, conformance_tests
from ddpmkit.testing.failures import ConformanceError

__all__ = ["Check", "ConformanceError", "Outcome", "checks_text", "conformance_checks", "conformance_tests"]
