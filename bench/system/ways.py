"""How a machine runs while something else is measured: untouched, tracked, snapshotted somehow."""

import contextlib
import dataclasses
import os
import subprocess

import dirty
import machine
import periodic
import qmp


@dataclasses.dataclass(frozen=True)
class Way:
    """interval_s: between snapshots; 0: none. tracked: one snapshot, the first, before."""
    vmm: object
    tracked: bool = False
    interval_s: float = 0
    theirs: str = ""  # of dirty.Theirs.WAYS

    @property
    def family(self):
        """Whose own plain run this is held against."""
        return self.vmm.name

    @property
    def name(self):
        if self.interval_s:
            how = f" {self.theirs}" if self.theirs else ""
            return f"{self.vmm.name}{how}, every {self.interval_s:g} s"
        return f"{self.vmm.name}, tracked" if self.tracked else self.vmm.name


def all_ways(bench, intervals, theirs, their_interval_s):
    """The plain ones first in each family."""
    ways = []
    for vmm in bench.vmms():
        ways.append(Way(vmm))
        if isinstance(vmm, machine.Pacsvisor):
            ways.append(Way(vmm, tracked=True))
            ways += [Way(vmm, tracked=True, interval_s=interval) for interval in intervals]
        else:
            ways += [Way(vmm, interval_s=their_interval_s, theirs=one) for one in theirs]
    return ways


class Started:
    """A running machine, and who takes its snapshots (None: nobody)."""

    def __init__(self, running, taker, interval_s):
        self.running = running
        self._taker = taker
        self._interval_s = interval_s

    def first_snapshot(self):
        """Where the way has any: from then on a machine of ours is tracked."""
        if self._taker is not None and isinstance(self._taker, dirty.Ours):
            self._taker.take(keep=False)

    def snapshots(self):
        """While the context lasts."""
        if not self._interval_s:
            return contextlib.nullcontext()
        return periodic.Periodic(self._taker.take, self._interval_s)


@contextlib.contextmanager
def start(way, description, directory, figures, typed=False):
    """Raises machine.Failed("no …") where a peer cannot do it."""
    case = f"every {way.interval_s:g} s"
    if isinstance(way.vmm, machine.Pacsvisor):
        store = os.path.join(directory, "store") if way.tracked else ""
        with way.vmm.start(description, directory, store=store, typed=typed) as running:
            taker = dirty.Ours(way.vmm, case, figures) if way.tracked else None
            yield Started(running, taker, way.interval_s)
        return
    socket = os.path.join(directory, "qmp")
    qcow2 = ""
    if way.theirs == "savevm":
        qcow2 = os.path.join(directory, "savevm.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", qcow2, "64M"], check=True)
    with way.vmm.start(description, directory, qmp=socket, savevm=qcow2, typed=typed) as running:
        taker = None
        if way.theirs:
            peer = qmp.Qmp(socket)
            peer.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            taker = dirty.Theirs(way.vmm, peer, way.theirs, directory, case, figures)
        yield Started(running, taker, way.interval_s)
