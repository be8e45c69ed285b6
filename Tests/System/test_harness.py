"""The harness itself: what it starts it ends, and what goes wrong it says."""

import json
import os
import sys

import pytest

from process import Failure, wait_for
from resp import RedisError

SERVE = """
import json, os, sys, time
print("about to serve", file=sys.stderr, flush=True)
open(sys.argv[1], "w").write(json.dumps({"pid": os.getpid(), "listen": "127.0.0.1:1"}))
time.sleep(60)
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_private_redis_answers_and_ends_with_its_lab(lab):
    redis = lab.redis()
    assert redis.call("SET", "a", "1") == b"OK"
    assert redis.call("GET", "a") == b"1"
    assert redis.call("GET", "missing") is None
    assert redis.publish(12345, "{}") == 0
    with pytest.raises(RedisError, match="wrong number"):
        redis.call("GET")
    pid = redis.pid
    lab.close()
    assert not alive(pid)
    assert not lab.folder.exists()


def test_a_redis_that_was_killed_comes_back_on_its_port_and_empty(lab):
    redis = lab.redis()
    redis.call("SET", "a", "1")
    port = redis.port
    redis.kill()
    redis.start()
    assert redis.port == port
    assert redis.call("GET", "a") is None


def test_a_program_counts_as_ready_only_by_its_own_ready_file(lab):
    ready = lab.folder / "ready"
    ready.write_text(json.dumps({"pid": 1, "listen": "of an earlier process"}))
    process = lab.start("server", [sys.executable, "-c", SERVE, ready])
    assert process.wait_ready(ready)["listen"] == "127.0.0.1:1"


def test_a_program_that_ends_before_it_serves_is_reported_with_its_log(lab):
    process = lab.start("broken", [sys.executable, "-c", "raise SystemExit('no such database')"])
    with pytest.raises(Failure, match=r"(?s)broken: ended with exit code 1.*no such database"):
        process.wait_ready(lab.folder / "ready")


def test_a_program_that_is_not_there_is_named(lab):
    with pytest.raises(Failure, match="nothing cannot be started"):
        lab.start("nothing", ["/nowhere/at/all"])


def test_a_condition_that_never_holds_ends_at_its_deadline():
    with pytest.raises(Failure, match="not after 0.1 s: the moon is blue"):
        wait_for(lambda: False, 0.1, what="the moon is blue")


def test_the_settings_of_the_callers_shell_do_not_reach_the_programs(lab, monkeypatch):
    monkeypatch.setenv("CLUSTER_DRIVER_PORT", "5001")
    script = "import os; raise SystemExit(any(k.startswith('CLUSTER_DRIVER') for k in os.environ))"
    assert lab.start("environment", [sys.executable, "-c", script]).wait() == 0
