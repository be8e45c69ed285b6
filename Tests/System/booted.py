"""A real systemd as the first process of namespaces of its own, over the machine's files: for tests of the units that are
shipped. Needs root."""

import os
import pathlib
import re
import shutil
import subprocess
import urllib.request

from harness import ROOT, Lab, binary
from process import wait_for

SYSTEMD = "/lib/systemd/systemd"
UNITS = ("cluster-driver@.service", "cluster-driver.target", "vendor-app.service")
INSIDE = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}

# What is written above the machine's files is kept, in memory, from one boot to the next.
DISK = r"""
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs $1/over
mkdir -p $1/over/up $1/over/work $1/over/root
: > $1/lab/disk
exec sleep infinity
"""
# In the new namespaces, before systemd.
BOOT = r"""
set -e
S=$1
mount --make-rprivate /
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
for program in $(ls $S/lab/bin); do ln -sf /lab/bin/$program $R/usr/bin/; done
[ -s $R/etc/machine-id ] || : > $R/etc/machine-id
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
    """Booted, on the host that the lab has for the part of this name. Of the programs and units that are shipped it has
    those that are named; a drop-in for nodes says what is different here. Its /lab is `lab_folder`."""

    def __init__(self, lab, drop_in, programs=("cluster-driver", "clusterctl"), units=UNITS, name="systemd"):
        self.lab, self.name = lab, name
        self.folder = lab.folder / name
        self.lab_folder = self.folder / "lab"
        for part in ("over", "lab/bin", "units/cluster-driver@.service.d"):
            (self.folder / part).mkdir(parents=True)
        self.folder.parent.chmod(0o755)  # users of its own come here
        for program in programs:
            shutil.copy(binary(program), self.lab_folder / "bin")
        for unit in units:
            shutil.copy(ROOT / "systemd" / unit, self.folder / "units")
        (self.folder / "units/cluster-driver@.service.d/lab.conf").write_text(drop_in)
        (self.folder / "units/lab.target").write_text("[Unit]\nRequires=dbus.socket\nAllowIsolate=yes\n")
        self.cgroup = cgroups() / f"cluster-driver-{name}-{os.getpid()}"
        self.cgroup.mkdir()
        self.process = None
        self.disk = Lab.start(lab, f"{name}-disk", ["unshare", "-m", "bash", "-c", DISK, "disk", self.folder])
        wait_for((self.lab_folder / "disk").exists, 10, "there is a disk")
        try:
            self.boot()
            if units:
                shutil.copy(ROOT / "systemd/cluster-driver.sysusers", self.lab_folder / "cluster-driver.conf")
                self.run("systemd-sysusers", "/lab/cluster-driver.conf")
        except BaseException:
            self.close()
            raise

    def boot(self):
        # Whoever enters the control group first takes the namespace's root with it.
        enter = f'echo $$ > {self.cgroup}/cgroup.procs; exec "$@"'
        place = ["nsenter", "-t", self.disk.pid, "-m"]
        if hosts := getattr(self.lab, "hosts", None):
            place.append(f"--net=/run/netns/{hosts[self.name].namespace}")
        self.process = Lab.start(
            self.lab, self.name, ["bash", "-c", enter, "enter", *place, "unshare", "-p", "-f", "--kill-child", "-m", "-u",
                                  "-i", "-C", "bash", "-c", BOOT, "boot", self.folder])
        wait_for(self._init, 20, "systemd begins")
        wait_for(lambda: self.run("systemctl", "is-system-running") in ("running", "degraded"), 30,
                 "systemd has booted")

    def power_off(self, seconds=60):
        """In order: every unit is stopped. What is on the disk stays for the next boot()."""
        self.run("systemctl", "--no-block", "poweroff")
        self.process.wait(seconds)

    def _init(self):
        if not self.process.is_running:
            raise self.process.failure("ended while it booted")
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        names = [pathlib.Path(f"/proc/{child}/comm").read_text().strip() for child in children]
        self.init = int(children[0]) if names == ["systemd"] else None
        return self.init

    def call(self, *command, seconds=60):
        """Exit code of a command there, and all it says."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.init), "-p", "-m", "-u", "-i", "-C", "-n", *map(str, command)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, env=INSIDE)
        return done.returncode, (done.stdout + done.stderr).strip()

    def run(self, *command):
        """What a command says there; its failure is an answer, too."""
        return self.call(*command)[1]

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
        """What the first process has used so far."""
        return int(pathlib.Path(f"/proc/{self.init}/schedstat").read_text().split()[0]) / 1e6

    def log(self):
        logs = sorted(self.lab_folder.glob("node*.log"))
        return re.sub(r"\x00+", "", "".join(log.read_text(errors="replace") for log in logs))

    def close(self):
        if self.process:
            self.process.kill()
        wait_for(self._is_empty, 20, "all that was booted has ended")
        self.cgroup.rmdir()
        self.disk.kill()

    def _is_empty(self):
        """Below it systemd has made others; they are empty once all are dead."""
        for folder in sorted(self.cgroup.rglob("*"), reverse=True):
            if folder.is_dir():
                try:
                    folder.rmdir()
                except OSError:
                    return False
        return not (self.cgroup / "cgroup.procs").read_text()


class Unit:
    """A node that is a unit of a booted systemd: of its port, with its metrics at an address."""

    def __init__(self, system, port, metrics_at, address="127.0.0.1"):
        self.system, self.port, self.metrics_at, self.address = system, port, metrics_at, address
        self.unit = f"cluster-driver@{port}"

    def on_host(self):
        return self.system.lab.on_host(self.system.name)

    def ctl(self, *verb):
        return self.system.run("systemctl", *verb, self.unit)

    def show(self, key):
        return self.system.show(self.unit, key)

    def log(self):
        return self.system.log()

    def metrics(self):
        """None while nobody answers."""
        try:
            with self.on_host(), urllib.request.urlopen(f"http://{self.metrics_at}/metrics", timeout=2) as reply:
                lines = reply.read().decode().splitlines()
        except OSError:
            return None
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def has(self, controllers):
        """So many are served, and would outlive the process."""
        said = self.metrics() or {}
        return (said.get("cluster_driver_sessions"), said.get("cluster_driver_connections_parked")) == (
            controllers, controllers)

    def wait_replaced(self, main, controllers, what):
        wait_for(lambda: self.show("MainPID") not in ("0", main) and self.has(controllers), 40,
                 f"all are served again after {what}")
