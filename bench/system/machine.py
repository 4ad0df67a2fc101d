"""A guest described once, and started by pacsvisor or by QEMU."""

import dataclasses
import fcntl
import glob
import os
import pty
import select
import signal
import subprocess
import termios
import time


@dataclasses.dataclass
class Disk:
    path: str
    serial: str
    read_only: bool = False
    direct: bool = False  # past the host's page cache


@dataclasses.dataclass
class Net:
    backend: str  # "user" or "tap"
    interface: str = ""
    forwards: tuple = ()  # ports of 127.0.0.1, the same in the guest
    vhost: bool = False  # QEMU only


@dataclasses.dataclass
class Machine:
    kernel: str
    cmdline: str = ""
    memory_mib: int = 512
    cpus: int = 1
    disks: list = dataclasses.field(default_factory=list)
    nets: list = dataclasses.field(default_factory=list)
    namespace: str = ""  # network namespace to run in


class Failed(Exception):
    """What went wrong, with the guest's console."""


def _own_terminal():
    """In the child: its standard input becomes its session's terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Running:
    """A VMM at work: its process, and its guest's serial console line by line."""

    def __init__(self, command, directory, environment=None, typed=False):
        """typed: standard input is a terminal of the VMM's own, for type()."""
        self._error_path = os.path.join(directory, "stderr")
        self._console = b""
        self._lines = []
        self._ended = False
        self._keys, terminal = pty.openpty() if typed else (-1, subprocess.DEVNULL)
        with open(self._error_path, "wb") as errors:
            self.spawned_ns = time.monotonic_ns()
            self._process = subprocess.Popen(
                command, stdin=terminal, stdout=subprocess.PIPE, stderr=errors,
                start_new_session=True, env={**os.environ, **(environment or {})},
                preexec_fn=_own_terminal if typed else None)
        if typed:
            os.close(terminal)
        os.set_blocking(self._process.stdout.fileno(), False)

    @property
    def pid(self):
        return self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.kill()

    def kill(self):
        if self._process.poll() is None:
            # Of its own session: nobody else's processes.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        if self._keys >= 0:
            os.close(self._keys)
            self._keys = -1

    def type(self, line):
        os.write(self._keys, line.encode() + b"\n")

    def alive(self):
        return self._process.poll() is None

    def vcpus_waited_ns(self):
        """How long its vCPU threads have been ready to run without a processor; None: not known."""
        waited_ns = []
        for task in glob.glob("/proc/[0-9]*/task/[0-9]*"):
            try:
                with open(f"{task}/comm", encoding="ascii", errors="replace") as file:
                    if not file.read().startswith("vcpu"):
                        continue
                if os.getpgid(int(task.split("/")[2])) == self._process.pid:
                    with open(f"{task}/schedstat", encoding="ascii") as file:
                        waited_ns.append(int(file.read().split()[1]))
            except (OSError, ValueError):
                continue  # it ended, or the kernel keeps no account
        return sum(waited_ns) if waited_ns else None

    def first_output_ns(self, timeout_s):
        """When the guest's first byte arrived."""
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        now_ns = time.monotonic_ns()
        if ready:
            self._read()  # the end of output is readable as well
        if not self._console and not self._lines:
            raise Failed(f"no byte from the guest in {timeout_s} s\n{self._last_words()}")
        return now_ns

    def expect(self, text, timeout_s):
        """The first console line with `text`, and when it was seen (CLOCK_MONOTONIC, ns)."""
        deadline = time.monotonic() + timeout_s
        while True:
            for index, line in enumerate(self._lines):
                if text in line:
                    del self._lines[:index + 1]
                    return line, time.monotonic_ns()
            left = deadline - time.monotonic()
            if left <= 0 or self._ended:
                why = "ended without" if self._ended else f"{timeout_s} s without"
                raise Failed(f"{why} '{text}'\n{self._last_words()}")
            if select.select([self._process.stdout], [], [], left)[0]:
                self._read()

    def wait(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        while not self._ended:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"did not end in {timeout_s} s\n{self._last_words()}")
            if select.select([self._process.stdout], [], [], left)[0]:
                self._read()
        status = self._process.wait(timeout=max(1.0, deadline - time.monotonic()))
        if status != 0:
            raise Failed(f"ended with status {status}\n{self._last_words()}")

    def _read(self):
        data = os.read(self._process.stdout.fileno(), 65536)
        if not data:
            self._ended = True
            return
        self._console += data
        *complete, self._console = self._console.split(b"\n")
        self._lines += [line.decode("utf-8", "replace").rstrip("\r") for line in complete]

    def _last_words(self):
        with open(self._error_path, encoding="utf-8", errors="replace") as file:
            errors = file.read()[-2000:]
        tail = "\n".join(self._lines[-20:]) + self._console.decode("utf-8", "replace")
        return f"--- console\n{tail}\n--- stderr\n{errors}"


