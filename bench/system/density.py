"""What machines cost a host that only wait.

Question: how many idle guests can share a host? Method: so many native Linux guests at once of one
VMM (root disk, no network), left alone for a while; then for ten seconds what the host's accounts
say of each VMM's process: processor time, how often its threads went to sleep (each time something
had woken them), and the private dirty memory beside the guest's. One figure a machine. The VMMs
take turns.

Known errors: processor time holds what the guest itself does when idle (its ticks), the same for
both. Waking up is counted as voluntary context switches: interrupts that wake no thread are not in
it.
"""

import contextlib
import glob
import os
import time

import guest_files
import machine
import memory

MACHINES = 8
MEMORY_MIB = 256
SETTLE_S = 5
WINDOW_S = 10
_TICKS = os.sysconf("SC_CLK_TCK")


def _account(pid):
    """Processor seconds of the process and its children in it, and how often its threads slept."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    slept = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="utf-8") as file:
            slept += sum(int(line.split()[1]) for line in file
                         if line.startswith("voluntary_ctxt_switches"))
    return (int(fields[11]) + int(fields[12])) / _TICKS, slept


def _measure_one(bench, figures, files, vmm, count):
    with contextlib.ExitStack() as stack:
        guests = []
        for number in range(count):
            description = machine.Machine(
                kernel=files.kernel, cmdline=guest_files.CMDLINE, cpus=bench.cpus,
                memory_mib=MEMORY_MIB,
                disks=[machine.Disk(files.copy("root.raw", f"root-{number}.raw"), "root")])
            directory = files.run_directory(f"{vmm.name}-{number}")
            guests.append(stack.enter_context(vmm.start(description, directory)))
        for running in guests:
            running.expect("pacs: Linux", 60 * count)
        time.sleep(SETTLE_S)
        before = [_account(running.pid) for running in guests]
        begun = time.monotonic()
        time.sleep(WINDOW_S)
        after = [_account(running.pid) for running in guests]
        took_s = time.monotonic() - begun
        for running, (cpu_s, slept), (later_s, later) in zip(guests, before, after):
            kinds, _ = memory.split(running.pid, MEMORY_MIB << 20)
            figures.add(f"each of {count}: processor", "%", vmm.name,
                        (later_s - cpu_s) / took_s * 100)
            figures.add(f"each of {count}: threads woken", "1/s", vmm.name,
                        (later - slept) / took_s)
            figures.add(f"each of {count}: private dirty", "MiB", vmm.name,
                        sum(kinds.values()) / 1024)


def measure(bench, figures):
    runs = bench.runs or 2
    files = bench.guest_files("density")
    for run in range(runs):
        for vmm in bench.vmms():
            bench.progress(f"density, run {run + 1}, {vmm.name}")
            _measure_one(bench, figures, files, vmm, MACHINES if runs > 1 else 2)
    files.remove()
