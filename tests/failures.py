#!/usr/bin/env python3
"""Prints the failed tests of ctest's JUnit files, each with the end of its output.

usage: failures.py FILE.xml...
"""

import sys
import xml.etree.ElementTree as ElementTree

LINES = 40  # of each test's output
TESTS = 8  # with output; the others by name


def failures(path):
    """Yields (name, reason, output) of the tests of `path` that failed or did not run."""
    try:
        suite = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        yield path, f"no report: {error}", ""
        return
    for case in suite.iter("testcase"):
        output = case.findtext("system-out") or ""
        skipped = case.find("skipped")
        if case.find("failure") is not None:
            yield case.get("name"), f"failed after {float(case.get('time')):.1f} s", output
        elif skipped is not None and not skipped.get("message", "").startswith("SKIP_"):
            yield case.get("name"), skipped.get("message"), output



def main():
    found = [(path, *failure) for path in sys.argv[1:] for failure in failures(path)]
    for path, name, reason, output in found[:TESTS]:
        print(f"--- {name} ({path}): {reason}")
        lines = output.rstrip().splitlines()
        if len(lines) > LINES:
            print(f"    (the last {LINES} of {len(lines)} lines)")
        for line in lines[-LINES:]:
            print(f"    {line}")
    for path, name, reason, _ in found[TESTS:]:
        print(f"--- {name} ({path}): {reason}")
    print(f"{len(found)} failed:")
    for path, name, reason, _ in found:
        print(f"    {name} ({path}): {reason}")


if __name__ == "__main__":
    main()
