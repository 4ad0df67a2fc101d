"""Snapshots under a real kvm-amd with nested paging, inside QEMU's emulation of an AMD machine.

Question: the same as of "dirty", in small, on the KVM that users have and build machines lack.
Method: guests/nested boots Debian's kernel on the emulated machine, pacsvisor runs the measuring
guest there; before each snapshot 256 pages are written, then the guest only looks at its clock.
Pause and its make-up are the records', the stall the guest's own (its command gap), "without a
snapshot" the same over as much time.

Known errors: everything is emulated, so that times are 10 to 50 times those of hardware and say
nothing about it but which part is large beside which. The machine's disk is in the emulation's
memory; its one processor is shared by guest, VMM and store. No QEMU in there to hold against.
"""

import os
import shutil
import subprocess

import machine

MEMORY_MIB = (128, 384)
PAGES = 256
KERNEL = "6.12"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def measure(bench, figures):
    runs = bench.runs or 10
    sizes = [size for size in (MEMORY_MIB if runs > 2 else MEMORY_MIB[:1])
             if bench.wanted(f"nested, {size} MiB")]
    if not sizes:
        return
    bench.progress(f"nested, {sizes} MiB")
    files = bench.guest_files("nested")
    out = files.run_directory("out")
    command = ["bash", os.path.join(ROOT, "guests/nested/run.sh"), "--quiet", "--kernel", KERNEL,
               "--job", os.path.join(ROOT, "bench/nested_job.sh"), "--out", out,
               "--add", bench.pacsvisor.program,
               "--add", os.path.join(bench.build, "guests/dirtier/dirtier.elf"),
               "--add", shutil.which("script"),
               "--set", f"BENCH_MEMORY={' '.join(str(size) for size in sizes)}",
               "--set", f"BENCH_RUNS={runs}", "--set", f"BENCH_PAGES={PAGES}", "--timeout", "400"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=450)
    if result.returncode != 0:
        raise machine.Failed(f"the nested machine: {result.stderr[-2000:]}")
    with open(os.path.join(out, "figures"), encoding="utf-8") as file:
        for line in file:
            case, what, unit, value = line.rstrip("\n").split("\t")
            figures.add(f"{case}: {what}", unit, "pacsvisor", float(value))
    files.remove()
