"""Restores: how soon the guest runs, how soon all of its memory is there.

Question: does the time to the first guest instruction depend on how much memory there is, and on
how many snapshots came before? Method: guests/dirtier writes half of its memory (a gigabyte at
most), is snapshotted, then again and again with 256 pages written in between; a clone of the newest
snapshot is started by a process of its own, in turns lazily and with --eager. Times are by the
machine's own description (`ps --json`, CLOCK_MONOTONIC): from main(), and from when the machine
begins to be built (the disks are there, the program knows what it wants), to the first vCPU's first
entry. "Whole" is when memory_there_bytes is all of memory, looked at every 25 ms, from 100 ms on.

The floor, in turn with these: bench/programs/vm_floor.cc, a bare virtual machine with as much
memory in the same slots, interrupt controllers and one vCPU, by system calls alone, until KVM_RUN
is called; once without a dirty log, once with the log on from the first, which is what a restored
machine has. "Above the floor" is each restore less the floor (without a log) of the same turn.

Known errors: no disks, so what they cost is not in it. The store lies in the page cache. The
floor's process is small, and KVM's memory slots are then allocated from a host that has done
nothing else.
"""

import json
import os
import shutil
import subprocess
import time

import dirty
import machine
import programs

MEMORY_MIB = (256, 1024, 4096, 8192)
DEPTHS = (1, 10, 100)
MOST_PAGES = (1 << 30) // dirty.PAGE
FLOORS = {"none": "floor", "first": "floor with a dirty log"}
ENTERED = "restore to the first instruction"
UNASKED_S, ASKED_EVERY_S = 0.1, 0.025


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
        # Each question is a process, which wants one of the host's processors for 7 ms.
        time.sleep(UNASKED_S)
        while True:
            told = [one for one in json.loads(vmm.ps()) if one["name"] == "clone"]
            if told and told[0].get("first_entry_ns"):
                if "entered" not in add.seen:
                    add.seen.add("entered")
                    entered = told[0]["first_entry_ns"]
                    add("main() to the first instruction", entered - told[0]["process_start_ns"])
                    add(ENTERED, entered - told[0]["restore_start_ns"])
                if eager or told[0]["memory_there_bytes"] >= told[0]["memory_bytes"]:
                    break
            if time.monotonic() > deadline or not running.alive():
                raise machine.Failed(f"the clone did not come\n{told}")
            time.sleep(ASKED_EVERY_S)
        if not eager:
            add("restore to whole memory", time.monotonic_ns() - told[0]["restore_start_ns"])
        _stop(vmm, "clone")
        running.wait(60)


class _Adder:
    def __init__(self, figures, case, vmm, floor_ns):
        self._figures, self._case, self._vmm, self._floor_ns = figures, case, vmm, floor_ns
        self.seen = set()

    def __call__(self, what, ns):
        self._figures.add(f"{self._case}: {what}", "ms", self._vmm, ns / 1e6)
        if what == ENTERED:
            self._figures.add(f"{self._case}: above the floor", "ms", self._vmm,
                              (ns - self._floor_ns) / 1e6)


def _floor(bench, figures, case, memory_mib):
    """Of one turn, in ns; beside the lazy restore, which it bounds."""
    floor_ns = 0
    for log, name in FLOORS.items():
        told = programs.ask(bench, "bench_vm_floor", memory_mib, log)
        figures.add(f"{case}, lazy: {ENTERED}", "ms", name, told["entry_ns"] / 1e6)
        if log == "none":
            floor_ns = told["entry_ns"]
            figures.add(f"{case}, of the floor: memory slots", "ms", name,
                        told["memory_slots_ns"] / 1e6)
    return floor_ns


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
        own = [vmm for vmm in bench.vmms() if isinstance(vmm, machine.Pacsvisor)]
        sources = {}
        for vmm in own:
            bench.progress(f"restore, {case}, {vmm.name}")
            directory = files.run_directory(vmm.name)
            sources[vmm.name] = directory, _source(bench, vmm, directory, memory_mib, depth)
        for _ in range(runs):
            floor_ns = _floor(bench, figures, case, memory_mib)
            for eager in (False, True):
                for vmm in own:
                    way = "eager" if eager else "lazy"
                    _clone(vmm, files, *sources[vmm.name], eager,
                           _Adder(figures, f"{case}, {way}", vmm.name, floor_ns))
        for directory, _ in sources.values():
            shutil.rmtree(directory)
    files.remove()
