"""The durable mailbox: commands that wait for whoever owns their controller, by the clients of Docs/clients."""

import collections
import importlib.util
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time

import pytest
import redis as redis_py

from harness import ROOT
from process import Failure, clean_environment, wait_for
from test_cluster import QUICK, owned, sessions

CLIENTS = ROOT / "Docs/clients"
SERIAL = 1000
DONE, REFUSED, EXPIRED, OFFLINE = 1, 2, 3, 4


def _load(name):
    spec = importlib.util.spec_from_file_location(name, CLIENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


client = _load("mailbox")


def mailbox(redis):
    return client.Mailbox(redis_py.Redis(host=redis.address, port=redis.port))


def unlock(seconds=10.0):
    return {"lane": "LANE_URGENT", "notAfterMs": str(int((time.time() + seconds) * 1000)),
            "unlock": {"door": 1, "durationMs": 100}}


def status(seconds=None):
    """A command that may wait."""
    return {"queryStatus": {}, **({"notAfterMs": str(int((time.time() + seconds) * 1000))} if seconds else {})}


def left(redis):
    """Commands in the mailbox."""
    return redis.call("ZCARD", "{cd:main}:mail")


class System:
    """Redis, a vendor app, and what they know about commands."""

    def __init__(self, lab):
        self.lab = lab
        self.redis, self.vendor = lab.redis(), lab.vendor()
        self.box = mailbox(self.redis)
        self.logs = []

    def node(self, **more):
        return self.lab.node(self.redis, self.vendor, options=["--t2", "20ms"], **more)

    def fleet(self, nodes, controllers=1, duration="60s", options=()):
        """Without events of their own: one that comes later with the same serials has as short a log."""
        ports = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        self.logs.append(self.lab.folder / f"commands-{len(self.logs) + 1}.jsonl")
        return self.lab.fleet(ports, controllers, 0, duration,
                              options=[*QUICK, "--commands-log", self.logs[-1], *options])

    def results(self):
        """{id: status} as the vendor app has stored it."""
        with sqlite3.connect(f"file:{self.vendor.db.removeprefix('sqlite:')}?mode=ro", uri=True) as db:
            return {id.hex(): status for id, status in db.execute("SELECT id, status FROM results")}

    def wait_for_result(self, id, seconds=15.0):
        wait_for(lambda: id in self.results(), seconds, f"a result of {id}")
        return self.results()[id]

    def wait_until_empty(self, seconds=10.0):
        wait_for(lambda: left(self.redis) == 0, seconds, "the mailbox is empty")
        assert self.redis.call("HLEN", "{cd:main}:letters") == 0
        assert self.redis.call("HLEN", "{cd:main}:marks") == 0

    def lines(self):
        """What the controllers carried out, in their order."""
        return [json.loads(line) for log in self.logs if log.exists() for line in log.read_text().splitlines()]

    def done(self):
        """{id: how often it was carried out}."""
        return collections.Counter(line["id"] for line in self.lines())

    def assert_well(self, fleet, ends=True):
        """No contradiction anywhere; nothing twice or late."""
        if ends:
            fleet.process.popen.send_signal(2)
        report = fleet.report(30)
        assert report["commands"]["duplicate"] == 0 and report["commands"]["late"] == 0, report
        assert report["commands"]["stale_epoch"] == 0, report
        results = self.results()
        for id, times in self.done().items():
            assert times == 1, f"{id} was carried out {times} times"
            assert results.get(id) in (DONE, OFFLINE), f"{id} was carried out, and its result is {results.get(id)}"
        conflicts = json.loads(subprocess.run(
            [ROOT / ".venv/bin/python", ROOT / "Tests/System/vendor_stats.py", self.vendor.listen],
            capture_output=True, text=True, timeout=30, check=True).stdout)["results_conflicting"]
        assert conflicts == 0


@pytest.fixture
def system(lab):
    return System(lab)


def new_id():
    return os.urandom(16).hex()


def by_python(redis, serial, command, id):
    return [ROOT / ".venv/bin/python", CLIENTS / "mailbox.py", redis.url, str(serial), json.dumps(command), id]


def by_ruby(redis, serial, command, id):
    ruby = shutil.which("ruby")
    if ruby is None:
        raise Failure("no ruby on PATH: run `make setup`")
    return [ruby, CLIENTS / "mailbox.rb", redis.url, str(serial), json.dumps(command), id]


@pytest.mark.parametrize("program", [by_python, by_ruby])
def test_a_vendors_ten_lines_post_a_command_that_is_carried_out_once(system, program):
    def post(serial, id, command=None):
        done = subprocess.run(program(system.redis, serial, command or unlock(), id), capture_output=True, text=True,
                              timeout=30, env=clean_environment())
        return done.returncode, done.stdout.strip(), done.stderr

    node = system.node()
    fleet = system.fleet([node])
    fleet.wait_connected(1)
    first = new_id()
    assert post(SERIAL, first)[:2] == (0, "posted")
    assert system.wait_for_result(first) == DONE
    system.wait_until_empty()
    # The reply to a post may be lost: the same one again does nothing.
    assert post(SERIAL, first)[:2] == (0, "ended")
    # Nobody is there, so it waits.
    absent = new_id()
    assert post(77, absent)[:2] == (0, "posted")
    assert post(77, absent)[:2] == (0, "waiting")
    assert left(system.redis) == 1
    code, _, errors = post(0, new_id())
    assert code != 0 and "CDMAIL the serial must be" in errors
    code, _, errors = post(SERIAL, "so")
    assert code != 0 and "CDMAIL the id must be" in errors
    code, _, errors = post(SERIAL, new_id(), {"raw": {"code": 99, "body": "A" * 9000}})
    assert code != 0 and "8192 are allowed" in errors
    system.assert_well(fleet)
    assert system.done() == {first: 1}


def test_the_clients_are_what_the_documentation_shows():
    page = (ROOT / "Docs/VENDOR.md").read_text()
    for name in ("mailbox.py", "mailbox.rb"):
        lines = (CLIENTS / name).read_text().splitlines()
        begin = next(i for i, line in enumerate(lines) if line.startswith("class Mailbox"))
        end = next(i for i in range(begin + 1, len(lines)) if not lines[i].strip() and "if " in lines[i + 1])
        assert "\n".join(lines[begin:end]) in page, f"{name} is another one there"


def test_what_is_posted_while_no_node_is_up_is_carried_out_when_one_is(system):
    ids = [new_id() for _ in range(20)]
    for i, id in enumerate(ids):
        assert system.box.post(SERIAL + i % 4, unlock(60), id) == "posted"
    assert left(system.redis) == 20
    node = system.node()
    fleet = system.fleet([node], 4)
    for id in ids:
        assert system.wait_for_result(id, 20) == DONE
    system.wait_until_empty()
    system.assert_well(fleet)
    lines = system.lines()
    for serial in range(SERIAL, SERIAL + 4):
        order = [line["id"] for line in lines if line["serial"] == serial]
        assert order == [id for i, id in enumerate(ids) if SERIAL + i % 4 == serial], "in the order of posting"


def test_one_whose_deadline_passes_while_nobody_is_there_expires_once(system):
    id = new_id()
    system.box.post(SERIAL, unlock(0.2), id)
    time.sleep(0.3)
    node = system.node()
    assert system.wait_for_result(id) == EXPIRED
    system.wait_until_empty()
    # A controller that comes now is not given it.
    fleet = system.fleet([node])
    fleet.wait_connected(1)
    after = new_id()
    system.box.post(SERIAL, unlock(), after)
    assert system.wait_for_result(after) == DONE
    system.assert_well(fleet)
    assert system.done() == {after: 1}


def test_one_for_a_controller_that_stays_away_expires_in_time(system):
    node = system.node()
    wait_for(lambda: owned(node) > 0, 10, "the node owns what there is")
    id = new_id()
    began = time.time()
    system.box.post(SERIAL, unlock(1.0), id)
    assert system.wait_for_result(id) == EXPIRED
    assert 1.0 <= time.time() - began < 3.0
    system.wait_until_empty()


def test_the_next_owner_carries_out_what_the_killed_one_had_not(system):
    nodes = [system.node() for _ in range(3)]
    fleet = system.fleet(nodes, 60)
    fleet.wait_connected(60, 30)
    wait_for(lambda: all(owned(node) > 0 for node in nodes), 30, "every node has ranges")
    wait_for(lambda: sum(sessions(node) for node in nodes) == 60, 20, "all are served")
    victim = nodes[0]
    fleet.process.popen.send_signal(2)
    fleet.report(30)
    wait_for(lambda: sum(sessions(node) for node in nodes) == 0, 20, "no controller is connected")
    ids = {SERIAL + i: new_id() for i in range(60)}
    for serial, id in ids.items():
        assert system.box.post(serial, unlock(60), id) == "posted"
    wait_for(lambda: sum(node.metrics()["cluster_driver_mailbox_controllers"] for node in nodes) == 60, 10,
             "the owners know of them")
    assert victim.metrics()["cluster_driver_mailbox_controllers"] > 0
    victim.kill()
    again = system.fleet(nodes[1:], 60)
    again.wait_connected(60, 30)
    for id in ids.values():
        assert system.wait_for_result(id, 20) == DONE
    system.wait_until_empty()
    system.assert_well(again)
    assert system.done() == {id: 1 for id in ids.values()}


def is_killed(system, node):
    node.kill()


def stops(system, node):
    node.stop()


def is_drained(system, node):
    code, _, errors = system.lab.run("clusterctl", "drain", "--admin", node.admin, seconds=40)
    assert code == 0, errors


@pytest.mark.parametrize("end", [is_killed, stops, is_drained])
def test_an_owner_that_goes_amid_commands_leaves_one_effect_and_one_result_of_each(system, end):
    nodes = [system.node() for _ in range(3)]
    fleet = system.fleet(nodes, 60)
    fleet.wait_connected(60, 30)
    wait_for(lambda: all(owned(node) > 0 for node in nodes), 30, "every node has ranges")
    wait_for(lambda: sum(sessions(node) for node in nodes) == 60, 20, "all are served")
    ids = [new_id() for _ in range(600)]
    for i, id in enumerate(ids):
        system.box.post(SERIAL + i % 60, unlock(40), id)
        if i == 300:
            end(system, nodes[1])
    wait_for(lambda: len(system.results()) == len(ids), 40, "all have a result")
    system.wait_until_empty()
    assert set(system.results().values()) == {DONE}
    system.assert_well(fleet)
    assert system.done() == {id: 1 for id in ids}


def test_a_thousand_for_a_hundred_controllers(system):
    nodes = [system.node() for _ in range(2)]
    fleet = system.fleet(nodes, 100)
    fleet.wait_connected(100, 30)
    wait_for(lambda: all(owned(node) > 0 for node in nodes), 30, "every node has ranges")
    ids = [new_id() for _ in range(1000)]
    for i, id in enumerate(ids):
        assert system.box.post(SERIAL + i % 100, unlock(60), id) == "posted"
    wait_for(lambda: len(system.results()) == 1000, 40, "all have a result")
    system.wait_until_empty()
    system.assert_well(fleet)
    assert system.results() == {id: DONE for id in ids}
    assert system.done() == {id: 1 for id in ids}
    assert sum(node.metrics()["cluster_driver_mailbox_removed_total"] for node in nodes) == 1000


def test_the_same_id_twice_is_one_command(system):
    node = system.node()
    ids = [new_id() for _ in range(10)]
    said = [system.box.post(SERIAL, unlock(30), id) for id in ids for _ in range(3)]
    assert said == ["posted", "waiting", "waiting"] * 10
    fleet = system.fleet([node])
    wait_for(lambda: len(system.results()) == 10, 20, "all have a result")
    system.wait_until_empty()
    assert [system.box.post(SERIAL, unlock(30), id) for id in ids] == ["ended"] * 10
    system.assert_well(fleet)
    assert system.done() == {id: 1 for id in ids}


def test_entries_that_are_no_commands_are_refused_and_harm_no_other(system):
    node = system.node()
    fleet = system.fleet([node])
    fleet.wait_connected(1)
    wrong = {new_id(): body for body in (
        "nonsense", {"unlock": {"door": 1}}, {"unlock": {"door": 0}, "notAfterMs": "1"}, {"id": "AAAAAAAAAAAAAAAAAAAAAQ=="},
        {"serial": "77", "queryStatus": {}}, {"unknown": 1})}
    for id, body in wrong.items():
        assert system.box.post(SERIAL, body, id) == "posted"
    # What no script has written.
    keys = [f"{{cd:main}}:{key}" for key in ("mail", "letters")]
    system.redis.call("ZADD", keys[0], 0, f"{SERIAL:020} rubbish")
    without, long = new_id(), new_id()
    for number, id in enumerate((without, long), 1):
        system.redis.call("ZADD", keys[0], 0, f"{SERIAL:020} {number:016} {id}")
    system.redis.call("HSET", keys[1], long, "x" * 100_000)
    good = new_id()
    assert system.box.post(SERIAL, unlock(), good) == "posted"
    assert system.wait_for_result(good) == DONE
    for id in (*wrong, without, long):
        assert system.wait_for_result(id) == REFUSED
    system.wait_until_empty()
    system.assert_well(fleet)
    assert system.done() == {good: 1}


def test_a_box_that_is_full_says_so_and_others_are_not_concerned(system):
    for _ in range(256):
        system.box.post(SERIAL, status(60))
    with pytest.raises(redis_py.ResponseError, match="controller 1000 has 256 commands in the mailbox"):
        system.box.post(SERIAL, status(60))
    assert system.box.post(SERIAL + 1, status(60)) == "posted"
    fleet = system.fleet([system.node()], 2)
    wait_for(lambda: len(system.results()) == 257, 30, "all have a result")
    system.wait_until_empty()
    system.assert_well(fleet)
    assert set(system.results().values()) == {DONE}


def test_a_user_with_the_rights_that_the_documentation_names_can_post(system):
    page = (ROOT / "Docs/VENDOR.md").read_text()
    rights = re.search(r"A Redis user that posts needs `([^`]+)`", page)[1].replace("NAME", "main").split()
    system.redis.call("ACL", "SETUSER", "vendor", "on", ">secret", *rights)
    connection = redis_py.Redis(host=system.redis.address, port=system.redis.port, username="vendor",
                                password="secret")
    id = new_id()
    assert client.Mailbox(connection).post(SERIAL, status(60), id) == "posted"
    assert client.Mailbox(connection).post(SERIAL, status(60), id) == "waiting"
    with pytest.raises(redis_py.exceptions.NoPermissionError):
        connection.hgetall("{cd:main}:ranges")


def test_commands_wait_out_a_redis_that_hangs(system):
    node = system.node()
    fleet = system.fleet([node])
    fleet.wait_connected(1)
    before = new_id()
    system.box.post(SERIAL, unlock(30), before)
    assert system.wait_for_result(before) == DONE
    waiting = new_id()
    system.box.post(SERIAL + 5, unlock(60), waiting)
    system.redis.pause()
    # Longer than a lease, and than the nodes wait for a reply.
    time.sleep(3)
    system.redis.resume()
    other = system.fleet([node], options=["--first-serial", SERIAL + 5])
    assert system.wait_for_result(waiting, 20) == DONE
    system.wait_until_empty()
    system.assert_well(fleet)
    system.assert_well(other)
