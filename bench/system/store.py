"""The store: how fast, how large, how deep; beside others' on the same data and the bare disk.

Question: how fast does a snapshot go into the store and come out, how much does the store grow for
it, what do verify and prune take, and does any of this depend on how many snapshots there are?

Method, "files": the first 256 MiB of the tools image (Debian with Orthanc), then three versions of
it, each with 2,048 blocks scattered and 8 MiB in one run replaced by parts of a kernel's file.
bench/programs/store_driver.cc captures each through the store's own interface (of the later ones
the blocks that differ, as a machine's tracking gives them); verify and prune are the program's
commands. In turns: pacsvisor's store, the same encrypted, restic (which always encrypts), and
qemu-img to qcow2 compressed with zstd, a whole file for each version. Each has its files pushed out
of the page cache before they are verified or read. Rates are MiB of the data's non-zero bytes a
second, verify's MiB of the store's files. Growth is of the files' sizes, over what zstd by itself
makes of each block that is new (level 1, 4 KiB by 4 KiB). The floors: dd of the store's largest
pack with fsync and, pushed out, to nowhere; the libraries' SHA-256 and zstd over the same blocks on
one core.

Method, "depth": a store of 64 MiB and children of 64 blocks; at depth 1, 10, 100 and 1,000 it is
opened anew, looked into at random blocks one at a time (all of 4 KiB, the first ones with the
tables still to be read), and read whole. In the page cache. Then the deepest one is verified and
pruned to ten.

Known errors: restic reads each version whole, since nothing tells it what changed; its pieces are
of 1 MiB or so, and its prune leaves 5 % unused by default. Its times, qemu-img's, verify's and
prune's are a process from start to end; capture and read are without the process's start. Nothing
syncs what is read out. The page cache keeps what it will: a "cold" read is the kernel's word.
"""

import json
import os
import random
import shutil
import subprocess
import time

import machine
import programs

MIB = 1 << 20
BLOCK = 4096
SIZE_MIB, TINY_MIB = 256, 16
VERSIONS = 4
SCATTERED, RUN_MIB = 2048, 8
DEPTHS, TINY_DEPTHS = "1,10,100,1000", "1,4"
LOOKUPS, TINY_LOOKUPS = 2000, 50


def _run(command, environment=None):
    """Seconds, and its standard output."""
    begun = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600,
                            env={**os.environ, **(environment or {})})
    took_s = time.monotonic() - begun
    if result.returncode != 0:
        raise machine.Failed(f"{' '.join(command)}: status {result.returncode}: {result.stderr}")
    return took_s, result.stdout


def _files(folder):
    return [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]


def _bytes_in(folder):
    return sum(os.path.getsize(path) for path in _files(folder))


def _push_out(*folders):
    """Of the page cache, as far as the kernel does what it is told."""
    for folder in folders:
        for path in _files(folder):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Ours:
    """pacsvisor's store."""

    def __init__(self, bench, folder, encrypted):
        self.name = "pacsvisor encrypted" if encrypted else "pacsvisor"
        self.folder = os.path.join(folder, "store")
        self._bench = bench
        self._key = []
        if encrypted:
            path = os.path.join(folder, "key")
            _run([bench.pacsvisor.program, "store", "new-key", path])
            self._key = ["--key", path]
        self._last = []  # id and file
        _run([bench.pacsvisor.program, "store", "create", self.folder, *self._key])

    def capture(self, path):
        told = self._ask("capture", self.folder, path, *self._last)
        self._last = [told["id"], path]
        return told["took_ns"] / 1e9, told

    def read(self, folder):
        told = self._ask("read", self.folder, self._last[0], os.path.join(folder, "back"))
        return told["took_ns"] / 1e9, os.path.join(folder, "back")

    def verify(self):
        took_s, said = _run([self._bench.pacsvisor.program, "verify", "--store", self.folder,
                             *self._key, "--json"])
        if json.loads(said)["damages"]:
            raise machine.Failed(f"the store is damaged: {said}")
        return took_s

    def prune(self, keep):
        return _run([self._bench.pacsvisor.program, "prune", "--store", self.folder, *self._key,
                     "--keep-last", str(keep), "--json"])[0]

    def _ask(self, *words):
        return programs.ask(self._bench, "bench_store", *self._key, *words)


