"""Snapshots of the measuring guest: what the pause and the guest's own gap depend on.

Question: over memory size, the share of memory that was written, how many snapshots came before, and
who tracks the writes: how long does the guest stand still, by the VMM's clock and by its own, and
when is the snapshot durable? Method: guests/dirtier, told over its serial console. "quiet": it writes
the pages, then only looks at its clock while the snapshot is taken. "storm": it writes all the time,
as fast as it can, every page of the share in turn. The stall is the longest time between two of the
guest's looks at its clock (its command gap) from just before the snapshot to just after it;
"without a snapshot" is the same over as much time, and is what the host does to every guest.
"vCPU waited for a processor" is what the host's scheduler says of the same time, all waits together:
a stall longer than the pause that this covers is not the snapshot's standing still but its work.
"stolen" is what a host below this one took meanwhile, in steps of 10 ms, of all processors.
"durable" counts from the instant, and what is stored before it, while the guest runs, is not in it;
"command until durable" has both, and is what QEMU's ways are held against.
Beside it QEMU, with the same guest: stop + migrate to a file, background-snapshot, savevm into a
qcow2 file that is no disk of the guest's.

Known errors: the guest's looks at its console are exits to the VMM, and gaps of that length. What it
writes hardly repeats and compresses a little. QEMU's figures are memory and devices, not synced. The
command of ours is a process of its own, whose start (7 ms of linking) is in its time.
"""

import json
import os
import re
import subprocess
import time

import conditions
import machine
import qmp
import snapshot

MIB = 1 << 20
PAGE = 4096
STORM_SHARE = 10
# Of one case: at most so much is written to the store.
MOST_BYTES = 3 << 30
MEMORY_MIB = (256, 1024, 4096, 8192)
SHARES = (0.1, 1, 10, 50)
SOURCES = ("bitmap", "ring", "pagemap", "compare")
DEPTH = 200
WHOLE = "command until durable"
# Each VMM takes its runs of a case in so many turns, the others in between.
TURNS = 2


class Guest:
    """The dirtier's side of a running VMM."""

    def __init__(self, running):
        self._running = running
        ready, _ = running.expect("event ready", 60)
        self.pages = int(re.search(r"area_pages=(\d+)", ready)[1])

    def write(self, pages, seed):
        """Every one of so many pages once."""
        self._running.type(f"dirty pages={pages} pattern=random writes={pages} seed={seed}")
        self._running.expect("event done", 300)

    def storm(self, pages):
        self._running.type(f"dirty pages={pages} pattern=sequential")
        self._running.expect("ok dirty", 60)

    def calm(self):
        self._running.type("stop")
        self._running.expect("event done", 60)

    def waited_ms(self):
        """In all, for a processor of the host's; None: not known."""
        waited_ns = self._running.vcpus_waited_ns()
        return None if waited_ns is None else waited_ns / 1e6

    def gap_ms(self):
        """The longest since last asked."""
        self._running.type("gap")
        answer, _ = self._running.expect("ok gap", 60)
        if int(re.search(r"backwards=(\d+)", answer)[1]):
            raise machine.Failed(f"the guest's clock went back: {answer}")
        return int(re.search(r"longest_ns=(\d+)", answer)[1]) / 1e6


def describe(bench, memory_mib):
    return machine.Machine(kernel=os.path.join(bench.build, "guests/dirtier/dirtier.elf"),
                           memory_mib=memory_mib)


class Ours:
    """Takes snapshots by pacsvisor."""

    def __init__(self, vmm, case, figures):
        self._vmm, self._case, self._figures = vmm, case, figures
        self.name = vmm.name

    def take(self, keep=True):
        begun = time.monotonic()
        result = subprocess.run([self._vmm.program, "snapshot", "bench", "--json"], text=True,
                                capture_output=True, check=False, timeout=600,
                                env={**os.environ, **self._vmm.environment})
        took_s = time.monotonic() - begun
        if result.returncode != 0:
            raise machine.Failed(f"pacsvisor snapshot: {result.stderr}")
        told = json.loads(result.stdout)["result"]
        taken = {**told["figures"], "id": told["id"]}
        if keep:
            self.add("pause", "ms", taken["pause_ns"] / 1e6)
            self.add("durable", "ms", taken["durable_ns"] / 1e6)
            self.add(WHOLE, "ms", took_s * 1000)
            self.add("dirty", "MiB", taken["dirty_bytes"] / MIB)
            for part in snapshot.PARTS:
                self.add(f"of the pause: {part}", "ms", taken[f"pause_{part}_ns"] / 1e6)
        return taken

    def add(self, what, unit, value):
        self._figures.add(f"{self._case}: {what}", unit, self.name, value)


