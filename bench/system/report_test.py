"""bench/report on a run of its own, on a partial one, and on what is none."""

import json
import os
import subprocess
import tempfile
import unittest

from snapshot import PARTS

REPORT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "report")


def entry(**values):
    return {"unit": "ms", "more_is_better": False,
            "values": {vmm.replace("_", " "): samples for vmm, samples in values.items()}}


def dirty_cases():
    cases = {}
    for size in (256, 1024):
        for share in ("0.1", "10"):
            case = f"{size} MiB, {share} % quiet"
            cases[f"{case}: pause"] = entry(pacsvisor=[0.3, 0.4], qemu_savevm=[20, 30])
            cases[f"{case}: stall"] = entry(pacsvisor=[0.5, 4], qemu_savevm=[40])
            for part in PARTS:
                cases[f"{case}: of the pause: {part}"] = entry(pacsvisor=[0.1, 0.2])
    for quarter in range(1, 5):
        cases[f"1024 MiB, 0.1 %, depth, quarter {quarter} of 200: pause"] = entry(pacsvisor=[0.3])
    return cases


class Report(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self._directory = directory.name
        self._out = os.path.join(directory.name, "out")

    def run_file(self, name, conditions, results):
        path = os.path.join(self._directory, name)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"conditions": conditions, "results": results}, file)
        return path

    def report(self, *paths):
        return subprocess.run(["bash", REPORT, "--out", self._out, *paths], capture_output=True,
                              text=True, check=False, timeout=100)

    def pictures(self):
        return sorted(name for name in os.listdir(self._out) if name.endswith(".png"))

    def test_shows_every_figure_and_draws_what_there_is(self):
        missing = {**entry(pacsvisor=[1]), "missing": {"qemu <old>": "it has none"}}
        path = self.run_file("run.json", {"kvm": "pvm", "incomplete": "killed"},
                             {"dirty": dirty_cases(), "pacs": {"C-STORE": entry(pacsvisor=[5, 9])},
                              "other": {"odd": missing}})
        told = self.report(path)
        self.assertEqual(told.returncode, 0, told.stderr)
        page_path = os.path.join(self._out, "report.html")
        self.assertEqual(told.stdout.splitlines()[-1], page_path)
        self.assertEqual(self.pictures(),
                         ["dirty_make_up.png", "dirty_over_depth.png", "dirty_over_memory.png",
                          "dirty_over_share.png", "dirty_stalls.png", "pacs_latencies.png"])
        with open(page_path, encoding="utf-8") as file:
            page = file.read()
        self.assertEqual(page.count("data:image/png"), 6)
        for case in dirty_cases():
            self.assertIn(case, page)
        self.assertIn("not measured: odd, qemu &lt;old&gt;: it has none", page)
        self.assertIn("Incomplete: killed", page)
        self.assertIn("not the processor's own virtualization".replace("'", "&#x27;"), page)

    def test_draws_nothing_of_what_was_not_measured(self):
        path = self.run_file("run.json", {"kvm": "svm"}, {"dirty": {}, "pacs": {}})
        self.assertEqual(self.report(path).returncode, 0)
        self.assertEqual(self.pictures(), [])

    def test_refuses_what_is_no_run(self):
        path = self.run_file("run.json", {}, {})
        for words, status, said in (((path,), 1, "no figure"), ((path + "x",), 1, "No such file"),
                                    ((), 2, "no file to report on"),
                                    ((REPORT,), 1, "is not what bench/run.sh --json writes")):
            told = self.report(*words)
            self.assertEqual(told.returncode, status, told.stderr)
            self.assertIn(said, told.stderr)


if __name__ == "__main__":
    unittest.main()
