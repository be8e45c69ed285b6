"""The echo service of the transport's tests, as grpcio sees it: bytes in, bytes out, no generated code."""

import time

import grpc

SERVICE = "test.Echo"


def path(method):
    return f"/{SERVICE}/{method}"


def user_metadata(context):
    """What the caller sent, without what every library adds."""
    return [(k, v) for k, v in context.invocation_metadata() if k in ("key", "some-bin")]


def get(request, context):
    metadata = user_metadata(context)
    context.send_initial_metadata(metadata)
    context.set_trailing_metadata(metadata)
    return request


def collect(requests, context):
    return b"".join(requests)


def expand(request, context):
    for byte in request:
        yield bytes([byte])


def update(requests, context):
    for request in requests:
        yield request
    context.set_trailing_metadata([("update", "done")])


def fail(request, context):
    context.set_trailing_metadata([("reason", "gone"), ("more-bin", b"\x00\xff")])
    context.abort(grpc.StatusCode.NOT_FOUND, "niçht da: 100 % weg\n")


def fail_late(request, context):
    yield b"\x01"
    yield b"\x02"
    context.abort(grpc.StatusCode.DATA_LOSS, "late")


def hang(requests, context):
    yield b""
    while context.is_active():
        time.sleep(0.01)


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            path("Get"): grpc.unary_unary_rpc_method_handler(get),
            path("Collect"): grpc.stream_unary_rpc_method_handler(collect),
            path("Expand"): grpc.unary_stream_rpc_method_handler(expand),
            path("Update"): grpc.stream_stream_rpc_method_handler(update),
            path("Fail"): grpc.unary_unary_rpc_method_handler(fail),
            path("FailLate"): grpc.unary_stream_rpc_method_handler(fail_late),
            path("Hang"): grpc.stream_stream_rpc_method_handler(hang),
        }.get(details.method)
