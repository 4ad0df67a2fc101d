"""From exec and main() to the first guest instruction, to init, to Orthanc answering."""

import http.client
import json
import os
import time

import guest_files
import machine

PORT = 8042
ANSWER_S = 120


def measure(bench, figures):
    files = bench.guest_files("start")
    for run in range(bench.runs or 5):
        for vmm in bench.vmms():
            bench.progress(f"start, freestanding guest, run {run + 1}, {vmm.name}")
            _freestanding(bench, files, vmm, figures)
    for run in range(bench.runs or 5):
        for vmm in bench.vmms():
            bench.progress(f"start, Linux with Orthanc, run {run + 1}, {vmm.name}")
            _orthanc(bench, files, vmm, figures)
    files.remove()


def _ms(since_ns, until_ns):
    return (until_ns - since_ns) / 1e6


def _freestanding(bench, files, vmm, figures):
    """The measuring guest: its first byte on the serial port is soon after its first instruction."""
    description = machine.Machine(kernel=os.path.join(bench.build, "guests/dirtier/dirtier.elf"),
                                  memory_mib=128)
    with vmm.start(description, files.run_directory(vmm.name)) as running:
        figures.add("exec to the first byte of a freestanding guest", "ms", vmm.name,
                    _ms(running.spawned_ns, running.first_output_ns(30)))


def _orthanc(bench, files, vmm, figures):
    description = machine.Machine(
        kernel=files.kernel, cmdline=guest_files.CMDLINE, cpus=bench.cpus, memory_mib=1024,
        nets=[machine.Net("user", forwards=(PORT,))],
        disks=[machine.Disk(files.copy("root.raw", "root.raw"), "root"),
               machine.Disk(files.copy("data.raw", "data.raw"), "data")])
    with vmm.start(description, files.run_directory(vmm.name)) as running:
        _, init_ns = running.expect("pacs: Linux", ANSWER_S)
        answer_ns = wait_for_orthanc(running)
        if isinstance(vmm, machine.Pacsvisor):
            _add_instants(vmm, running, figures)
        figures.add("exec to init", "ms", vmm.name, _ms(running.spawned_ns, init_ns))
        figures.add("exec to Orthanc answering", "ms", vmm.name,
                    _ms(running.spawned_ns, answer_ns))


def _add_instants(vmm, running, figures):
    """What only pacsvisor tells, by the same clock as ours."""
    [told] = [one for one in json.loads(vmm.ps()) if one["pid"] == running.pid]
    main_ns, entry_ns = told["process_start_ns"], told["first_entry_ns"]
    figures.add("exec to main(): linking", "ms", vmm.name, _ms(running.spawned_ns, main_ns))
    figures.add("main() to the first instruction of Linux", "ms", vmm.name,
                _ms(main_ns, entry_ns))


def wait_for_orthanc(running):
    """A forwarded port takes connections before the guest does: only an answer counts."""
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline and running.alive():
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=2)
        try:
            connection.request("GET", "/")
            connection.getresponse()  # of any status: Orthanc asks for a password
            return time.monotonic_ns()
        except (OSError, http.client.HTTPException):
            time.sleep(0.01)
        finally:
            connection.close()
    raise machine.Failed(f"Orthanc did not answer in {ANSWER_S} s")
