"""What a PACS' clients see of its snapshots.

Question: how long do a C-STORE and an HTTP request take while the PACS is snapshotted, and how much
less of them are done? Method: the native Linux with Orthanc (tools image, 1 GiB, one processor),
fresh disks and an empty index for each run. dcmtk's storescu sends a CT image of 132 KB again and
again over one association, each as an instance of its own, as fast as it is confirmed; a C-STORE's
time is from its request to its response by storescu's own log. Beside it a client fetches an
image's file over HTTP 20 times a second, over one connection; its time counts from when the request
was due, so that what waits behind a slow one counts too. Counted are 12 seconds (20 with a snapshot
every 10 s, 60 with one every 60 s, which runs only when it is asked for: --only "every 60 s"),
after 3 seconds of the same load that are not. In turns: no store ("pacsvisor", "qemu": the plain
ones); tracked since a first snapshot before the window; a snapshot every 1 and 10 s; QEMU with stop
+ migrate and background-snapshot every 10 s. "Less done" is C-STOREs against the plain run of the
same VMM and turn.

Known errors: guest, VMM, store, storescu and the HTTP client share the host's processors: on two of
them, what the store takes to compress is taken from the clients. storescu waits for each response,
so that a pause delays one C-STORE and those behind it are not sent. QEMU's snapshots are of memory
and devices alone, not synced; savevm is none of them, since the disks are raw. All goes through
libslirp.
"""

import base64
import http.client
import json
import os
import re
import subprocess
import threading
import time

import guest_files
import machine
import start
import ways

DICOM_PORT = 4242
MEMORY_MIB = 1024
WARM_UP_S = 3
WINDOW_S = 12
REQUESTS_A_SECOND = 20
INTERVALS = (1, 10, 60)
ASKED_FOR_S = 60  # from here on only when named
THEIRS = ("stop + migrate", "background-snapshot")
THEIR_INTERVAL_S = 10
AUTHORIZATION = {"Authorization": "Basic " + base64.b64encode(b"pacs:pacs").decode()}
LOG_CONFIG = """log4cplus.rootLogger = INFO, console
log4cplus.appender.console = log4cplus::ConsoleAppender
log4cplus.appender.console.ImmediateFlush = true
log4cplus.appender.console.layout = log4cplus::PatternLayout
log4cplus.appender.console.layout.ConversionPattern = %D{%s %Q} %m%n
"""
_LINE = re.compile(r"(\d+) (\d+\.\d+) (Sending Store Request|Received Store Response \((.*)\))")