class Theirs:
    """Takes snapshots by QEMU, in one of its ways."""

    WAYS = ("stop + migrate", "background-snapshot", "savevm")

    def __init__(self, vmm, peer, way, directory, case, figures):
        self._peer, self._way, self._case, self._figures = peer, way, case, figures
        self._file = os.path.join(directory, "file")
        self.name = f"{vmm.name} {way}"
        background = way == "background-snapshot"
        peer.command("migrate-set-capabilities", capabilities=[
            {"capability": "background-snapshot", "state": background}])

    def take(self, keep=True):
        if self._way == "savevm":
            pause_ms, took_ms = snapshot.savevm(self._peer)
        else:
            pause_ms, took_ms = snapshot.migrate(self._peer, self._file,
                                                 self._way == "background-snapshot")
        if keep:
            self.add("pause", "ms", pause_ms)
            self.add(WHOLE, "ms", took_ms)

    def add(self, what, unit, value):
        self._figures.add(f"{self._case}: {what}", unit, self.name, value)


def _one(guest, taker, pages, storm, seed):
    if not storm:
        guest.write(pages, seed)
    waited_ms = guest.waited_ms()
    guest.gap_ms()
    begun, stolen_ms = time.monotonic(), conditions.stolen_ms()
    taker.take()
    stall_ms, took_s = guest.gap_ms(), time.monotonic() - begun
    taker.add("stall", "ms", stall_ms)
    taker.add("stolen by a host below", "ms", conditions.stolen_ms() - stolen_ms)
    if waited_ms is not None:
        taker.add("vCPU waited for a processor", "ms", guest.waited_ms() - waited_ms)
    time.sleep(min(took_s, 1))
    taker.add("stall without a snapshot", "ms", guest.gap_ms())


def _share(bench, figures, vmm, files, memory_mib, share, runs, storm, tracking=""):
    case = f"{memory_mib} MiB, {share} % {'storm' if storm else 'quiet'}"
    if tracking:
        case += f", {tracking}"
    if not bench.wanted(case):
        return
    bench.progress(f"dirty, {case}, {vmm.name}")
    directory = files.run_directory(vmm.name)
    description = describe(bench, memory_mib)
    pages = max(2, int(memory_mib * MIB / PAGE * share / 100))
    runs = max(2, min(runs, MOST_BYTES // (pages * PAGE)) // TURNS)
    if isinstance(vmm, machine.Pacsvisor):
        with vmm.start(description, directory, store=os.path.join(directory, "store"),
                       tracking=tracking, typed=True) as running:
            guest = Guest(running)
            taker = Ours(vmm, case, figures)
            guest.write(pages, 1)
            taker.take(keep=False)  # the first is whole
            if storm:
                guest.storm(pages)
            for number in range(runs):
                _one(guest, taker, pages, storm, number + 2)
        return
    if tracking:
        return
    for way in Theirs.WAYS:
        socket = os.path.join(directory, "qmp")
        qcow2 = os.path.join(directory, "savevm.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "64M"], check=True)
        with vmm.start(description, directory, qmp=socket, savevm=qcow2, typed=True) as running:
            guest = Guest(running)
            peer = qmp.Qmp(socket)
            peer.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            try:
                taker = Theirs(vmm, peer, way, directory, case, figures)
            except machine.Failed as reason:
                bench.progress(f"no {way}: {reason}")
                continue
            guest.write(pages, 1)
            if storm:
                guest.storm(pages)
            for number in range(max(1, runs // 4)):
                _one(guest, taker, pages, storm, number + 2)


def _depth(bench, figures, vmm, files):
    """Does the pause, or the time until durable, grow with the snapshots before?"""
    case = "1024 MiB, 0.1 %, depth"
    if not bench.wanted(case) or not isinstance(vmm, machine.Pacsvisor):
        return
    bench.progress(f"dirty, {case}, {vmm.name}")
    directory = files.run_directory(vmm.name)
    depth = DEPTH if bench.runs >= 10 else 8
    with vmm.start(describe(bench, 1024), directory, store=os.path.join(directory, "store"),
                   typed=True) as running:
        guest = Guest(running)
        taker = Ours(vmm, case, figures)
        for number in range(depth + 1):
            guest.write(256, number + 1)
            taken = taker.take(keep=False)
            if number:
                quarter = (number - 1) * 4 // depth + 1
                place = f"{case}, quarter {quarter} of {depth}"
                figures.add(f"{place}: pause", "ms", vmm.name, taken["pause_ns"] / 1e6)
                figures.add(f"{place}: durable", "ms", vmm.name, taken["durable_ns"] / 1e6)


def measure(bench, figures):
    bench.runs = bench.runs or 20
    files = bench.guest_files("dirty")
    cases = [{"memory_mib": memory_mib, "share": share, "storm": False}
             for memory_mib in MEMORY_MIB for share in SHARES]
    cases += [{"memory_mib": memory_mib, "share": STORM_SHARE, "storm": True}
              for memory_mib in MEMORY_MIB]
    cases += [{"memory_mib": 1024, "share": share, "storm": False, "tracking": tracking}
              for tracking in SOURCES for share in (0.1, 10)]
    if bench.runs < 3:
        cases = [{**case, "memory_mib": MEMORY_MIB[0]} for case in cases if case["share"] <= 0.1]
    for case in cases:
        for _ in range(TURNS):
            for vmm in bench.vmms():
                _share(bench, figures, vmm, files, runs=bench.runs, **case)
    for vmm in bench.vmms():
        _depth(bench, figures, vmm, files)
    files.remove()
