"""Entry point of bench/run.sh, whose head says what there is."""

import argparse
import os
import subprocess
import sys
import time

import block
import conditions
import density
import dirty
import figures
import guest_files
import machine
import memory
import nested
import net
import pacs
import restore
import snapshot
import start
import store
import tracked

PARTS = {"start": start, "memory": memory, "density": density, "block": block, "net": net,
         "snapshot": snapshot, "dirty": dirty, "restore": restore, "tracked": tracked,
         "pacs": pacs, "store": store, "nested": nested}


# What --quick measures of the parts with many cases: words of their names.
QUICK = ("randread 4k QD1", "tap", "user", "512", "256 MiB, 0.1 %", "256 MiB, restored", "tracked,",
         "pacs,", "store,")


class Bench:
    """What the parts share: options, the VMMs in turn, where files go."""

    def __init__(self, options):
        self.runs = options.runs
        self.seconds = options.seconds
        self.cpus = options.cpus
        self.qemus = [] if options.no_qemu else [machine.Qemu()]
        if options.qemu:
            self.qemus.append(machine.Qemu(options.qemu, "other qemu"))
        self.peers = bool(self.qemus)
        self.pacsvisor = machine.Pacsvisor(options.pacsvisor)
        self._against = [machine.Pacsvisor(options.against, "against")] if options.against else []
        if options.unfiltered:
            self._against.append(machine.Pacsvisor(options.pacsvisor, "unfiltered", seccomp=False))
        self.build = os.path.dirname(os.path.dirname(os.path.dirname(options.pacsvisor)))
        self.study = options.study
        self._only = options.only
        self._files = options.files
        self._work = options.work
        self._begun = time.monotonic()
        self.save = lambda: None

    def vmms(self):
        return [self.pacsvisor, *self._against, *self.qemus]

    def wanted(self, case):
        return not self._only or any(word in case for word in self._only)

    def named(self, case):
        """Asked for by --only, not by default."""
        return bool(self._only) and self.wanted(case)

    def guest_files(self, part):
        return guest_files.GuestFiles(self._files, os.path.join(self._work, part))

    def progress(self, text):
        """Between two measurements: says what comes, and keeps what there is."""
        self.save()
        print(f"[{time.monotonic() - self._begun:7.1f} s] {text}", flush=True)


def parse():
    parser = argparse.ArgumentParser(prog="bash bench/run.sh")
    parser.add_argument("part", nargs="?", default="all", choices=[*PARTS, "all"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--json")
    parser.add_argument("--against")
    parser.add_argument("--unfiltered", action="store_true")
    parser.add_argument("--no-qemu", action="store_true")
    parser.add_argument("--qemu")
    parser.add_argument("--pacsvisor", required=True)
    parser.add_argument("--files", required=True)
    parser.add_argument("--study", required=True)
    parser.add_argument("--work", required=True)
    options = parser.parse_args()
    if options.runs is None:
        options.runs = 1 if options.quick else 0
    if options.seconds is None:
        options.seconds = 1 if options.quick else 5
    if options.quick and not options.only:
        options.only = list(QUICK)
    return options


def main():
    options = parse()
    bench = Bench(options)
    facts = conditions.gather(options.pacsvisor, os.path.dirname(options.work), bench.qemus)
    print(conditions.show(facts), flush=True)
    results, broken = {}, ""

    def save(incomplete):
        if options.json:
            figures.write_json(options.json, {**facts, "incomplete": incomplete}, results)

    # Whatever ends this process: what was measured is kept, and marked.
    bench.save = lambda: save("it was still measuring, or was killed")
    try:
        for name in PARTS if options.part == "all" else [options.part]:
            results[name] = figures.Figures()
            PARTS[name].measure(bench, results[name])
    except (machine.Failed, subprocess.SubprocessError, OSError) as failure:
        broken = str(failure)
    except KeyboardInterrupt:
        broken = "interrupted"
    facts["load after"] = conditions.load()
    for name, result in results.items():
        print(f"\n{name}\n{result.table()}")
    print(f"\nload: before {facts['load before']}, after {facts['load after']}; "
          "a ratio above 1 means that pacsvisor is the better one")
    if broken:
        print(f"error: {broken}\nwhat was measured before that stands above", file=sys.stderr)
        facts["incomplete"] = broken
    if options.json:
        try:
            figures.write_json(options.json, facts, results)
        except OSError as failure:
            print(f"error: cannot write {options.json}: {failure.strerror}", file=sys.stderr)
            return 1
    return 1 if broken else 0


sys.exit(main())
