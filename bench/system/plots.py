"""Pictures of figures. What a run did not measure has no picture."""

import os
import re
import statistics

import matplotlib

matplotlib.use("Agg")  # to files

from matplotlib import pyplot  # noqa: E402  (after the choice of what draws)

from snapshot import PARTS  # noqa: E402

_SHARE = re.compile(r"(\d+) MiB, ([\d.]+) % quiet: (.*)")
_DEPTH = re.compile(r"(.*), depth, quarter (\d) of (\d+): (.*)")


def draw(part, cases, out):
    """The paths of the PNG files of a part's pictures."""
    painters = {"dirty": (_over_share, _over_memory, _over_depth, _make_up, _stalls),
                "pacs": (_latencies,)}.get(part, ())
    paths = []
    for painter in painters:
        figure, axes = pyplot.subplots(figsize=(9, 4.8), layout="constrained")
        if painter(axes, cases):
            path = os.path.join(out, f"{part}{painter.__name__}.png")
            figure.savefig(path, dpi=110)
            paths.append(path)
        pyplot.close(figure)
    return paths


def _shares(cases, what):
    """{vmm: {(MiB, percent): values}} of the guest that is quiet during the snapshot."""
    found = {}
    for case, entry in cases.items():
        match = _SHARE.fullmatch(case)
        if match and match[3] == what:
            for vmm, values in entry["values"].items():
                found.setdefault(vmm, {})[int(match[1]), float(match[2])] = values
    return found


def _line(axes, points, label):
    """points: {x: values}; the median, and how far the values spread."""
    places = sorted(points)
    middles = [statistics.median(points[x]) for x in places]
    below = [middle - min(points[x]) for x, middle in zip(places, middles)]
    above = [max(points[x]) - middle for x, middle in zip(places, middles)]
    axes.errorbar(places, middles, yerr=(below, above), marker="o", capsize=3, label=label)


def _finish(axes, title, x, y):
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    return True


def _over_share(axes, cases):
    found = _shares(cases, "pause")
    sizes = sorted({size for points in found.values() for size, _ in points})
    if not sizes:
        return False
    for vmm, points in found.items():
        for size in sizes if vmm == "pacsvisor" else sizes[-1:]:
            line = {share: values for (mib, share), values in points.items() if mib == size}
            if line:
                _line(axes, line, f"{vmm}, {size} MiB")
    axes.set(xscale="log", yscale="log")
    return _finish(axes, "Pause: median, smallest to largest", "memory written before, %", "ms")


def _over_memory(axes, cases):
    found = _shares(cases, "pause")
    shares = sorted({share for points in found.values() for _, share in points})
    if not shares:
        return False
    for vmm, points in found.items():
        for share in shares if vmm == "pacsvisor" else shares[:1]:
            line = {size: values for (size, percent), values in points.items() if percent == share}
            if line:
                _line(axes, line, f"{vmm}, {share:g} % written")
    axes.set(xscale="log", yscale="log")
    return _finish(axes, "Pause: median, smallest to largest", "memory, MiB", "ms")


def _over_depth(axes, cases):
    lines = {}
    for case, entry in cases.items():
        match = _DEPTH.fullmatch(case)
        if match:
            for vmm, values in entry["values"].items():
                before = (int(match[2]) - 0.5) * int(match[3]) / 4
                lines.setdefault((vmm, match[4]), {})[before] = values
    for (vmm, what), points in lines.items():
        _line(axes, points, f"{vmm}: {what}")
    if not lines:
        return False
    axes.set(yscale="log")
    return _finish(axes, "By the number of snapshots before: median, smallest to largest",
                   "snapshots before (middle of a quarter)", "ms")


def _make_up(axes, cases):
    parts = {part: {key: statistics.median(values) for key, values in
                    _shares(cases, f"of the pause: {part}").get("pacsvisor", {}).items()}
             for part in PARTS}
    keys = sorted(parts["kick"])
    if not keys:
        return False
    base = [0.0] * len(keys)
    names = [f"{size} MiB\n{share:g} %" for size, share in keys]
    for part, medians in parts.items():
        heights = [medians.get(key, 0) for key in keys]
        axes.bar(names, heights, bottom=base, label=part)
        base = [low + height for low, height in zip(base, heights)]
    axes.tick_params(axis="x", labelsize=7)
    return _finish(axes, "What a pause of pacsvisor's is made of (medians)", "", "ms")


def _percentiles(axes, samples):
    """Curves of what share of the samples is at most so large, its tail spread out."""
    for label, values in samples.items():
        ordered = sorted(values)
        # The largest value stands for the last whole share that so many samples can tell.
        places = [1 / (1 - index / len(ordered)) for index in range(len(ordered))]
        axes.step(places, ordered, where="post", label=f"{label} (n {len(ordered)})")
    ticks = [1, 2, 10, 100, 1000, 10000]
    axes.set(xscale="log", yscale="log")
    axes.set_xlim(0.9, 1.3 * max(len(values) for values in samples.values()))
    axes.set_xticks(ticks, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"])


def _stalls(axes, cases):
    samples = {}
    for what in ("pause", "stall", "stall without a snapshot"):
        for vmm, points in _shares(cases, what).items():
            together = [value for values in points.values() for value in values]
            if vmm == "pacsvisor" or what == "stall":
                samples[f"{vmm}: {what}"] = together
    if not samples:
        return False
    _percentiles(axes, samples)
    return _finish(axes, "All sizes and shares together", "percentile", "ms")


def _latencies(axes, cases):
    values = cases.get("C-STORE", {}).get("values", {})
    if not values:
        return False
    _percentiles(axes, values)
    return _finish(axes, "C-STORE: request to response", "percentile", "ms")
