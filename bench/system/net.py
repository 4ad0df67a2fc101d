"""iperf3 between guest and host: over a TAP interface, and over the user-mode network.

All of it happens in a network namespace made for the run, which no traffic leaves.
"""

import contextlib
import json
import os
import subprocess
import time

import guest_files
import machine

GUEST, HOST, PORT = "192.0.2.2", "192.0.2.1", 5201
TAP = "bench0"

JOB = f"iperf3 -s -p {PORT} >/dev/null 2>&1 & sleep 0.2; echo bench ready"


def _ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def namespace():
    name = f"pacsvisor-bench-{os.getpid()}"
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "tuntap", "add", "dev", TAP, "mode", "tap")
        _ip("-n", name, "address", "add", f"{HOST}/24", "dev", TAP)
        _ip("-n", name, "link", "set", TAP, "up")
        yield name
    finally:
        _ip("netns", "delete", name)


def _iperf(space, address, seconds, reverse):
    command = ["ip", "netns", "exec", space, "iperf3", "-c", address, "-p", str(PORT), "-t",
               str(seconds), "-O", "1", "-J"] + (["-R"] if reverse else [])
    deadline = time.monotonic() + 20
    while True:
        result = subprocess.run(command, capture_output=True, text=True, check=False,
                                timeout=30 + 2 * seconds)
        report = json.loads(result.stdout or "{}")
        if "error" not in report and "sum_received" in report.get("end", {}):
            return report["end"]["sum_received"]["bits_per_second"] / 1e6
        # The guest's server listens a moment after it said so, at the earliest.
        if time.monotonic() > deadline:
            raise machine.Failed(f"iperf3: {report.get('error', result.stdout + result.stderr)}")
        time.sleep(0.1)


def _description(files, job, bench, backend, space):
    address = f" pacs.address={GUEST}/24" if backend == "tap" else ""
    net = (machine.Net("tap", interface=TAP) if backend == "tap"
           else machine.Net("user", forwards=(PORT,)))
    return machine.Machine(
        kernel=files.kernel, cmdline=guest_files.CMDLINE + address, cpus=bench.cpus,
        namespace=space, nets=[net],
        disks=[machine.Disk(files.copy("root.raw", "root.raw"), "root"),
               machine.Disk(job, "job", read_only=True)])


def measure(bench, figures):
    files = bench.guest_files("net")
    job = files.make_job(JOB)
    with namespace() as space:
        for run in range(bench.runs or 3):
            for backend in ("tap", "user"):
                if not bench.wanted(backend):
                    continue
                peers = bench.vmms()
                if backend == "tap" and bench.peers and os.path.exists("/dev/vhost-net"):
                    peers += [vmm.with_vhost() for vmm in peers if isinstance(vmm, machine.Qemu)]
                for vmm in peers:
                    bench.progress(f"net, {backend}, run {run + 1}, {vmm.name}")
                    _measure_one(files, job, bench, figures, backend, space, vmm)
    files.remove()


def _measure_one(files, job, bench, figures, backend, space, vmm):
    description = _description(files, job, bench, backend, space)
    address = GUEST if backend == "tap" else "127.0.0.1"
    with vmm.start(description, files.run_directory(vmm.name)) as running:
        running.expect("bench ready", 60)
        for reverse, direction in ((False, "to guest"), (True, "from guest")):
            rate = _iperf(space, address, bench.seconds, reverse)
            figures.add(f"{backend}, {direction}", "Mbit/s", vmm.name, rate, more_is_better=True)