def _in_namespace(machine, command):
    return ["ip", "netns", "exec", machine.namespace, *command] if machine.namespace else command


class Pacsvisor:
    def __init__(self, program, name="pacsvisor", seccomp=True):
        self.program = program
        self.name = name
        self._seccomp = seccomp

    def start(self, machine, directory, store="", tracking="", typed=False):
        path = os.path.join(directory, "VM.toml")
        with open(path, "w", encoding="utf-8") as file:
            if tracking:
                file.write(f'tracking = "{tracking}"\n')
            file.write(self._toml(machine))
            if store:
                file.write(f'[store]\npath = "{store}"\n')
        command = [self.program, "run", path]
        self.environment = {"PACSVISOR_RUNTIME_DIR": os.path.join(directory, "runtime")}
        return Running(_in_namespace(machine, command), directory, self.environment,
                       typed)

    def run(self, words, directory):
        """Another command of the program, beside what start() has started."""
        return Running([self.program, *words], directory, self.environment)

    def ps(self):
        """The descriptions of the machines that run, as the control API gives them."""
        result = subprocess.run([self.program, "ps", "--json"], capture_output=True, check=True,
                                text=True, timeout=10, env={**os.environ, **self.environment})
        return result.stdout

    def _toml(self, machine):
        lines = ['name = "bench"', f"cpus = {machine.cpus}", f'memory = "{machine.memory_mib}M"',
                 "[boot]", f'kernel = "{machine.kernel}"', f'cmdline = "{machine.cmdline}"']
        for disk in machine.disks:
            lines += ["[[disk]]", f'path = "{disk.path}"', f'serial = "{disk.serial}"',
                      f"read_only = {str(disk.read_only).lower()}",
                      f'cache = "{"none" if disk.direct else "writeback"}"']
        for net in machine.nets:
            lines += ["[[net]]", f'backend = "{net.backend}"']
            if net.backend == "tap":
                lines.append(f'interface = "{net.interface}"')
            else:
                forwards = ", ".join(f'"127.0.0.1:{port}:{port}"' for port in net.forwards)
                lines.append(f"forward = [{forwards}]")
        if not self._seccomp:
            lines += ["[sandbox]", "seccomp = false"]
        return "\n".join(lines) + "\n"


class Qemu:
    """QEMU's leanest machine with the same devices: virtio over PCI, disks on an I/O thread."""

    def __init__(self, program="qemu-system-x86_64", name="qemu", vhost=False):
        self.program = program
        self.name = f"{name}+vhost" if vhost else name
        self._vhost = vhost

    def with_vhost(self):
        return Qemu(self.program, self.name, vhost=True)

    def start(self, machine, directory, qmp="", savevm="", typed=False):
        command = [
            self.program, "-M", "microvm,pit=off,pic=off,rtc=on,pcie=on,acpi=on",
            "-accel", "kvm", "-cpu", "host,-arch-capabilities", "-m", str(machine.memory_mib),
            "-smp", str(machine.cpus), "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-serial", "stdio", "-kernel", machine.kernel, "-append",
            machine.cmdline]
        for index, disk in enumerate(machine.disks):
            command += self._disk(index, disk)
        for index, net in enumerate(machine.nets):
            command += self._net(index, net)
        if qmp:
            command += ["-qmp", f"unix:{qmp},server=on,wait=off"]
        if savevm:  # where savevm goes: no disk of the guest's
            command += ["-drive", f"if=none,format=qcow2,file={savevm}"]
        return Running(_in_namespace(machine, command), directory, typed=typed)

    @staticmethod
    def _disk(index, disk):
        def on(value):
            return "on" if value else "off"
        return ["-object", f"iothread,id=io{index}",
                "-blockdev", f"driver=raw,node-name=disk{index},read-only={on(disk.read_only)},"
                f"discard=unmap,cache.direct={on(disk.direct)},file.driver=file,"
                f"file.aio=io_uring,file.cache.direct={on(disk.direct)},"
                f"file.filename={disk.path}",
                "-device", f"virtio-blk-pci,drive=disk{index},iothread=io{index},"
                f"serial={disk.serial},disable-legacy=on"]

    def _net(self, index, net):
        if net.backend == "tap":
            back = (f"tap,id=net{index},ifname={net.interface},script=no,downscript=no,"
                    f"vhost={'on' if self._vhost else 'off'}")
        else:
            back = f"user,id=net{index}" + "".join(
                f",hostfwd=tcp:127.0.0.1:{port}-:{port}" for port in net.forwards)
        return ["-netdev", back, "-device", f"virtio-net-pci,netdev=net{index},disable-legacy=on"]
