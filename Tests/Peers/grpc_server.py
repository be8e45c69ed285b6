"""A grpcio server with the echo service. Prints its port; ends when its standard input does.

Arguments are channel options, name=integer, and "compress": answers are then compressed with gzip,
which grpcio does without asking what its client accepts.
"""

import sys
from concurrent import futures

import grpc

from grpc_echo import Echo


def main():
    options = [("grpc.max_receive_message_length", 16 * 1024 * 1024)]
    compression = None
    for argument in sys.argv[1:]:
        if argument == "compress":
            compression = grpc.Compression.Gzip
            continue
        name, value = argument.split("=")
        options.append((name, int(value)))
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=16), options=options, compression=compression
    )
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(grace=1).wait()


main()
