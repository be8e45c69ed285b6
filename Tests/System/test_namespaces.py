"""The hosts that other tests stand on: what is cut is cut, and nothing is left behind."""

import pathlib
import signal
import socket
import subprocess
import sys

import pytest

import namespaces
from namespaces import Network

HERE = pathlib.Path(__file__).parent


@pytest.fixture
def network():
    reason = namespaces.why_not()
    if reason:
        print(f"NOT TESTED: hosts: {reason}", file=sys.__stderr__, flush=True)
        pytest.skip(f"NOT TESTED: {reason}")
    with Network() as network:
        yield network


def hears(target, source):
    """Whether a datagram of `source` reaches `target`."""
    with target.inside():
        receiver = socket.socket(type=socket.SOCK_DGRAM)
    with source.inside():
        sender = socket.socket(type=socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind((target.address, 7))
        # One that arrives does so before the call that sends it returns.
        receiver.settimeout(0.2)
        sender.sendto(b"?", (target.address, 7))
        try:
            return receiver.recv(1) == b"?"
        except TimeoutError:
            return False


def test_cuts_lose_what_they_say_and_add_up(network):
    a, b, c = (network.host(name) for name in "abc")
    ways = [(x, y) for x in (a, b, c) for y in (a, b, c) if x is not y]

    def lost():
        return {(str(source), str(target)) for source, target in ways if not hears(target, source)}

    assert lost() == set()
    with network.cut(a):
        assert lost() == {("a", "b"), ("b", "a"), ("a", "c"), ("c", "a")}
    with network.cut(a, hears=False):
        assert lost() == {("a", "b"), ("a", "c")}
    with network.cut(a, b, sends=False) as one, network.cut(b):
        assert lost() == {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")}
        one.heal()
        assert lost() == {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")}
    assert lost() == set()


def test_what_a_killed_test_leaves_is_removed(network):
    code = ("from namespaces import Network; import subprocess, time; host = Network().host('a'); "
            "subprocess.Popen([*host.prefix, 'sleep', '1000']); print('made', flush=True); time.sleep(1000)")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=HERE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"made\n"
    left = [f"cd{process.pid}-net", f"cd{process.pid}-a"]
    assert all(pathlib.Path("/run/netns", name).exists() for name in left)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    namespaces.sweep()
    assert not any(pathlib.Path("/run/netns", name).exists() for name in left)
    assert network.namespaces and all(pathlib.Path("/run/netns", name).exists() for name in network.namespaces)
