"""Under which conditions figures came about: host, KVM, programs, load."""

import json
import os
import subprocess


def _first_line(command):
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return result.stdout.splitlines()[0] if result.stdout else "unknown"


def _cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown"


def _kvm_kind(pacsvisor):
    result = subprocess.run([pacsvisor, "doctor", "--json"], capture_output=True, text=True,
                            timeout=30, check=False)
    try:
        return json.loads(result.stdout)["kvm"]["kind"]
    except (ValueError, KeyError):
        return "unknown"


def _file_system(path):
    return _first_line(["findmnt", "-n", "-o", "FSTYPE,SOURCE", "-T", path])


def gather(pacsvisor, work, peers):
    conditions = {
        "cpu": f"{os.cpu_count()} x {_cpu_model()}",
        "kernel": os.uname().release,
        "kvm": _kvm_kind(pacsvisor),
        "pacsvisor": _first_line([pacsvisor, "--version"]),
        "revision": _first_line(["git", "-C", os.path.dirname(os.path.abspath(__file__)),
                                 "describe", "--always", "--dirty"]),
        "images on": _file_system(work),
        "load before": load(),
    }
    for peer in peers:
        conditions[peer.name] = _first_line([peer.program, "--version"])
    return conditions


def load():
    """Load averages (1, 5, 15 minutes), and what other processes take: not ours to hide."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def stolen_ms():
    """What a host below this one has taken of all processors since boot, where it tells."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = file.readline().split()
    return int(fields[8]) * 1000 / os.sysconf("SC_CLK_TCK")


def show(conditions):
    width = max(len(name) for name in conditions)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in conditions.items())
