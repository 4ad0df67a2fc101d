"""What a VMM's process takes beside its guest's memory, once the guest is idle."""

import re
import time

import guest_files
import machine

MEMORY_MIB = 512
IDLE_S = 5
_HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \d+ *(.*)$")
_FIELD = re.compile(r"^(\w+): +(\d+) kB$")


def mappings(pid):
    """The process's mappings: size, name, and the figures of /proc/PID/smaps in KiB."""
    result = []
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        for line in file:
            head = _HEAD.match(line)
            if head:
                start, end = int(head[1], 16), int(head[2], 16)
                result.append({"size_bytes": end - start, "name": head[4], "rights": head[3]})
            elif field := _FIELD.match(line):
                result[-1][field[1]] = int(field[2])
    return result


def kind_of(mapping):
    name = mapping["name"]
    if name == "[heap]":
        return "heap"
    if name.startswith("[stack"):
        return "stacks and thread heaps"
    if name.startswith("/") and not name.startswith(("/dev", "/memfd")):
        return "program's and libraries' data"
    if name.startswith(("anon_inode", "/dev", "/memfd", "[")):
        return "kernel's rings and the like"
    return "stacks and thread heaps"


def split(pid, guest_bytes):
    """KiB by kind of what is private and dirty, and the clean text; guest memory left out."""
    found = mappings(pid)
    guest = [one for one in found if one["size_bytes"] >= guest_bytes // 2 and
             not one["name"].startswith("/usr")]
    if sum(one["size_bytes"] for one in guest if "Rss" in one) < guest_bytes:
        raise machine.Failed("guest memory is not to be found among the mappings")
    kinds = {}
    clean = 0
    for one in found:
        if one in guest:
            continue
        kinds[kind_of(one)] = kinds.get(kind_of(one), 0) + one["Private_Dirty"]
        clean += one["Private_Clean"] + one["Shared_Clean"]
    return kinds, clean


def measure(bench, figures):
    files = bench.guest_files("memory")
    for run in range(bench.runs or 3):
        for vmm in bench.vmms():
            bench.progress(f"memory, run {run + 1}, {vmm.name}")
            description = machine.Machine(
                kernel=files.kernel, cmdline=guest_files.CMDLINE, cpus=bench.cpus,
                memory_mib=MEMORY_MIB, nets=[machine.Net("user", forwards=(18042,))],
                disks=[machine.Disk(files.copy("root.raw", "root.raw"), "root"),
                       machine.Disk(files.copy("data.raw", "data.raw"), "data")])
            with vmm.start(description, files.run_directory(vmm.name)) as running:
                running.expect("pacs: Linux", 60)
                time.sleep(IDLE_S)
                kinds, clean = split(running.pid, MEMORY_MIB << 20)
                figures.add("private dirty", "MiB", vmm.name, sum(kinds.values()) / 1024)
                for kind, kib in sorted(kinds.items()):
                    figures.add(f"  {kind}", "MiB", vmm.name, kib / 1024)
                figures.add("clean (text, shared with others)", "MiB", vmm.name, clean / 1024)
    files.remove()
