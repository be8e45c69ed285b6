"""Starts the real programs, each on free ports, for the tests and for the demo. Standard library only.

A Lab holds what one test started and ends all of it, whatever happened:

    with Lab() as lab:
        vendor = lab.vendor()
        node = lab.node(redis=lab.redis(), vendor=vendor)
        report = lab.fleet(node, controllers=50, event_rate=20, duration="3s").report()
"""

import base64
import collections
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

from process import Failure, Process, clean_environment, free_port, wait_for
from resp import Connection

ROOT = pathlib.Path(__file__).resolve().parents[2]


def binary(name):
    """Path of a built program: in CLUSTER_DRIVER_BIN, else .build/release, else .build/debug."""
    given = os.environ.get("CLUSTER_DRIVER_BIN")
    folders = [pathlib.Path(given)] if given else [ROOT / ".build/release", ROOT / ".build/debug"]
    for folder in folders:
        if os.access(folder / name, os.X_OK):
            return (folder / name).resolve()
    looked = ", ".join(str(folder) for folder in folders)
    raise Failure(f"{name} is not built (looked in {looked}): run `make build`")


def command_json(door=1, lane="LANE_URGENT", seconds=5.0, identity=None, **action):
    """A clusterdriver.v1.Command in proto3 JSON, as it is published on a controller's channel.

    Without an action given as keyword (set_door_mode={...}) it unlocks `door`.
    """
    said = {
        "id": base64.b64encode(identity or os.urandom(16)).decode(),
        "lane": lane,
        "notAfterMs": str(int((time.time() + seconds) * 1000)),
    }
    return json.dumps({**said, **(action or {"unlock": {"door": door}})})


class Part:
    """A program of a lab that can be ended and started again, on the same ports."""

    def __init__(self, lab, name):
        self.lab = lab
        self.name = name
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        """Of the host it runs on."""
        return self.lab.address(self.name)

    def on_host(self):
        """Sockets that this thread makes meanwhile are those of the host it runs on."""
        return self.lab.on_host(self.name)

    def _start(self, argv, ready=None):
        if ready:
            ready.unlink(missing_ok=True)
            argv = [*argv, "--ready-file", ready]
        self.process = self.lab.start(self.name, argv)
        return self.process.wait_ready(ready) if ready else None

    def stop(self, seconds=10.0):
        return self.process.stop(seconds)

    def kill(self):
        self.process.kill()

    def pause(self):
        self.process.pause()

    def resume(self):
        self.process.resume()


class Redis(Part):
    """A private Redis without persistence. `options`: more of redis-server's, for its next start."""

    def __init__(self, lab, name, options=()):
        super().__init__(lab, name)
        self.options = list(options)
        for attempt in range(5):
            with self.on_host():
                self.port = free_port()
            try:
                self.start()
                return
            except Failure:
                # Somebody else may have taken the port meanwhile.
                if attempt == 4:
                    raise

    @property
    def url(self):
        return f"redis://{self.address}:{self.port}"

    def start(self):
        server = shutil.which("redis-server")
        if server is None:
            raise Failure("no redis-server on PATH: run `make setup`")
        self._start(
            [server, "--port", self.port, "--bind", self.address, "--protected-mode", "no", "--save", "",
             "--appendonly", "no", "--dir", self.lab.folder, *self.options]
        )
        wait_for(self._answers, 10, what=f"{self.name} answers on port {self.port}")

    def _answers(self):
        if not self.process.is_running:
            raise self.process.failure("ended at once")
        try:
            # The process id makes sure that it is ours that answers.
            info = self.call("INFO", "server").decode()
        except OSError:
            return False
        return f"process_id:{self.pid}\r" in info

    def hosts(self):
        """The names of the hosts it is on."""
        return [self.name]

    def call(self, *words):
        with self.on_host(), Connection(self.port, self.address) as connection:
            return connection.call(*words)

    def publish(self, serial, command):
        """Publishes a command and returns how many nodes listened for that controller."""
        return self.call("PUBLISH", serial, command)


class VendorApp(Part):
    """The reference vendor app; its database is in the lab's folder unless `db` says otherwise."""

    def __init__(self, lab, name, db=None, options=()):
        super().__init__(lab, name)
        self.db = db or f"sqlite:{lab.folder / (name + '.db')}"
        self.options = list(options)
        self.listen = f"{self.address}:0"
        self.start()

    @property
    def url(self):
        return f"grpc://{self.listen}"

    def start(self):
        argv = [binary("vendor-app"), "--listen", self.listen, "--db", self.db, *self.options]
        said = self._start(argv, self.lab.folder / f"{self.name}.ready")
        self.listen = said["listen"]


