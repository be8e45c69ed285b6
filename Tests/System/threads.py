"""One thread of a program that hangs while the others go on: stopped by ptrace, so the program needs no hook for it."""

import ctypes
import fnmatch
import os
import pathlib
import signal
import threading

from process import Failure, wait_for

PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207
WALL = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def named(pid):
    """Ids of the threads of a process, by name."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        found.setdefault((task / "comm").read_text().strip(), []).append(int(task.name))
    return found


def hang(pid, pattern):
    """Stops all threads whose names match until the process is killed."""
    threads = named(pid)
    found = [thread for name in fnmatch.filter(threads, pattern) for thread in threads[name]]
    if not found:
        raise Failure(f"no thread {pattern} in process {pid}, but {', '.join(sorted(threads))}")
    for thread in found:
        for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
            if _libc.ptrace(request, thread, None, None) < 0:
                raise Failure(f"thread {thread} of {pid} cannot be stopped: {os.strerror(ctypes.get_errno())}")
        stopped, status = os.waitpid(thread, WALL)
        assert stopped == thread and os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGTRAP, status
        wait_for(lambda at=thread: _state(pid, at) == "t", 5, f"thread {thread} is stopped")
        # When the process is killed nobody can reap it before the tests have reaped this.
        threading.Thread(target=os.waitpid, args=(thread, WALL), daemon=True).start()


def _state(pid, thread):
    return pathlib.Path(f"/proc/{pid}/task/{thread}/stat").read_text().rsplit(")", 1)[1].split()[0]
