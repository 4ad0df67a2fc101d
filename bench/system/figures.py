"""Figures of repeated runs: what is kept, how it is summed up and shown."""

import json
import math
import os
import statistics

# From so many samples on a percentile says something.
PERCENTILES = ((90, 10), (99, 100))


class Figures:
    """One list of values for each (case, VMM), in the order of measuring.

    A case has a unit and says whether more is better: its ratio is then pacsvisor : peer, otherwise
    peer : pacsvisor, so that a ratio above 1 always means that pacsvisor is the better one.
    """

    def __init__(self, cases=None):
        """cases: of as_json()."""
        self._cases = {} if cases is None else cases

    def add(self, case, unit, vmm, value, more_is_better=False):
        self._entry(case, unit, more_is_better)["values"].setdefault(vmm, []).append(value)

    def missing(self, case, unit, vmm, why):
        """A row that says why there is no figure."""
        self._entry(case, unit, False).setdefault("missing", {})[vmm] = why

    def as_json(self):
        return self._cases

    def rows(self):
        """The table's cells, its head first."""
        shares = [f"p{share}" for share, _ in PERCENTILES]
        rows = [("case", "unit", "vmm", "n", "median", *shares, "min .. max", "ratio")]
        for case, entry in self._cases.items():
            own = entry["values"].get("pacsvisor")
            for vmm, values in entry["values"].items():
                rows.append((case, entry["unit"], vmm, str(len(values)),
                             _number(statistics.median(values)), *_percentiles(values),
                             f"{_number(min(values))} .. {_number(max(values))}",
                             "" if own is None or vmm == "pacsvisor"
                             else _ratio(own, values, entry["more_is_better"])))
                case = ""  # named once
        return rows

    def told(self):
        """Of what there is no figure, and why."""
        return [f"not measured: {case}, {vmm}: {why}" for case, entry in self._cases.items()
                for vmm, why in entry.get("missing", {}).items()]

    def table(self):
        return "\n".join([_align(self.rows()), *self.told()])

    def _entry(self, case, unit, more_is_better):
        return self._cases.setdefault(
            case, {"unit": unit, "more_is_better": more_is_better, "values": {}})


def percentile(values, share):
    """The smallest value that so many percent do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * share / 100) - 1)]


def _percentiles(values):
    return [_number(percentile(values, share)) if len(values) >= least else ""
            for share, least in PERCENTILES]


def _ratio(own, peer, more_is_better):
    first, second = (own, peer) if more_is_better else (peer, own)
    divisor = statistics.median(second)
    return f"{statistics.median(first) / divisor:.2f}" if divisor else "-"


def _number(value):
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _align(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) if i in (0, 1, 2) else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def write_json(path, conditions, results):
    """At every instant the file is a whole one."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump({"conditions": conditions,
                   "results": {name: figures.as_json() for name, figures in results.items()}},
                  file, indent=1)
        file.write("\n")
    os.replace(f"{path}.new", path)