class Sender:
    """storescu at work, until it is ended."""

    def __init__(self, image, directory):
        # Without TCP_NODELAY its last small segment waits, of a third of the images, for an
        # acknowledgement that this host's kernel holds back for 40 ms.
        self._log = os.path.join(directory, "storescu.log")
        config = os.path.join(directory, "log.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write(LOG_CONFIG)
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                ["storescu", "--log-config", config, "-to", "20", "-td", "60", "-aec", "ORTHANC",
                 "+IR", "50", "+IS", "1", "--repeat", "1000000", "127.0.0.1", str(DICOM_PORT),
                 image], stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, "TCP_NODELAY": "1"})

    def end(self):
        """Of each confirmed C-STORE: when its response came (s since 1970), its time in ms."""
        if self._process.poll() is not None:
            with open(self._log, encoding="utf-8", errors="replace") as file:
                raise machine.Failed(f"storescu ended by itself: {file.read()[-500:]}")
        self._process.terminate()
        self._process.wait()
        return list(self._stores())

    def stop(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _stores(self):
        requested = None
        with open(self._log, encoding="utf-8", errors="replace") as file:
            for line in file:
                found = _LINE.match(line)
                if not found:
                    continue
                at = int(found[1]) + float(found[2]) / 1000
                if found[3].startswith("Sending"):
                    requested = at
                    continue
                if found[4] != "Success":
                    raise machine.Failed(f"a C-STORE was answered by {found[4]}")
                yield at, (at - requested) * 1000


class Browser:
    """Fetches one instance's file at a steady rate, on a thread."""

    def __init__(self):
        self._path = ""
        self._stop = threading.Event()
        self._failure = None
        self._times = []
        self._thread = threading.Thread(target=self._loop)

    def start(self):
        answer = json.loads(self._get(self._connect(), "/instances?limit=1&since=0"))
        self._path = f"/instances/{answer[0]}/file"
        self._thread.start()

    def end(self):
        """Of each request: when it was due (s since 1970), until its last byte was here, in ms."""
        self.stop()
        if self._failure is not None:
            raise machine.Failed(f"HTTP: {self._failure}")
        return self._times

    def stop(self):
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    @staticmethod
    def _connect():
        return http.client.HTTPConnection("127.0.0.1", start.PORT, timeout=60)

    @staticmethod
    def _get(connection, path):
        connection.request("GET", path, headers=AUTHORIZATION)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise machine.Failed(f"GET {path}: {answer.status}")
        return body

    def _loop(self):
        connection = self._connect()
        due = time.time()
        while not self._stop.wait(max(0.0, due - time.time())):
            try:
                self._get(connection, self._path)
            except (OSError, http.client.HTTPException, machine.Failed) as failure:
                self._failure = failure
                return
            self._times.append((due, (time.time() - due) * 1000))
            due += 1 / REQUESTS_A_SECOND


def _wait_for_dicom(running):
    """Orthanc listens for DICOM a moment after HTTP."""
    deadline = time.monotonic() + start.ANSWER_S
    while subprocess.run(["echoscu", "-to", "5", "-td", "5", "-aec", "ORTHANC", "127.0.0.1",
                          str(DICOM_PORT)], capture_output=True, check=False).returncode != 0:
        if time.monotonic() > deadline or not running.alive():
            raise machine.Failed("Orthanc does not answer over DICOM")
        time.sleep(0.05)


def _describe(bench, files):
    return machine.Machine(
        kernel=files.kernel, cmdline=guest_files.CMDLINE, cpus=bench.cpus, memory_mib=MEMORY_MIB,
        nets=[machine.Net("user", forwards=(start.PORT, DICOM_PORT))],
        disks=[machine.Disk(files.copy("root.raw", "root.raw"), "root"),
               machine.Disk(files.copy("data.raw", "data.raw"), "data")])


def _load(bench, started, directory, window_s):
    """C-STOREs and requests of the window: lists of milliseconds."""
    sender = Sender(os.path.join(bench.study, "slice-1.dcm"), directory)
    browser = Browser()
    try:
        time.sleep(WARM_UP_S / 2)
        browser.start()
        time.sleep(WARM_UP_S / 2)
        begun = time.time()
        with started.snapshots():
            time.sleep(window_s)
        ended = time.time()
        fetched = browser.end()
        stored = sender.end()
    finally:
        browser.stop()
        sender.stop()
    return ([ms for at, ms in stored if begun <= at < ended],
            [ms for at, ms in fetched if begun <= at < ended])


def _measure_one(bench, figures, files, way, window_s):
    """C-STOREs a second."""
    directory = files.run_directory("machine")
    with ways.start(way, _describe(bench, files), directory, figures) as started:
        start.wait_for_orthanc(started.running)
        _wait_for_dicom(started.running)
        started.first_snapshot()
        stored, fetched = _load(bench, started, directory, window_s)
    if not stored or not fetched:
        raise machine.Failed(f"{len(stored)} C-STOREs and {len(fetched)} requests in {window_s} s")
    for value in stored:
        figures.add("C-STORE", "ms", way.name, value)
    for value in fetched:
        figures.add("HTTP, an image's file", "ms", way.name, value)
    rate = len(stored) / window_s
    figures.add("C-STOREs", "1/s", way.name, rate, more_is_better=True)
    return rate


def _window_s(way, tiny):
    if tiny:
        return 3
    return WINDOW_S if way.interval_s < 10 else max(20, way.interval_s)


def measure(bench, figures):
    runs = bench.runs or 2
    intervals = INTERVALS if runs > 1 else INTERVALS[:1]
    files = bench.guest_files("pacs")
    for run in range(runs):
        plain = {}
        for way in ways.all_ways(bench, intervals, THEIRS if runs > 1 else (), THEIR_INTERVAL_S):
            case = f"pacs, {way.name}"
            if not bench.wanted(case) or (way.interval_s >= ASKED_FOR_S and not bench.named(case)):
                continue
            bench.progress(f"{case}, run {run + 1}")
            try:
                rate = _measure_one(bench, figures, files, way, _window_s(way, runs < 2))
            except machine.Failed as reason:
                if not way.theirs:
                    raise
                figures.missing("C-STORE", "ms", way.name, str(reason).splitlines()[0])
                continue
            if way.name == way.family:
                plain[way.family] = rate
            elif way.family in plain:
                figures.add("less done", "%", way.name, (1 - rate / plain[way.family]) * 100)
    files.remove()
