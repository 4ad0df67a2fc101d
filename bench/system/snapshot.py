"""Snapshots of a guest that writes: how long it stands still, and until the snapshot is durable.

Question: what does a user's guest pay for one more snapshot? Method: the native Linux with a load of
fio (4 KiB random writes in a file system, 4 MiB/s) and a shell that dirties memory; snapshots in
turn, one every half second, raw samples kept. pacsvisor's are incremental, into a store on the same
file system; its figures are those of each snapshot's record. QEMU's are its two ways to a file that
need no change of the guest: stop + migrate, and migrate with background-snapshot (where the kernel
lets it); its pauses are the times between its events STOP and RESUME.

Known errors: QEMU's files hold memory and devices only, not the disks, and are neither deduplicated
nor synced: that is in its favour. The guest's own view of the gap is not measured here. Each VMM has
a guest of its own, one after the other, not at the same time.
"""

import json
import os
import subprocess
import time

import guest_files
import machine
import qmp

LOAD = """
(while :; do head -c 4M /dev/urandom >/dev/shm/dirt; sleep 0.2; done) &
echo pacs-job begins
fio --name=load --directory=/root --size=32M --rw=randwrite --bs=4k --ioengine=psync --rate=4m \
  --time_based --runtime=3600 >/dev/null 2>&1
"""
PAUSE_S = 0.5
PARTS = ("kick", "state", "harvest", "copy", "flip", "resume")


def describe(bench, files, memory_mib):
    return machine.Machine(
        kernel=files.kernel, cmdline=guest_files.CMDLINE, cpus=bench.cpus, memory_mib=memory_mib,
        disks=[machine.Disk(files.copy("root.raw", "root.raw"), "root"),
               machine.Disk(files.make_job(LOAD), "job", read_only=True)])


def measure_pacsvisor(bench, figures, vmm, files, memory_mib):
    case = f"{memory_mib} MiB"
    directory = files.run_directory(vmm.name)
    with vmm.start(describe(bench, files, memory_mib), directory,
                   store=os.path.join(directory, "store")) as running:
        running.expect("pacs-job begins", 60)
        for number in range(bench.runs + 1):
            time.sleep(PAUSE_S)
            result = subprocess.run([vmm.program, "snapshot", "bench", "--json"], text=True,
                                    capture_output=True, check=False, timeout=300,
                                    env={**os.environ, **vmm.environment})
            if result.returncode != 0:
                raise machine.Failed(f"pacsvisor snapshot: {result.stderr}")
            taken = json.loads(result.stdout)["result"]["figures"]
            kind = "first" if number == 0 else "incremental"
            figures.add(f"{case}, {kind}: pause", "ms", vmm.name, taken["pause_ns"] / 1e6)
            figures.add(f"{case}, {kind}: durable", "ms", vmm.name, taken["durable_ns"] / 1e6)
            if number > 0:
                figures.add(f"{case}, incremental: dirty", "MiB", vmm.name,
                            taken["dirty_bytes"] / 2**20)
                for part in PARTS:
                    figures.add(f"{case}, of the pause: {part}", "ms", vmm.name,
                                taken[f"pause_{part}_ns"] / 1e6)


def migrate(peer, path, background):
    """One file; the pause in ms, and how long the whole took."""
    peer.events.clear()
    begun = time.monotonic()
    if not background:
        peer.command("stop")
    peer.command("migrate", uri=f"exec:cat >{path}")
    while True:
        status = peer.command("query-migrate").get("status")
        if status in ("failed", "cancelled"):
            raise machine.Failed(f"QEMU: the migration to a file {status}")
        if status == "completed":
            break
        time.sleep(0.01)
    took = time.monotonic() - begun
    if not background or peer.command("query-status")["status"] != "running":
        peer.command("cont")
    peer.command("query-status")  # its events are here by then
    stops, resumes = peer.times_of("STOP"), peer.times_of("RESUME")
    if not stops or not resumes:
        raise machine.Failed("QEMU: no STOP or no RESUME was seen")
    os.unlink(path)
    return (resumes[-1] - stops[0]) / 1000, took * 1000


def savevm(peer):
    """Into the one qcow2 file; the pause in ms, and how long the whole took."""
    peer.events.clear()
    begun = time.monotonic()
    said = peer.command("human-monitor-command", **{"command-line": "savevm bench"})
    took = time.monotonic() - begun
    if said:
        raise machine.Failed(f"QEMU: savevm: {said}")
    peer.command("query-status")  # its events are here by then
    stops, resumes = peer.times_of("STOP"), peer.times_of("RESUME")
    if not stops or not resumes:
        raise machine.Failed("QEMU: no STOP or no RESUME was seen")
    return (resumes[-1] - stops[0]) / 1000, took * 1000


def measure_qemu(bench, figures, vmm, files, memory_mib):
    case = f"{memory_mib} MiB"
    directory = files.run_directory(vmm.name)
    socket = os.path.join(directory, "qmp")
    with vmm.start(describe(bench, files, memory_mib), directory, qmp=socket) as running:
        running.expect("pacs-job begins", 60)
        peer = qmp.Qmp(socket)
        peer.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        for background in (False, True):
            name = f"{vmm.name} background-snapshot" if background else f"{vmm.name} stop + migrate"
            if background:
                try:
                    peer.command("migrate-set-capabilities", capabilities=[
                        {"capability": "background-snapshot", "state": True}])
                except machine.Failed as reason:
                    bench.progress(f"no background-snapshot: {reason}")
                    return
            for _ in range(max(1, bench.runs // 4)):
                time.sleep(PAUSE_S)
                pause_ms, took_ms = migrate(peer, os.path.join(directory, "file"), background)
                figures.add(f"{case}, incremental: pause", "ms", name, pause_ms)
                figures.add(f"{case}, incremental: durable", "ms", name, took_ms)


def measure(bench, figures):
    bench.runs = bench.runs or 20
    for memory_mib in (512, 2048):
        if not bench.wanted(f"{memory_mib}"):
            continue
        files = bench.guest_files("snapshot")
        for vmm in bench.vmms():
            bench.progress(f"snapshot, {memory_mib} MiB, {vmm.name}")
            if isinstance(vmm, machine.Pacsvisor):
                measure_pacsvisor(bench, figures, vmm, files, memory_mib)
            else:
                measure_qemu(bench, figures, vmm, files, memory_mib)
        files.remove()