class Restic:
    """Debian's restic, with its default compression."""

    name = "restic"

    def __init__(self, folder):
        self.folder = os.path.join(folder, "repository")
        self._source = os.path.join(folder, "source")
        self._restic("init")
        os.makedirs(self._source)

    def capture(self, path):
        os.replace(shutil.copy(path, self._source + "/new"), self._source + "/data")
        return self._restic("backup", self._source), None

    def read(self, folder):
        took_s = self._restic("restore", "latest", "--target", folder)
        return took_s, folder + self._source + "/data"

    def verify(self):
        return self._restic("check", "--read-data")

    def prune(self, keep):
        return self._restic("forget", "--keep-last", str(keep), "--prune")

    def _restic(self, *words):
        return _run(["restic", "--quiet", "--no-cache", "--repo", self.folder, *words],
                    {"RESTIC_PASSWORD": "bench"})[0]


class QemuImg:
    """A compressed qcow2 file for each version, flushed."""

    name = "qemu-img zstd"

    def __init__(self, folder):
        self.folder = os.path.join(folder, "images")
        os.makedirs(self.folder)
        self._last = ""

    def capture(self, path):
        self._last = os.path.join(self.folder, f"{len(os.listdir(self.folder))}.qcow2")
        return _run(["qemu-img", "convert", "-t", "writeback", "-f", "raw", "-O", "qcow2", "-c",
                     "-o", "compression_type=zstd", path, self._last])[0], None

    def read(self, folder):
        back = os.path.join(folder, "back")
        return _run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", self._last, back])[0], back


