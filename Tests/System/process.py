"""A program that was started: its log, its end, and waiting for what it does. Standard library only."""

import collections
import ctypes
import json
import os
import signal
import socket
import subprocess
import time

LOG_TAIL = 40
PR_SET_PDEATHSIG = 1


class Failure(Exception):
    """Something that was to happen did not; the message says what, and quotes the log."""


def wait_for(condition, seconds=10.0, what="the condition", every=0.02):
    """Calls condition() until it returns something true, and returns that.

    Raises Failure when it has not after `seconds`. An exception of the condition ends the waiting.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise Failure(f"not after {seconds:g} s: {what}")
        time.sleep(every)


def free_port():
    """A TCP port of 127.0.0.1 nobody listens on now. For programs that cannot be told port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    # Whatever becomes of the tests, what they started does not outlive them.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def clean_environment(extra=None):
    """The caller's environment without what a shell may set for a node of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CLUSTER_DRIVER_")}
    return {**kept, **(extra or {})}


class Process:
    """A running program. Standard error, and standard output unless `stdout` is given, go to its log.

    It is in a session of its own, so that a ctrl-C at the terminal reaches only whoever started it.
    """

    def __init__(self, name, argv, folder, environment=None, stdout=None, stderr=None, pass_fds=()):
        self.name = name
        self.argv = [str(part) for part in argv]
        self.log_path = folder / f"{name}.log"
        with open(self.log_path, "ab") as log:
            try:
                self.popen = subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout or log,
                    stderr=stderr or log,
                    cwd=folder,
                    env=clean_environment(environment),
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                    pass_fds=pass_fds,
                )
            except OSError as error:
                raise Failure(f"{name} cannot be started: {error}") from error

    @property
    def pid(self):
        return self.popen.pid

    @property
    def is_running(self):
        return self.popen.poll() is None

    def log_tail(self, lines=LOG_TAIL):
        """The last lines of the log, each indented."""
        with open(self.log_path, errors="replace") as log:
            last = collections.deque(log, maxlen=lines)
        return "".join(f"    {line.rstrip()}\n" for line in last)

    def failure(self, what):
        return Failure(f"{self.name}: {what}\n  its log ({self.log_path}) ends with:\n{self.log_tail()}")

    def wait(self, seconds=10.0):
        """Waits for the program to end by itself and returns its exit code (negative: the signal)."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failure(f"still running after {seconds:g} s") from None

    def stop(self, seconds=10.0):
        """Asks it to end (SIGTERM) and returns its exit code. Kills it, and raises, when it does not."""
        if self.is_running:
            self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self.failure(f"did not end within {seconds:g} s of SIGTERM") from None

    def kill(self):
        """Ends it at once (SIGKILL) and reaps it."""
        if self.is_running:
            self.popen.kill()
        self.popen.wait()

    def pause(self):
        """Stops it from running (SIGSTOP) until resume()."""
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self):
        self.popen.send_signal(signal.SIGCONT)

    def wait_ready(self, path, seconds=15.0):
        """Waits for the ready file this very process writes once it serves; returns what is in it."""

        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.is_running:
                code = self.popen.returncode
                raise self.failure(f"ended with exit code {code} before it served")
            try:
                said = json.loads(path.read_text())
            except (FileNotFoundError, ValueError):
                said = {}
            # A file that an earlier process left does not count.
            if said.get("pid") == self.pid:
                return said
            time.sleep(0.01)
        raise self.failure(f"does not serve after {seconds:g} s")
