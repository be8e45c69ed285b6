"""A real systemd as the first process of namespaces of its own, over the machine's files: for tests of the units that are
shipped. Needs root."""

import os
import pathlib
import re
import shutil
import subprocess

from harness import ROOT, binary
from process import wait_for

SYSTEMD = "/lib/systemd/systemd"

# In the new namespaces, before systemd: what the machine has below, what is written above it in memory.
BOOT = r"""
set -e
S=$1
mount --make-rprivate /
mount -t tmpfs tmpfs $S/over
mkdir -p $S/over/up $S/over/work $S/over/root
mount -t overlay overlay -o lowerdir=/,upperdir=$S/over/up,workdir=$S/over/work $S/over/root
R=$S/over/root
mount -t proc proc $R/proc
mount --rbind /dev $R/dev
mount -t sysfs sysfs $R/sys || mount --bind /sys $R/sys
mount -t cgroup2 cgroup2 $R/sys/fs/cgroup
mount -t tmpfs tmpfs $R/run
mkdir -p $R/lab
mount --bind $S/lab $R/lab
cp -r $S/units/. $R/etc/systemd/system/
for program in $S/lab/bin/*; do ln -s /lab/bin/${program##*/} $R/usr/bin/; done
: > $R/etc/machine-id
cd $R
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin %s --unit=lab.target
""" % SYSTEMD


def why_not():
    """Why this cannot be had here; None when it can."""
    if os.geteuid() != 0:
        return "booting systemd needs root"
    if not pathlib.Path(SYSTEMD).exists() or not shutil.which("unshare") or not shutil.which("nsenter"):
        return "no systemd, unshare or nsenter here"
    if cgroups() is None:
        return "no unified hierarchy of control groups here"
    return None


def cgroups():
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return pathlib.Path(where)
    return None


class Systemd:
    """Booted, with the programs and units that are shipped, and a drop-in for nodes that says what is different here.
    Its /lab is `lab_folder`."""

    def __init__(self, lab, drop_in, programs=("cluster-driver", "clusterctl")):
        self.folder = lab.folder / "systemd"
        self.lab_folder = self.folder / "lab"
        for name in ("over", "lab/bin", "units/cluster-driver@.service.d"):
            (self.folder / name).mkdir(parents=True)
        self.folder.parent.chmod(0o755)  # users of its own come here
        for program in programs:
            shutil.copy(binary(program), self.lab_folder / "bin")
        for unit in ("cluster-driver@.service", "cluster-driver.target", "vendor-app.service"):
            shutil.copy(ROOT / "systemd" / unit, self.folder / "units")
        shutil.copy(ROOT / "systemd/cluster-driver.sysusers", self.lab_folder / "cluster-driver.conf")
        (self.folder / "units/cluster-driver@.service.d/lab.conf").write_text(drop_in)
        (self.folder / "units/lab.target").write_text("[Unit]\nRequires=dbus.socket\nAllowIsolate=yes\n")
        self.cgroup = cgroups() / f"cluster-driver-lab-{os.getpid()}"
        self.cgroup.mkdir()
        # Whoever enters the control group first takes the namespace's root with it.
        enter = f'echo $$ > {self.cgroup}/cgroup.procs; exec "$@"'
        self.process = lab.start(
            "systemd", ["bash", "-c", enter, "enter", "unshare", "-p", "-f", "--kill-child", "-m", "-u", "-i", "-C",
                        "bash", "-c", BOOT, "boot", self.folder])
        wait_for(self._init, 20, "systemd begins")
        wait_for(lambda: self.run("systemctl", "is-system-running") in ("running", "degraded"), 30,
                 "systemd has booted")
        self.run("systemd-sysusers", "/lab/cluster-driver.conf")

    def _init(self):
        if not self.process.is_running:
            raise self.process.failure("ended while it booted")
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        names = [pathlib.Path(f"/proc/{child}/comm").read_text().strip() for child in children]
        self.init = int(children[0]) if names == ["systemd"] else None
        return self.init

    def run(self, *command):
        """What a command says there; its failure is an answer, too."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.init), "-p", "-m", "-u", "-i", "-C", *map(str, command)],
            capture_output=True, text=True, timeout=60)
        return (done.stdout + done.stderr).strip()

    def show(self, unit, key):
        return self.run("systemctl", "show", "-P", key, unit)

    def write(self, path, text, group="cluster-driver"):
        """A file there, readable for a group."""
        (self.lab_folder / "written").write_text(text)
        self.run("install", "-D", "-m", "640", "-g", group, "/lab/written", path)

    def main_pid(self, unit):
        """Of a unit's process, as it is known outside."""
        inside, space = self.show(unit, "MainPID"), os.readlink(f"/proc/{self.init}/ns/pid")
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                own = re.search(r"^NSpid:.*\t(\d+)$", (process / "status").read_text(), re.M)[1]
                if own == inside and os.readlink(process / "ns/pid") == space:
                    return int(process.name)
            except OSError:
                continue  # it has ended meanwhile
        return None

    def cpu_ms(self):
        """What the first process has used so far; in steps of 10 ms."""
        fields = pathlib.Path(f"/proc/{self.init}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * 1000 // os.sysconf("SC_CLK_TCK")

    def log(self):
        return re.sub(r"\x00+", "", (self.lab_folder / "node.log").read_text(errors="replace"))

    def close(self):
        self.process.kill()
        wait_for(self._is_empty, 20, "all that was booted has ended")
        self.cgroup.rmdir()

    def _is_empty(self):
        """Below it systemd has made others; they are empty once all are dead."""
        for folder in sorted(self.cgroup.rglob("*"), reverse=True):
            if folder.is_dir():
                try:
                    folder.rmdir()
                except OSError:
                    return False
        return not (self.cgroup / "cgroup.procs").read_text()
