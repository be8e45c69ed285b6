"""A node that is a unit of a booted systemd, with the units and programs that are shipped."""

import contextlib
import os
import pathlib

import booted
from process import free_port, wait_for

# The machine's own network and limits, and a log that can be read from outside.
DROP_IN = """
[Unit]
Wants=
[Service]
StandardError=append:/lab/node.log
LimitNOFILE=20000
{more}
"""
SETTINGS = """
CLUSTER_DRIVER_REDIS={redis}
CLUSTER_DRIVER_VENDOR={vendor}
CLUSTER_DRIVER_METRICS=127.0.0.1:{metrics}
CLUSTER_DRIVER_PEERS=127.0.0.1:0
CLUSTER_DRIVER_ADVERTISE=127.0.0.1:0
CLUSTER_DRIVER_LOG=stderr
CLUSTER_DRIVER_NODE_ID=unit
"""


class Installed(booted.Unit):
    """A node that is a unit of a booted systemd."""

    def __init__(self, lab, redis, vendor, more="", settings="", name="systemd"):
        self.vendor = vendor
        port, metrics = free_port(), free_port()
        super().__init__(booted.Systemd(lab, DROP_IN.format(more=more), name=name), port, f"127.0.0.1:{metrics}")
        try:
            self.system.write(f"/etc/cluster-driver/{port}.env",
                              SETTINGS.format(redis=redis, vendor=vendor.url, metrics=metrics) + settings)
            said = self.ctl("start")
            assert said == "", said + self.ctl("status") + self.log()
        except BaseException:
            self.system.close()
            raise

    def pids(self):
        """Of the programs that run in it, as they are known outside; what ExecStop= and ExecStopPost= run is none."""
        found = []
        for procs in self.system.cgroup.glob(f"system.slice/*/{self.unit}.service/cgroup.procs"):
            with contextlib.suppress(OSError):  # the unit has ended meanwhile
                found += [int(pid) for pid in procs.read_text().split() if _program(pid).endswith("/cluster-driver")]
        return found

    def wait_process(self, seconds=20, other_than=()):
        """The next process, as soon as it is there."""
        return wait_for(lambda: set(self.pids()) - set(other_than), seconds, "a process of the unit", 0.001).pop()

    def forgive(self):
        """Forgets how its last processes died: it does not take itself for one that keeps dying."""
        (pathlib.Path(f"/proc/{self.system.init}/root/run/cluster-driver") / f"{self.port}.lives").unlink(True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.system.close()


def _program(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""
