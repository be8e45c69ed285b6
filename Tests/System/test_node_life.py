"""A node's life as its surroundings see it: begin without them, be watched, and end in order."""

import json
import signal
import socket
import sqlite3
import time

import pytest

from harness import Lab, binary, command_json
from process import free_port, wait_for


def cmdline(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().rstrip(b"\0").decode()


class ServiceManager:
    """The socket a service manager listens on, and what was said to it."""

    def __init__(self, folder):
        self.path = str(folder / "notify.sock")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.said = []

    def wait(self, word, seconds=10):
        """Waits until a message begins with `word`; returns it."""
        deadline = time.monotonic() + seconds
        while not any(said.startswith(word) for said in self.said):
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            self.said.append(self.socket.recv(65536).decode())
        return next(said for said in self.said if said.startswith(word))


def started(lab: Lab, *options, environment=None, vendor=None, redis="memory:"):
    """A node as a plain process, with what its ready file says."""
    ready = lab.folder / "plain.ready"
    node = lab.start(
        "plain",
        [binary("cluster-driver"), "--port", 0, "--redis", redis,
         "--vendor", vendor or f"grpc://127.0.0.1:{free_port()}",
         "--admin", f"unix:{lab.folder / 'plain.sock'}", "--metrics", "127.0.0.1:0",
         "--ready-file", ready, *options],
        environment=environment,
    )
    return node, ready, node.wait_ready(ready)


def test_it_starts_without_vendor_app_and_redis_says_so_once_and_finds_them_later(lab):
    redis, vendor_port = lab.redis(), free_port()
    redis.kill()
    node = lab.node(redis, f"grpc://127.0.0.1:{vendor_port}")
    fleet = lab.fleet(node, 20, 10, "12s", options=["--drain", "30s", "--backoff-max", "1s"])
    wait_for(lambda: node.metrics()["cluster_driver_connections"] >= 20, 10, "the controllers wait")
    status, text = node.http("/readyz")
    assert status == 503 and "Redis" in text, text
    # Without Redis nobody can say whose the controllers are.
    assert node.metrics()["cluster_driver_sessions"] == 0
    redis.start()
    fleet.wait_connected(20)
    assert node.http("/readyz")[0] == 200
    wait_for(lambda: node.metrics()['cluster_driver_link_failures_total{link="vendor"}'] >= 3, 15,
             "it goes on trying")
    log = node.process.log_path.read_text()
    assert log.count("not attached to the vendor app") == 1, log
    assert log.count("no connection to redis://") == 1, log
    vendor = lab.start("late", [binary("vendor-app"), "--listen", f"127.0.0.1:{vendor_port}",
                                "--db", "memory:"])
    assert vendor.is_running
    report = fleet.report()
    assert report["exit"] == 0, report
    assert report["acked"] == report["sent"] > 0


def test_the_service_manager_hears_ready_status_watchdog_and_stopping(lab):
    manager = ServiceManager(lab.folder)
    node, ready, _ = started(lab, environment={"NOTIFY_SOCKET": manager.path,
                                               "WATCHDOG_USEC": "400000"})
    manager.wait("READY=1")
    assert "0 controllers" in manager.wait("STATUS=")
    manager.wait("WATCHDOG=1")
    began, before = time.monotonic(), len(manager.said)
    while time.monotonic() < began + 2:
        manager.said.append(manager.socket.recv(65536).decode())
    pings = manager.said[before:].count("WATCHDOG=1")
    assert 5 <= pings <= 25, f"{pings} in 2 s where one each 0.4 s must be"
    assert node.stop(5) == 0
    manager.wait("STOPPING=1", 2)
    assert manager.said.index("READY=1") < manager.said.index("STOPPING=1")
    assert not ready.exists()


def test_the_title_shows_port_sequences_and_controllers(lab):
    vendor = lab.vendor(db="memory:")
    redis = lab.redis()
    node = lab.node(redis, vendor)
    fleet = lab.fleet(node, 2, 1, "20s", first_serial=12345)
    fleet.wait_connected(2)
    wait_for(lambda: redis.publish(12345, command_json(query_status={}, seconds=5)) == 1, 10,
             "the node listens for 12345")
    wanted = f"cluster-driver v1.0.0 port: {node.port} sequences: 1 controllers: 12345, 12346"
    wait_for(lambda: cmdline(node.pid).rstrip("\0") == wanted, 10, f"title {wanted}")


def test_sigterm_sends_the_controllers_away_and_everything_acknowledged_is_stored(lab):
    vendor = lab.vendor()
    node = lab.node("memory:", vendor)
    fleet = lab.fleet(node, 200, 20, "30s", options=["--drain", "1s"])
    fleet.wait_connected(200)
    wait_for(lambda: fleet.progress.get("acked", 0) > 2000, 20, "events flow")
    began = time.monotonic()
    assert node.stop(10) == 0
    assert time.monotonic() - began < 6
    log = node.process.log_path.read_text()
    assert "stopped" in log
    assert "not acknowledged" not in log, log
    fleet.process.popen.send_signal(signal.SIGINT)
    report = fleet.report()
    assert report["goaways"] == 200, report
    path = vendor.db.removeprefix("sqlite:")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        stored = db.execute("SELECT count(*) FROM events").fetchone()[0]
    assert stored >= report["acked"], f"{report['acked']} acknowledged, {stored} stored"


def test_a_second_signal_ends_it_at_once(lab):
    vendor = lab.vendor(db="memory:")
    node = lab.node("memory:", vendor)
    fleet = lab.fleet(node, 50, 1, "30s")
    fleet.wait_connected(50)
    vendor.pause()
    node.process.popen.send_signal(signal.SIGTERM)
    wait_for(lambda: "stopping" in node.process.log_path.read_text(), 5, "it is stopping")
    began = time.monotonic()
    node.process.popen.send_signal(signal.SIGINT)
    assert node.process.wait(2) == 1
    assert time.monotonic() - began < 0.5
    vendor.resume()


@pytest.mark.parametrize("taken", ["admin", "metrics", "ready-file"])
def test_a_start_that_fails_says_what_and_leaves_nothing(lab, taken):
    other, _, said = started(lab)
    options = {
        "admin": ["--admin", said["admin"], "--metrics", "off"],
        "metrics": ["--admin", f"unix:{lab.folder}/b.sock", "--metrics", said["metrics"]],
        "ready-file": ["--admin", f"unix:{lab.folder}/b.sock", "--metrics", "off",
                       "--ready-file", f"{lab.folder}/no/such/folder/ready"],
    }[taken]
    code, _, error = lab.run(
        "cluster-driver", "--port", 0, "--redis", "memory:", "--vendor", "grpc://127.0.0.1:9",
        "--log", "stderr", *options)
    assert code == 1
    assert "cannot start" in error
    assert taken.split("-")[0] in error, error
    assert other.is_running
    assert not (lab.folder / "b.sock").exists()


def test_check_finds_what_is_wrong_and_exits_1(lab):
    vendor = lab.vendor(db="memory:")
    code, out, _ = lab.run("cluster-driver", "--check", "--port", 0, "--redis", "memory:",
                           "--vendor", vendor.url)
    assert code == 0, out
    assert "ok    vendor" in out
    nobody = free_port()
    code, out, _ = lab.run("cluster-driver", "--check", "--port", 0, "--redis", "memory:",
                           "--vendor", f"grpc://127.0.0.1:{nobody}")
    assert code == 1
    assert "FAIL  vendor" in out
    assert str(nobody) in out


def test_the_ready_file_says_where_everything_is(lab):
    node, _, said = started(lab)
    assert set(said) == {"port", "admin", "metrics", "pid"}
    assert said["pid"] == node.pid
    code, out, error = lab.run("clusterctl", "--admin", said["admin"], "list", "-f", "json")
    assert code == 0, error
    assert str(said["port"]) in json.dumps(json.loads(out))
