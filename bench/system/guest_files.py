"""Kernel, images and job disks of one measurement, in a directory of its own."""

import os
import shutil
import subprocess

CMDLINE = "console=ttyS0 root=/dev/vda rw quiet panic=-1"


class GuestFiles:
    def __init__(self, files, work):
        self._files = files
        self.kernel = os.path.join(files, "vmlinux")
        self.directory = work
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)

    def path(self, name):
        return os.path.join(self.directory, name)

    def run_directory(self, name):
        directory = self.path(name)
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)
        return directory

    def copy(self, name, target):
        """A private copy of one of the tools image's disks."""
        subprocess.run(["cp", "--sparse=always", os.path.join(self._files, "tools", name),
                        self.path(target)], check=True)
        return self.path(target)

    def make_job(self, script):
        """A disk whose /run the guest runs at boot, its output on the console."""
        folder = self.run_directory("job")
        run = os.path.join(folder, "run")
        with open(run, "w", encoding="utf-8") as file:
            file.write("#!/bin/bash\n" + script + "\n")
        os.chmod(run, 0o700)
        image = self.path("job.raw")
        if os.path.exists(image):
            os.unlink(image)
        subprocess.run(["mkfs.ext4", "-q", "-L", "job", "-d", folder, image, "8M"], check=True,
                       stdout=subprocess.DEVNULL)
        return image

    def make_scratch(self, size_mib):
        """A disk whose every block is there and not zero: no allocation is measured."""
        path = self.path("scratch.raw")
        with open(path, "wb") as file:
            for _ in range(size_mib):
                file.write(os.urandom(1 << 20))
            os.fsync(file.fileno())
        return path

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)
