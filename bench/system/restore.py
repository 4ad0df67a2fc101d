"""Restores: how soon the guest runs, how soon all of its memory is there.

Question: does the time to the first guest instruction depend on how much memory there is, and on how
many snapshots came before? Method: guests/dirtier writes half of its memory (a gigabyte at most), is
snapshotted, then again and again with 256 pages written in between; a clone of the newest snapshot is
started by a process of its own, in turns lazily and with --eager. Times are by the machine's own
description (`ps --json`, CLOCK_MONOTONIC): from main(), and from when the restore itself begins (the
disks are there, the program knows what it wants), to the first vCPU's first entry. "Whole" is when
memory_there_bytes is all of memory, looked at every 5 ms.

Known errors: no disks, so what they cost is not in it. The store lies in the page cache.
"""

import json
import os
import subprocess
import time

import dirty
import machine

MEMORY_MIB = (256, 1024, 4096, 8192)
DEPTHS = (1, 10, 100)
MOST_PAGES = (1 << 30) // dirty.PAGE


def _stop(vmm, name):
    subprocess.run([vmm.program, "stop", name, "--force"], check=True, capture_output=True,
                   timeout=60, env={**os.environ, **vmm.environment})


def _source(bench, vmm, directory, memory_mib, depth):
    """Takes `depth` snapshots; the newest one's id."""
    with vmm.start(dirty.describe(bench, memory_mib), directory,
                   store=os.path.join(directory, "store"), typed=True) as running:
        guest = dirty.Guest(running)
        guest.write(min(guest.pages // 2, MOST_PAGES), 1)
        taker = dirty.Ours(vmm, "", None)
        taken = taker.take(keep=False)
        for number in range(1, depth):
            guest.write(256, number + 1)
            taken = taker.take(keep=False)
        _stop(vmm, "bench")
        running.wait(60)
    return taken["id"]


def _clone(vmm, files, directory, snapshot, eager, add):
    where = files.run_directory("clone")
    command = ["restore", snapshot, "--store", os.path.join(directory, "store"), "--name", "clone",
               "--directory", os.path.join(where, "machine")] + (["--eager"] if eager else [])
    with vmm.run(command, where) as running:
        deadline = time.monotonic() + 300
        while True:
            told = [one for one in json.loads(vmm.ps()) if one["name"] == "clone"]
            if told and told[0].get("first_entry_ns"):
                if "entered" not in add.seen:
                    add.seen.add("entered")
                    entered = told[0]["first_entry_ns"]
                    add("main() to the first instruction", entered - told[0]["process_start_ns"])
                    add("restore to the first instruction", entered - told[0]["restore_start_ns"])
                if eager or told[0]["memory_there_bytes"] >= told[0]["memory_bytes"]:
                    break
            if time.monotonic() > deadline or not running.alive():
                raise machine.Failed(f"the clone did not come\n{told}")
            time.sleep(0.005)
        if not eager:
            add("restore to whole memory", time.monotonic_ns() - told[0]["restore_start_ns"])
        _stop(vmm, "clone")
        running.wait(60)


class _Adder:
    def __init__(self, figures, case, vmm):
        self._figures, self._case, self._vmm = figures, case, vmm
        self.seen = set()

    def __call__(self, what, ns):
        self._figures.add(f"{self._case}: {what}", "ms", self._vmm, ns / 1e6)


def measure(bench, figures):
    runs = bench.runs or 5
    files = bench.guest_files("restore")
    cases = [(memory, 1) for memory in MEMORY_MIB] + [(1024, depth) for depth in DEPTHS[1:]]
    if runs < 3:
        cases = cases[:1]
    for memory_mib, depth in cases:
        case = f"{memory_mib} MiB, restored from depth {depth}"
        if not bench.wanted(case):
            continue
        for vmm in bench.vmms():
            if not isinstance(vmm, machine.Pacsvisor):
                continue
            bench.progress(f"restore, {case}, {vmm.name}")
            directory = files.run_directory(vmm.name)
            snapshot = _source(bench, vmm, directory, memory_mib, depth)
            for _ in range(runs):
                for eager in (False, True):
                    way = "eager" if eager else "lazy"
                    _clone(vmm, files, directory, snapshot, eager,
                           _Adder(figures, f"{case}, {way}", vmm.name))
    files.remove()
