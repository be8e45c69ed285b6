"""What the benchmarks share: the machine in a line, processes' time and memory, a table."""

import os
import pathlib
import platform
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "Tests/System"))

TICKS = os.sysconf("SC_CLK_TCK")


def machine():
    """The machine the numbers are of."""
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="ascii")
                if line.startswith("model name")), platform.machine())
    return f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}"


def cpu_seconds(pid):
    """User and system time of a process so far, in seconds."""
    fields = open(f"/proc/{pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mib(pid):
    """Resident memory of a process in MiB."""
    for line in open(f"/proc/{pid}/status", encoding="ascii"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS: it has ended")


class Clock:
    """Time and processor time of some processes over an interval."""

    def __init__(self, **pids):
        self.pids = pids
        self.began = time.monotonic()
        self.cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}

    def read(self):
        """(seconds, {name: processor seconds})."""
        used = {name: cpu_seconds(pid) - self.cpu[name] for name, pid in self.pids.items()}
        return time.monotonic() - self.began, used


def row(*cells):
    print("  ".join(f"{cell:>13}" for cell in cells), flush=True)
