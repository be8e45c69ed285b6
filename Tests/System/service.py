"""A service manager for one node: it hears what the node notifies, keeps the descriptors it is given, and starts the
next process of the unit with them. What systemd does of this, `man sd_notify` and `man sd_listen_fds` say."""

import array
import fcntl
import os
import select
import shutil
import signal
import socket
import threading
import time

from harness import Node, binary
from process import Failure, free_port, wait_for

FIRST_PASSED = 3
# Above all that a launcher moves them to.
KEPT_FROM = 500
# Moves what is kept to where it is looked for, and becomes the program: same process, so same id.
LAUNCHER = 'for n in $UNIT_FDS; do eval "exec $n"; done; unset UNIT_FDS; LISTEN_PID=$$ exec "$@"'


class DescriptorStore:
    """The notify socket, and what was stored through it."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.kept = []
        self.said = []
        self.pinged_at = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self):
        while True:
            message, control, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(253 * 4))
            fds = array.array("i")
            for level, kind, data in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            with self._lock:
                self._handle(message.decode(), list(fds))

    def _handle(self, text, fds):
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        self.said.append(text)
        if fields.get("WATCHDOG") == "1":
            self.pinged_at = time.monotonic()
        if fields.get("FDSTORE") == "1":
            # Without it the real one would watch for the other end, and let go.
            assert fields.get("FDPOLL") == "0", text
            for fd in fds:
                self.kept.append((fields["FDNAME"], fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, KEPT_FROM)))
        if fields.get("FDSTOREREMOVE") == "1":
            for name, fd in [item for item in self.kept if item[0] == fields["FDNAME"]]:
                self.kept.remove((name, fd))
                os.close(fd)
        for fd in fds:  # a barrier is over when its descriptor is closed
            os.close(fd)

    def settle(self):
        """Waits until what was said so far has been dealt with."""
        read, write = os.pipe()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self.path)
            socket.send_fds(sender, [b"BARRIER=1"], [write])
        os.close(write)
        ready, _, _ = select.select([read], [], [], 10)
        os.close(read)
        if not ready:
            raise Failure("the service manager did not deal with what it was told")

    def names(self):
        with self._lock:
            return [name for name, _ in self.kept]

    def close(self):
        with self._lock:
            for _, fd in self.kept:
                os.close(fd)
            self.kept.clear()


class Unit(Node):
    """A node as a unit with Type=notify and a store of descriptors; `watchdog` is its WatchdogSec, in s."""

    def __init__(self, lab, name, redis, vendor, options=(), watchdog=None):
        self.store = DescriptorStore(lab.folder / f"{name}.notify")
        self.watchdog = watchdog
        super().__init__(lab, name, redis, vendor, options=["--parking", *options])

    def _start(self, argv, ready=None):
        self.store.settle()
        kept = list(self.store.kept)
        moves = " ".join(f"{FIRST_PASSED + i}<&{fd}" for i, (_, fd) in enumerate(kept))
        environment = {
            "NOTIFY_SOCKET": self.store.path,
            "UNIT_FDS": moves,
            "LISTEN_FDS": str(len(kept)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in kept),
        }
        if self.watchdog:
            environment["WATCHDOG_USEC"] = str(int(self.watchdog * 1e6))
            self.store.pinged_at = None
        ready.unlink(missing_ok=True)
        self.process = self.lab.start(
            self.name, ["bash", "-c", LAUNCHER, "unit", *argv, "--ready-file", ready],
            environment=environment, pass_fds=[fd for _, fd in kept])
        return self.process.wait_ready(ready)

    def end(self, how):
        """Ends the process by this signal; True when it went in order."""
        self.process.popen.send_signal(how)
        try:
            code = self.process.popen.wait(20)
        except Exception:
            raise self.process.failure(f"still there 20 s after {signal.Signals(how).name}") from None
        return code == 0

    def restart(self, how):
        """Ends it and starts the next one. Returns how long that took until it served, in s."""
        began = time.monotonic()
        self.end(how)
        self.start()
        return time.monotonic() - began

    @property
    def is_overdue(self):
        """The watchdog would act."""
        at = self.store.pinged_at
        return at is not None and time.monotonic() - at > self.watchdog

    def wait_parked(self, controllers, seconds=20):
        wait_for(lambda: self.metrics()["cluster_driver_connections_parked"] == controllers, seconds,
                 f"{controllers} connections are parked")

    def wait_served(self, controllers, seconds=20):
        wait_for(lambda: self.metrics()["cluster_driver_sessions"] == controllers, seconds,
                 f"{controllers} controllers are served again")


class Service(Unit):
    """A unit with Restart=always, started from a file of its own, as on a host of its own: what ends by itself is
    started again 100 ms later, as often as it takes. `lives` are the processes it has had. To be closed before its
    lab is."""

    RESTART_SECONDS = 0.1

    def __init__(self, lab, name, redis, vendor, options=()):
        folder = lab.folder / f"{name}.host"
        folder.mkdir()
        self.program = folder / "cluster-driver"
        self.install(binary("cluster-driver"))
        self.lives = []
        self._closes = threading.Event()
        super().__init__(
            lab, name, redis, vendor,
            options=["--node-id", name, "--peers", f"127.0.0.1:{free_port()}",
                     "--state-file", folder / "state", *options])
        self._manager = threading.Thread(target=self._manage, daemon=True)
        self._manager.start()

    def install(self, program):
        """Puts a program in the place of the one there is, as a package does: another file, renamed over it."""
        beside = self.program.with_name("cluster-driver.new")
        shutil.copy(program, beside)
        os.chmod(beside, 0o755)
        os.rename(beside, self.program)

    def _start(self, argv, ready=None):
        try:
            return super()._start(argv, ready)
        finally:
            self.lives.append(self.process.pid)

    def _manage(self):
        while True:
            self.process.popen.wait()
            if self._closes.wait(self.RESTART_SECONDS):
                return
            try:
                self.start()
            except Failure:
                # It has ended before it served, and is started again; or hangs, which ends with the lab.
                pass

    def close(self):
        self._closes.set()
        while self._manager.is_alive():
            self.process.kill()
            self._manager.join(0.1)
        self.store.close()
