"""The bench's own programs, where Python would be in the way of what is measured."""

import json
import os
import subprocess

import machine


def path(bench, name):
    program = os.path.join(bench.build, "bench", name)
    if not os.path.exists(program):
        raise machine.Failed(f"{program} is not built: bash bench/run.sh without --pacsvisor "
                             f"builds it, or cmake --build with the target {name}")
    return program


def ask(bench, name, *words, timeout_s=600):
    """What it prints, a JSON object."""
    command = [path(bench, name), *(str(word) for word in words)]
    result = subprocess.run(command, capture_output=True, text=True, check=False,
                            timeout=timeout_s)
    if result.returncode != 0:
        raise machine.Failed(f"{' '.join(command)}: status {result.returncode}: {result.stderr}")
    return json.loads(result.stdout)
