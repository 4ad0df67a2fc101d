"""QEMU's machine protocol, as much as is asked of it here."""

import json
import socket
import time

import machine


class Qmp:
    def __init__(self, path, timeout_s=20):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._socket.connect(path)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise machine.Failed(f"QEMU does not answer on {path}: {error}") from error
                time.sleep(0.05)
        self._socket.settimeout(120)
        self._file = self._socket.makefile("rw", encoding="utf-8")
        self.events = []
        json.loads(self._file.readline())
        self.command("qmp_capabilities")

    def command(self, name, **arguments):
        self._file.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise machine.Failed(f"QEMU: {name}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def times_of(self, name):
        """Of the events called `name` since the last clearing, in microseconds."""
        return [one["timestamp"]["seconds"] * 1_000_000 + one["timestamp"]["microseconds"]
                for one in self.events if one["event"] == name]
