"""The conformance kit: what every component of a kind must do, as checks that built-ins and third parties run alike.

In a test module, a test a check:

    test_conformance = conformance_tests("acme/zigzag")

or, where settings are made by a fixture:

    for check in conformance_checks("acme/pictures", settings={"root": str(folder)}):
        check.run()

No check can be overridden or left out. One that must fail for a while is named with its reason,
`xfail={"schedule.snr": "flat by design below t = 3"}`, and fails the tests on the day that it passes.
"""

from ddpmkit.testing.checks import Check, ConformanceError, Outcome
from ddpmkit.testing.conformance import conformance_checks, conformance_tests
from ddpmkit.testing.documentation import checks_text

__all__ = ["Check", "ConformanceError", "Outcome", "checks_text", "conformance_checks", "conformance_tests"]
