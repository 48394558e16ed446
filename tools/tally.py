#!/usr/bin/env python3
"""tools/tally.py (STATUS LOG)... — add up runs of `meson test`.

LOG is meson's testlog.json, STATUS the exit status of the run. A run that failed without a failing
test (it did not build, or ran out of time) counts as one failed. Names what failed and why tests
were skipped; the last line is "N passed, N failed, N skipped". Exit 1 when anything failed.
"""
import json
import sys

PASSED = {"OK", "EXPECTEDFAIL"}
SKIPPED = {"SKIP"}


def tests_of(path):
    """Meson writes one JSON object a line as each test ends."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return [json.loads(line) for line in log if line.strip()]
    except FileNotFoundError:
        return []


def reason(test):
    """The last line a skipped test printed: by our rule it says why."""
    lines = (test.get("stdout", "") + test.get("stderr", "")).strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"


def main(arguments):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for status, path in zip(arguments[::2], arguments[1::2]):
        failed = 0
        for test in tests_of(path):
            if test["result"] in PASSED:
                counts["passed"] += 1
            elif test["result"] in SKIPPED:
                counts["skipped"] += 1
                print(f"skipped: {test['name']}: {reason(test)}")
            else:
                failed += 1
                print(f"failed: {test['name']}: {test['result']} ({path})")
        if status != "0" and not failed:
            failed = 1
            print(f"failed: the run behind {path} ended with status {status}")
        counts["failed"] += failed
    print(", ".join(f"{number} {what}" for what, number in counts.items()))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