class Node(Part):
    """A driver node. `program`: the file it is started from, if not the one that was built."""

    program = None

    def __init__(self, lab, name, redis, vendor, options=()):
        super().__init__(lab, name)
        self.redis = redis if isinstance(redis, str) else redis.url
        self.vendor = vendor if isinstance(vendor, str) else vendor.url
        self.options = list(options)
        self.port = 0
        self.metrics_address = "127.0.0.1:0"
        self.admin = f"unix:{lab.folder / (name + '.sock')}"
        self.start()

    def start(self):
        argv = [
            self.program or binary("cluster-driver"), "--port", self.port, "--redis", self.redis,
            "--vendor", self.vendor, "--admin", self.admin, "--metrics", self.metrics_address,
            "--peers", "127.0.0.1:0",
            *self.options,
        ]
        said = self._start(argv, self.lab.folder / f"{self.name}.ready")
        self.port = said["port"]
        self.admin = said["admin"]
        self.metrics_address = said["metrics"]

    def http(self, path):
        """The status and text of an HTTP request to the node's metrics address."""
        request = urllib.request.Request(f"http://{self.metrics_address}{path}")
        try:
            with self.on_host(), urllib.request.urlopen(request, timeout=5) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self):
        """Every sample of /metrics: {'name{label="x"}': value}."""
        status, text = self.http("/metrics")
        if status != 200:
            raise Failure(f"{self.name}: /metrics answers {status}: {text[:200]}")
        lines = (line for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


class Balancer(Part):
    """A HAProxy before `nodes`, by the very example that is shipped.

    What differs from it: where it listens, the nodes' addresses, and, where the caller may not have them, users and
    descriptors.
    """

    EXAMPLE = ROOT / "systemd/haproxy.cfg.example"

    def __init__(self, lab, name, nodes):
        super().__init__(lab, name)
        self.nodes = list(nodes)
        self.socket_path = lab.folder / f"{name}.sock"
        self._paused = None
        self.configuration = lab.folder / f"{name}.cfg"
        with self.on_host():
            self.port = free_port()
        self.start()

    def start(self):
        path = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
        program = shutil.which("haproxy", path=path)
        if program is None:
            raise Failure("no haproxy on PATH: run `make setup`")
        self.configuration.write_text(self._configured())
        # -W, as its service does: a master that reloads, and a worker that has the connections.
        self._start([program, "-W", "-f", self.configuration])
        wait_for(self._answers, 10, what=f"{self.name} answers on {self.socket_path}")

    def _configured(self):
        text = self.EXAMPLE.read_text()
        servers = "".join(
            f"    server {name} {node.address}:{node.port} port {node.metrics_address.rsplit(':', 1)[1]}\n"
            for name, node in self._named()
        )
        wanted = [
            (r"bind :::5001 v4v6", f"bind {self.address}:{self.port}"),
            (r"stats socket /run/haproxy/admin\.sock", f"stats socket {self.socket_path}"),
            (r"(    server node\d \S+:5001 port 9001\n)+", servers),
        ]
        if os.geteuid() != 0:
            wanted.append((r"    user .*\n    group .*\n    chroot .*\n", ""))
        most = (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2
        if 0 < most < 50000:
            wanted += [(r"maxconn 50000", f"maxconn {most}"), (r"maxconn 49000", f"maxconn {most - 1}")]
        for pattern, replacement in wanted:
            text, n = re.subn(pattern, lambda _, by=replacement: by, text)
            if n != 1:
                raise Failure(f"{self.EXAMPLE}: {n} places, not one, match {pattern!r}")
        return text

    def _named(self):
        return [(f"node{i}", node) for i, node in enumerate(self.nodes, 1)]

    def _answers(self):
        if not self.process.is_running:
            raise self.process.failure("ended at once")
        return self.worker() is not None

    def ask(self, line):
        """What the worker of now answers on its socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket_path))
            connection.sendall(line.encode() + b"\n")
            parts = iter(lambda: connection.recv(65536), b"")
            return b"".join(parts).decode()

    def worker(self):
        """Process id of the worker that takes new connections; None when there is none."""
        try:
            found = re.search(r"^Pid: (\d+)", self.ask("show info"), re.M)
        except OSError:
            return None
        return int(found[1]) if found else None

    def shown(self, column):
        """What `show stat` has in a column, by node in their order."""
        header, *rows = [line.split(",") for line in self.ask("show stat nodes 4 -1").splitlines() if line]
        name, value = header.index("svname"), header.index(column)
        said = {row[name]: row[value] for row in rows}
        return [said[node] for node, _ in self._named()]

    def states(self):
        """UP, DOWN, NOLB (no new connections), and so on, by node."""
        return [state.split()[0] for state in self.shown("status")]

    def connections(self):
        """How many connections each node has."""
        return [int(count) for count in self.shown("scur")]

    def wait_for_states(self, *wanted, seconds=15.0):
        wait_for(lambda: self.states() == list(wanted), seconds, what=f"{self.name} has its nodes {wanted}")

    def kill(self):
        """Ends it with all its connections. Workers end themselves when their master is gone."""
        pid = self.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        super().kill()
        wait_for(lambda: not any(_is_alive(child) for child in children), 10, what=f"{self.name}'s workers ended")

    def pause(self):
        """Stops the worker, who has the connections, until resume()."""
        self._paused = self.worker()
        os.kill(self._paused, signal.SIGSTOP)

    def resume(self):
        os.kill(self._paused, signal.SIGCONT)

    def reload(self):
        """Takes the configuration anew: another worker listens, the former one keeps its connections."""
        before = self.worker()
        self.process.popen.send_signal(signal.SIGUSR2)
        wait_for(lambda: self.worker() not in (None, before), 10, what=f"{self.name} has another worker")


class Fleet:
    """Simulated controllers. `progress` is the newest of the lines they write each second,
    `progress_lines` how many there were."""

    def __init__(self, lab, name, node, options):
        self.progress = {}
        self.progress_lines = 0
        ports = node if isinstance(node, str) else f"{node.address}:{node.port}"
        argv = [binary("scp-fleet"), "--connect", ports, "--json", "--progress-json", *options]
        self.output_path = lab.folder / f"{name}.json"
        with open(self.output_path, "wb") as output:
            self.process = lab.start(name, argv, stdout=output, stderr=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        with open(self.process.log_path, "ab") as log:
            for line in self.process.popen.stderr:
                log.write(line)
                log.flush()
                if line.startswith(b"{"):
                    try:
                        self.progress = json.loads(line)
                        self.progress_lines += 1
                    except ValueError:
                        pass

    def wait_connected(self, controllers, seconds=20.0):
        def connected():
            if not self.process.is_running:
                raise self.process.failure("ended while its controllers were to connect")
            return self.progress.get("connected", 0) >= controllers

        wait_for(connected, seconds, what=f"{controllers} controllers connected ({self.progress})")

    def end(self, seconds=60.0):
        """Has the controllers generate no more, and returns the report."""
        self.process.popen.send_signal(signal.SIGINT)
        return self.report(seconds)

    def report(self, seconds=60.0):
        """Waits for its end and returns its report, whatever is in it; `exit` is the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        try:
            return {**json.loads(self.output_path.read_text()), "exit": code}
        except ValueError:
            raise self.process.failure(f"exit code {code} and no report") from None


class Lab:
    """What one test, or the demo, starts. Ends everything, last started first."""

    def __init__(self):
        # Short, because the path of a Unix socket may have 107 bytes.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cluster-driver-"))
        self.processes = []
        self._names = collections.Counter()

    def redis(self, name=None):
        return Redis(self, self._name(name, "redis"))

    def vendor(self, name=None, db=None, options=()):
        return VendorApp(self, self._name(name, "vendor"), db, options)

    def node(self, redis, vendor, name=None, options=()):
        return Node(self, self._name(name, "node"), redis, vendor, options)

    def balancer(self, nodes, name=None):
        return Balancer(self, self._name(name, "balancer"), nodes)

    def fleet(self, node, controllers, event_rate, duration, vendor=None, seed=1, first_serial=1000,
              options=(), name=None):
        """Starts controllers; with `vendor` the report compares with what is stored there."""
        flags = ["--controllers", controllers, "--event-rate", event_rate, "--duration", duration,
                 "--seed", seed, "--first-serial", first_serial, *options]
        if vendor:
            flags += ["--verify", vendor.url]
        return Fleet(self, self._name(name, "fleet"), node, flags)

    def address(self, name):
        """Of the host that the part of this name runs on."""
        return "127.0.0.1"

    def on_host(self, name):
        return contextlib.nullcontext()

    def start(self, name, argv, **streams):
        """Starts any program as one of the lab's."""
        process = Process(name, argv, self.folder, **streams)
        self.processes.append(process)
        return process

    def run(self, program, *arguments, seconds=15.0, environment=None):
        """Runs a program to its end; returns (exit code, standard output, standard error)."""
        try:
            done = subprocess.run(
                [binary(program), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                text=True, timeout=seconds, cwd=self.folder, env=clean_environment(environment),
            )
        except subprocess.TimeoutExpired as late:
            raise Failure(f"{program} still running after {seconds:g} s: {late.stderr}") from None
        return done.returncode, done.stdout, done.stderr

    def logs(self, lines=60):
        """The ends of all logs, for a report of what failed."""
        return "".join(f"--- {log.name}\n{_tail(log, lines)}" for log in sorted(self.folder.glob("*.log")))

    def close(self, keep=False):
        for process in reversed(self.processes):
            process.kill()
        self.processes.clear()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _name(self, name, kind):
        self._names[kind] += 1
        return name or f"{kind}-{self._names[kind]}"


def _is_alive(pid):
    try:
        # After the name in parentheses; Z has ended and is not reaped.
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def _tail(path, lines):
    return "".join(path.read_text(errors="replace").splitlines(keepends=True)[-lines:])