def _make_versions(files, size_mib):
    """The versions' paths, and how many of their bytes are not zero."""
    with open(files.copy("root.raw", "root.raw"), "rb") as file:
        data = bytearray(file.read(size_mib * MIB))
    with open(files.kernel, "rb") as file:
        other = file.read()
    chosen = random.Random(1)
    scattered = SCATTERED * size_mib // SIZE_MIB
    run_bytes = RUN_MIB * MIB * size_mib // SIZE_MIB
    paths = []
    for version in range(VERSIONS):
        if version:
            for place in chosen.sample(range(size_mib * MIB // BLOCK), scattered):
                start = chosen.randrange(len(other) - BLOCK)
                data[place * BLOCK:(place + 1) * BLOCK] = other[start:start + BLOCK]
            place = chosen.randrange((size_mib * MIB - run_bytes) // BLOCK) * BLOCK
            start = chosen.randrange(len(other) - run_bytes)
            data[place:place + run_bytes] = other[start:start + run_bytes]
        paths.append(files.path(f"version{version}.raw"))
        with open(paths[-1], "wb") as file:
            file.write(data)
    zero = bytes(BLOCK)
    full = sum(data[at:at + BLOCK] != zero for at in range(0, len(data), BLOCK))
    return paths, full * BLOCK


def _same(first, second):
    return subprocess.run(["cmp", "--silent", first, second], check=False).returncode == 0


def _measure_tool(figures, case, tool, files, versions, data_mib, denominators):
    """A tool's whole life. `denominators`: compressed new bytes of each version, told by ours."""
    for number, path in enumerate(versions):
        before = _bytes_in(tool.folder)
        took_s, told = tool.capture(path)
        if told is not None:
            denominators.setdefault(number, told)
        changed_mib = data_mib if number == 0 else denominators[number]["given_bytes"] / MIB
        what = "first capture" if number == 0 else "capture of what changed"
        figures.add(f"{case}: {what}", "MiB/s", tool.name, changed_mib / took_s,
                    more_is_better=True)
        figures.add(f"{case}: growth by {'the first' if number == 0 else 'what changed'}", "x",
                    tool.name, (_bytes_in(tool.folder) - before) /
                    denominators[number]["compressed_bytes"])
    back = files.run_directory("back")
    _push_out(tool.folder)
    took_s, path = tool.read(back)
    if not _same(path, versions[-1]):
        raise machine.Failed(f"{tool.name} gave other bytes back")
    figures.add(f"{case}: read back, cold", "MiB/s", tool.name, data_mib / took_s,
                more_is_better=True)
    shutil.rmtree(back)
    if not hasattr(tool, "verify"):
        figures.missing(f"{case}: verify, cold", "MiB/s", tool.name, "checks no contents")
        figures.missing(f"{case}: prune to one", "ms", tool.name, "a file a version: unlinked")
        return
    _push_out(tool.folder)
    size_mib = _bytes_in(tool.folder) / MIB
    figures.add(f"{case}: verify, cold", "MiB/s", tool.name, size_mib / tool.verify(),
                more_is_better=True)
    figures.add(f"{case}: prune to one", "ms", tool.name, tool.prune(1) * 1000)
    figures.add(f"{case}: left after prune", "MiB", tool.name, _bytes_in(tool.folder) / MIB)


def _floors(bench, figures, case, ours, first, data_mib):
    told = programs.ask(bench, "bench_store", "libraries", first)
    for library in ("sha256", "zstd"):
        figures.add(f"{case}: first capture", "MiB/s", f"floor: {library}, one core",
                    told["bytes"] / MIB / (told[f"{library}_ns"] / 1e9), more_is_better=True)
    pack = max(_files(ours.folder), key=os.path.getsize)
    share = os.path.getsize(pack) / _bytes_in(ours.folder)
    copy = os.path.join(os.path.dirname(ours.folder), "floor")
    took_s, _ = _run(["dd", f"if={pack}", f"of={copy}", "bs=1M", "conv=fsync"])
    figures.add(f"{case}: first capture", "MiB/s", "floor: dd, fsync",
                data_mib * share / took_s, more_is_better=True)
    os.unlink(copy)
    _push_out(ours.folder)
    took_s, _ = _run(["dd", f"if={pack}", "of=/dev/null", "bs=1M"])
    figures.add(f"{case}: verify, cold", "MiB/s", "floor: dd", os.path.getsize(pack) / MIB / took_s,
                more_is_better=True)


def _measure_files(bench, figures, runs):
    size_mib = TINY_MIB if runs < 2 else SIZE_MIB
    case = f"files, {size_mib} MiB"
    if not bench.wanted(f"store, {case}"):
        return
    files = bench.guest_files("store")
    versions, data_bytes = _make_versions(files, size_mib)
    data_mib = data_bytes / MIB
    figures.add(f"{case}: not zero", "MiB", "data", data_mib)
    denominators = {}
    makers = [lambda folder: Ours(bench, folder, False), lambda folder: Ours(bench, folder, True)]
    for name, peer in (("restic", Restic), ("qemu-img", QemuImg)):
        if not bench.peers:
            continue
        if shutil.which(name):
            makers.append(peer)
        else:
            figures.missing(f"{case}: first capture", "MiB/s", peer.name, f"{name} is not here")
    for run in range(runs):
        for number, make in enumerate(makers):
            tool = make(files.run_directory("tool"))
            bench.progress(f"store, {case}, run {run + 1}, {tool.name}")
            _measure_tool(figures, case, tool, files, versions, data_mib, denominators)
            if number == 0:
                again = make(files.run_directory("floor"))
                again.capture(versions[0])
                _floors(bench, figures, case, again, versions[0], data_mib)
    files.remove()


def _measure_depth(bench, figures, runs):
    if not bench.wanted("store, depth"):
        return
    files = bench.guest_files("store")
    depths, lookups = (TINY_DEPTHS, TINY_LOOKUPS) if runs < 2 else (DEPTHS, LOOKUPS)
    for run in range(max(1, runs // 2)):
        bench.progress(f"store, depth {depths}, run {run + 1}")
        folder = os.path.join(files.run_directory("depth"), "store")
        told = programs.ask(bench, "bench_store", "depth", folder, depths, lookups)
        for point in told["points"]:
            case = f"depth {point['depth']}"
            for what, key, unit, factor in (("commit", "commit_ns", "ms", 1e6),
                                            ("open", "open_ns", "ms", 1e6),
                                            ("look-up of a block", "lookup_ns", "us", 1e3),
                                            ("read whole", "read_ns", "ms", 1e6)):
                for value in point[key]:
                    figures.add(f"{case}: {what}", unit, "pacsvisor", value / factor)
            for value in point["growth"]:
                figures.add(f"{case}: growth by a snapshot", "x", "pacsvisor", value)
            figures.add(f"{case}: growth by all but the first", "x", "pacsvisor",
                        point["growth_of_all"])
        depth = told["points"][-1]["depth"]
        program = bench.pacsvisor.program
        took_s, _ = _run([program, "verify", "--store", folder, "--json"])
        figures.add(f"depth {depth}: verify", "ms", "pacsvisor", took_s * 1000)
        figures.add(f"depth {depth}: verify, rate", "MiB/s", "pacsvisor",
                    _bytes_in(folder) / MIB / took_s, more_is_better=True)
        keep = min(10, depth - 1)
        took_s, _ = _run([program, "prune", "--store", folder, "--keep-last", str(keep), "--json"])
        figures.add(f"depth {depth}: prune to {keep}", "ms", "pacsvisor", took_s * 1000)
    files.remove()


def measure(bench, figures):
    runs = bench.runs or 3
    _measure_files(bench, figures, runs)
    _measure_depth(bench, figures, runs)
