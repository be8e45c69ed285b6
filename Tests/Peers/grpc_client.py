"""A grpcio client that goes through everything the echo service can do, at the target given.

Prints one line per check, "ok NAME" or "FAILED NAME: why"; exits with the number of failures.
Serves as the oracle for the transport's server side.
"""

import sys
import threading
import traceback
from concurrent import futures

import grpc

from grpc_echo import path

TIMEOUT = 20


def pattern(size):
    return bytes((i * 31 + (i >> 8)) & 0xFF for i in range(size))


def status_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


class Checks:
    def __init__(self, channel):
        self.channel = channel
        self.get = channel.unary_unary(path("Get"))
        self.update = channel.stream_stream(path("Update"))

    def unary_metadata(self):
        metadata = (("key", "value"), ("key", "again"), ("some-bin", b"\x00\x01\x02\xff"))
        reply, call = self.get.with_call(b"abc", metadata=metadata, timeout=TIMEOUT)
        assert reply == b"abc", reply
        for received in (call.initial_metadata(), call.trailing_metadata()):
            mine = [(k, v) for k, v in received if k in ("key", "some-bin")]
            assert mine == list(metadata), mine

    def sizes(self):
        for size in (0, 1, 4, 5, 1000, 16379, 16384, 65535, 1048576, 3900000):
            message = pattern(size)
            assert self.get(message, timeout=TIMEOUT) == message, size

    def client_streaming(self):
        call = self.channel.stream_unary(path("Collect"))
        parts = [bytes([i % 256]) * (i % 50) for i in range(2000)]
        assert call(iter(parts), timeout=TIMEOUT) == b"".join(parts)

    def server_streaming(self):
        call = self.channel.unary_stream(path("Expand"))
        assert b"".join(call(pattern(5000), timeout=TIMEOUT)) == pattern(5000)

    def bidirectional(self):
        answered = threading.Event()

        def requests():
            yield b"1"
            assert answered.wait(TIMEOUT)
            yield b"2"
            yield b"3"

        call = self.update(requests(), timeout=TIMEOUT)
        replies = []
        for reply in call:
            replies.append(reply)
            answered.set()
        assert replies == [b"1", b"2", b"3"], replies
        assert ("update", "done") in [tuple(pair) for pair in call.trailing_metadata()]

    def bidirectional_bulk(self):
        message = pattern(100_000)
        n = sum(1 for reply in self.update((message for _ in range(200)), timeout=60) if reply == message)
        assert n == 200, n

    def status(self):
        try:
            self.channel.unary_unary(path("Fail"))(b"", timeout=TIMEOUT)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
            assert error.details() == "niçht da: 100 % weg\n", error.details()
            trailers = [tuple(pair) for pair in error.trailing_metadata()]
            assert ("reason", "gone") in trailers and ("more-bin", b"\x00\xff") in trailers, trailers
        else:
            raise AssertionError("no error")

    def status_after_messages(self):
        replies = []

        def call():
            for reply in self.channel.unary_stream(path("FailLate"))(b"", timeout=TIMEOUT):
                replies.append(reply)

        assert status_of(call) == grpc.StatusCode.DATA_LOSS
        assert replies == [b"\x01", b"\x02"]

    def unknown_method(self):
        call = self.channel.unary_unary(path("Nothing"))
        assert status_of(lambda: call(b"", timeout=TIMEOUT)) == grpc.StatusCode.UNIMPLEMENTED

    def deadline(self):
        call = self.channel.stream_stream(path("Hang"))
        code = status_of(lambda: list(call(iter([b"x"]), timeout=0.1)))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code

    def cancellation(self):
        call = self.channel.stream_stream(path("Hang"))(iter([b"x"]), timeout=TIMEOUT)
        next(call)
        call.cancel()
        assert status_of(lambda: list(call)) == grpc.StatusCode.CANCELLED

    def compression(self):
        code = status_of(
            lambda: self.get(b"x" * 5000, timeout=TIMEOUT, compression=grpc.Compression.Gzip)
        )
        assert code == grpc.StatusCode.UNIMPLEMENTED, code

    def large_message(self):
        code = status_of(lambda: self.get(b"x" * (4 * 1024 * 1024 + 1), timeout=TIMEOUT))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED, code

    def large_metadata(self):
        code = status_of(lambda: self.get(b"", metadata=(("key", "x" * 40000),), timeout=TIMEOUT))
        assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL), code

    def concurrency(self):
        with futures.ThreadPoolExecutor(16) as pool:
            messages = [pattern(i) for i in range(400)]
            replies = list(pool.map(lambda m: self.get(m, timeout=TIMEOUT), messages))
        assert replies == messages


def main():
    options = [("grpc.max_receive_message_length", 16 * 1024 * 1024)]
    failures = 0
    with grpc.insecure_channel(sys.argv[1], options=options) as channel:
        checks = Checks(channel)
        for name in [n for n in vars(Checks) if not n.startswith("_")]:
            try:
                getattr(checks, name)()
                print("ok", name, flush=True)
            except Exception:
                failures += 1
                print(f"FAILED {name}: {traceback.format_exc()}", flush=True)
    sys.exit(failures)


main()
