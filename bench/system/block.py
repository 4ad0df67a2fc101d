"""fio in the guest on one virtio disk: the same raw file, taking turns."""

import dataclasses

import guest_files
import machine

SCRATCH_MIB = 512


@dataclasses.dataclass
class Load:
    name: str
    fio: str
    unit: str = "IOPS"


LOADS = [
    Load("randread 4k QD1", "--rw=randread --bs=4k --iodepth=1"),
    Load("randread 4k QD32", "--rw=randread --bs=4k --iodepth=32"),
    Load("randwrite 4k QD1", "--rw=randwrite --bs=4k --iodepth=1"),
    Load("randwrite 4k QD32", "--rw=randwrite --bs=4k --iodepth=32"),
    Load("read 128k QD4", "--rw=read --bs=128k --iodepth=4", "MB/s"),
    Load("read 1M QD4", "--rw=read --bs=1M --iodepth=4", "MB/s"),
    Load("write 128k QD4", "--rw=write --bs=128k --iodepth=4", "MB/s"),
    Load("write 1M QD4", "--rw=write --bs=1M --iodepth=4", "MB/s"),
    Load("randwrite 4k fsync", "--rw=randwrite --bs=4k --iodepth=1 --fsync=1"),
]
# Fields of fio's terse output, version 3: reads from 5 on, writes from 46 on.
_READ, _WRITE = 5, 46
_BANDWIDTH_KIB_S, _IOPS = 1, 2


def _script(loads, seconds):
    lines = []
    for index, load in enumerate(loads):
        lines.append(
            f"fio --name=load --filename=/dev/vdc --direct=1 --ioengine=libaio {load.fio} "
            f"--size={SCRATCH_MIB}M --time_based --ramp_time=1 --runtime={seconds} --randrepeat=1 "
            f"--output-format=terse --terse-version=3 >/tmp/fio 2>/tmp/fio-errors "
            f'&& echo "bench {index} $(cat /tmp/fio)" || {{ echo bench failed; cat /tmp/fio*; }}')
    return "\n".join(lines + ["sync", "busybox poweroff -f"])


def _figure(load, terse):
    fields = terse.split(";")
    start = _WRITE if "write" in load.name else _READ
    if load.unit == "IOPS":
        return float(fields[start + _IOPS])
    return float(fields[start + _BANDWIDTH_KIB_S]) * 1024 / 1e6


def measure(bench, figures):
    loads = [load for load in LOADS if bench.wanted(load.name)]
    files = bench.guest_files("block")
    scratch = files.make_scratch(SCRATCH_MIB)
    job = files.make_job(_script(loads, bench.seconds))
    for run in range(bench.runs or 3):
        for cache in ("direct", "cached"):
            for vmm in bench.vmms():
                bench.progress(f"block, {cache}, run {run + 1}, {vmm.name}")
                description = machine.Machine(
                    kernel=files.kernel, cmdline=guest_files.CMDLINE, cpus=bench.cpus,
                    disks=[machine.Disk(files.copy("root.raw", "root.raw"), "root"),
                           machine.Disk(job, "job", read_only=True),
                           machine.Disk(scratch, "scratch", direct=cache == "direct")])
                with vmm.start(description, files.run_directory(vmm.name)) as running:
                    for index, load in enumerate(loads):
                        line, _ = running.expect("bench ", 60 + 2 * bench.seconds)
                        mark = f"bench {index} "
                        if mark not in line:
                            raise machine.Failed(f"fio in the guest: {line}")
                        figures.add(f"{load.name}, {cache}", load.unit, vmm.name,
                                    _figure(load, line.split(mark, 1)[1]), more_is_better=True)
                    running.wait(60)
    files.remove()
