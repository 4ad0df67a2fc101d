"""Rank tests against counting every choice, and bench/compare on files of its own."""

import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

import ranks

COMPARE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "compare")


def counted(first, second):
    """The same p from the definition: the difference of mean ranks of all choices."""
    values = [*first, *second]
    doubled = [sum((other < value) * 2 + (other == value) for other in values) + 1
               for value in values]
    middle = sum(doubled) * len(first)
    away = abs(sum(doubled[:len(first)]) * len(values) - middle)
    sums = [sum(choice) for choice in itertools.combinations(doubled, len(first))]
    return sum(abs(value * len(values) - middle) >= away for value in sums) / len(sums)


class Ranks(unittest.TestCase):
    def test_known(self):
        self.assertEqual(ranks.mann_whitney([1, 2, 3], [4, 5, 6]), 0.1)
        self.assertEqual(ranks.mann_whitney([5, 6, 7, 8], [1, 2, 3, 4]), 2 / 70)
        self.assertEqual(ranks.mann_whitney([1, 1, 1], [1, 1]), 1)
        self.assertEqual(ranks.mann_whitney([1] * 30, [1] * 30), 1)

    def test_exact_is_what_counting_gives(self):
        chance = random.Random(1)
        for _ in range(300):
            kinds = chance.choice((2, 5, 1000))
            first, second = ([chance.randrange(kinds) for _ in range(chance.randint(1, 6))]
                             for _ in range(2))
            self.assertEqual(ranks.mann_whitney(first, second), counted(first, second))

    def test_normal_is_near_exact_where_they_meet(self):
        chance = random.Random(2)
        for kinds in (4, 10**6):
            for shift in (0, 0.2, 0.5):
                first = [chance.randrange(kinds) for _ in range(ranks.EXACT)]
                second = [chance.randrange(kinds) + shift * kinds for _ in range(ranks.EXACT)]
                near = ranks.mann_whitney([*first, -1], [*second, -1])
                self.assertAlmostEqual(ranks.mann_whitney(first, second), near, delta=0.02)

    def test_chance_alone_is_called_a_difference_as_seldom_as_asked(self):
        chance = random.Random(3)
        called = 0
        for _ in range(400):
            p = sorted(ranks.mann_whitney([chance.random() for _ in range(8)],
                                          [chance.random() for _ in range(8)]) for _ in range(10))
            called += any(ranks.holm(p, 0.05))
        self.assertLessEqual(called, 40)  # 20 expected; 40 is more than four deviations away

    def test_holm_stops_at_the_first_that_is_not(self):
        self.assertEqual(ranks.holm([0.01, 0.04, 0.04], 0.05), [True, False, False])
        self.assertEqual(ranks.holm([], 0.05), [])


class Compare(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self._directory = directory.name

    def run_file(self, name, **cases):
        path = os.path.join(self._directory, name)
        results = {"part": {case: {"unit": "ms", "more_is_better": case == "rate",
                                   "values": {"pacsvisor": values}}
                            for case, values in cases.items()}}
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"conditions": {"kvm": name}, "results": results}, file)
        return path

    def compare(self, *words):
        return subprocess.run([sys.executable, "-B", COMPARE, *words], capture_output=True,
                              text=True, check=False, timeout=60)

    def test_says_what_differs_and_which_way(self):
        low, high = list(range(10)), list(range(100, 110))
        before = self.run_file("before", pause=low, rate=low, same=low)
        after = self.run_file("after", pause=high, rate=high, same=low, new=low)
        told = self.compare(before, after)
        self.assertEqual((told.returncode, told.stderr), (0, ""))
        lines = told.stdout.splitlines()
        self.assertTrue(any("pause" in line and line.endswith("worse") for line in lines), lines)
        self.assertTrue(any("rate" in line and line.endswith("better") for line in lines), lines)
        self.assertFalse(any("same" in line or "new" in line for line in lines), lines)
        self.assertIn("3 figures compared, 2 differ", lines[-1])
        self.assertIn("warning: the two differ in 'kvm' as well", lines)
        self.assertIn("part: same", self.compare(before, after, "--all").stdout)

    def test_refuses_what_it_cannot_compare(self):
        before = self.run_file("before", pause=[1, 2])
        other = self.run_file("other", stall=[1, 2])
        broken = os.path.join(self._directory, "broken")
        with open(broken, "w", encoding="utf-8") as file:
            file.write("{}")
        for words, status, said in (((before, broken), 1, "is not what bench/run.sh --json writes"),
                                    ((before, before + "x"), 1, "No such file"),
                                    ((before, other), 1, "no figure of pacsvisor"),
                                    ((before, before, "--level", "5"), 2, "probability"),
                                    ((before,), 2, "required")):
            told = self.compare(*words)
            self.assertEqual((told.returncode, told.stdout), (status, ""))
            self.assertIn(said, told.stderr)


if __name__ == "__main__":
    unittest.main()
