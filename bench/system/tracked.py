"""What a guest loses while its writes are tracked, and while it is snapshotted again and again.

Question: how much less does a guest get done? Method: guests/dirtier of 1 GiB with one processor
writes whole pages as fast as it can among 64 MiB, nine of ten writes to a tenth of them, all of
them written before. Counted are its writes in a while of its own clock, its standing still
included: 5 seconds, with snapshots a whole number of intervals, the first at half of one. In turns:
no store at all ("pacsvisor", "qemu": the plain ones); tracked since a snapshot directly before, and
no other; a snapshot every 1, 10 and 60 s; QEMU with background-snapshot and savevm every 10 s.
"Less done" is against the plain run of the same VMM and the same turn, in percent: below zero is
noise, or luck.

Known errors: a guest that writes pages and does nothing else is the worst case: each page's first
write behind a snapshot is a fault, and nothing else hides it. In "tracked" all 64 MiB are written
for the first time since the snapshot within the 5 s, which a guest that is tracked for long does
once. On a KVM that shadows page tables a tracked guest's tables are of small pages besides. The
store's work (compressing, writing) runs on the other processor, as far as there is one. Rounds in
which 60 s are measured are two at most, QEMU's snapshots likewise.
"""

import re

import dirty
import machine
import ways

MEMORY_MIB = 1024
PAGES = (64 << 20) // dirty.PAGE
PLAIN_S = 5
INTERVALS = (1, 10, 60)
LONG_S = 60  # from here on, in two rounds alone
THEIRS = ("background-snapshot", "savevm")
THEIR_INTERVAL_S = 10


def _window_s(way):
    return max(PLAIN_S, way.interval_s * (1 if way.interval_s >= LONG_S else 2))


def _writes_a_second(bench, figures, files, way, window_s):
    directory = files.run_directory("guest")
    with ways.start(way, dirty.describe(bench, MEMORY_MIB), directory, figures,
                    typed=True) as started:
        guest = dirty.Guest(started.running)
        guest.write(PAGES, 1)
        started.first_snapshot()
        with started.snapshots():
            started.running.type(f"dirty pages={PAGES} pattern=hot seconds={window_s:g} seed=2")
            said, _ = started.running.expect("event done", 60 + 2 * window_s)
    done = re.search(r"writes=(\d+) ms=(\d+) end=time", said)
    if not done:
        raise machine.Failed(f"the guest's run ended otherwise: {said}")
    return int(done[1]) / (int(done[2]) / 1000)


def measure(bench, figures):
    runs = bench.runs or 3
    intervals = INTERVALS if runs > 1 else INTERVALS[:1]
    files = bench.guest_files("tracked")
    for run in range(runs):
        plain = {}
        for way in ways.all_ways(bench, intervals, THEIRS if runs > 1 else (), THEIR_INTERVAL_S):
            if not bench.wanted(f"tracked, {way.name}"):
                continue
            if run > 1 and (way.interval_s >= LONG_S or way.theirs):
                continue
            window_s = 2 if runs < 2 else _window_s(way)
            bench.progress(f"tracked, {way.name}, run {run + 1}")
            try:
                rate = _writes_a_second(bench, figures, files, way, window_s)
            except machine.Failed as reason:
                if not way.theirs:
                    raise
                figures.missing("writes", "1/s", way.name, str(reason).splitlines()[0])
                continue
            figures.add("writes", "1/s", way.name, rate, more_is_better=True)
            if way.name == way.family:
                plain[way.family] = rate
            elif way.family in plain:
                figures.add("less done", "%", way.name, (1 - rate / plain[way.family]) * 100)
    files.remove()
