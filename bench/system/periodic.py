"""Something done again and again beside a measurement, on a thread."""

import threading
import time


class Periodic:
    """`work` at half an interval from the beginning, and an interval after each; what is late is
    left out. Its failure is raised at the end."""

    def __init__(self, work, interval_s):
        self._work = work
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._loop)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, kind, *unused):
        self._stop.set()
        self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def _loop(self):
        due = time.monotonic() + self._interval_s / 2
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            try:
                self._work()
            except Exception as failure:  # whatever it is, it is raised where it is waited for
                self._failure = failure
                return
            while due <= time.monotonic():
                due += self._interval_s
