#!/usr/bin/env python3
"""Writes frames.txt: one frame of every type, and a configuration's transfer, made from Docs/PROTOCOL.md alone.

Deliberately not made with the C encoder: the two have to agree. Each vector is two lines,
`name field=value ...` and the whole frame in hex; byte strings are given in hex after `x`.
"""
import hashlib
import os
import struct

TABLE = []
for i in range(256):
    crc = i
    for _ in range(8):
        crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    TABLE.append(crc)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def frame(kind, payload):
    head = struct.pack(">2sBBI", b"\x5c\x70", 1, kind, len(payload))
    out = head + struct.pack(">I", crc32c(head)) + payload
    return out + (struct.pack(">I", crc32c(payload)) if payload else b"")


def short(text):
    return bytes([len(text)]) + text


ID = bytes(range(16))
BODY = b"\x00\x01\x00\x00\x00\x00\x0b\xb8"
CONFIGURATION = bytes(i * 7 & 255 for i in range(300))
DIGEST = hashlib.sha256(CONFIGURATION).digest()[:16]


def pack_command(f):
    return f["id"] + struct.pack(">QQHBBHH", f["owner_epoch"], f["not_after_ms"], f["code"], f["lane"], 0,
                                 len(f["body"]), 0) + f["body"]


def pack_result(f):
    return f["id"] + struct.pack(">BBHIHH", f["status"], f["flags"], f["reason"], f["index"], len(f["body"]),
                                 0) + f["body"]


def transfer():
    """Command and result of each step of CONFIGURATION's transfer in two chunks, to a controller that has nothing of
    it; before the second comes one that is not the next."""
    def chunk(offset, end):
        return DIGEST + struct.pack(">I", offset) + CONFIGURATION[offset:end]

    def at(offset):
        return struct.pack(">I", offset)

    steps = [(16, DIGEST + at(300), 1, 0, at(0)), (17, chunk(0, 200), 1, 0, at(200)),
             (17, chunk(250, 300), 2, 6, at(200)), (17, chunk(200, 300), 1, 0, at(300)), (18, DIGEST, 1, 0, b"")]
    for i, (code, body, status, reason, said) in enumerate(steps):
        identity = bytes([0xC0 + i]) * 16
        yield ("command", 0x20, dict(id=identity, owner_epoch=9, not_after_ms=0, code=code, lane=2, body=body),
               pack_command)
        yield ("result", 0x21, dict(id=identity, status=status, flags=0, reason=reason, index=0, body=said), pack_result)


VECTORS = [
    ("hello", 0x01, dict(serial=12345, version_min=1, version_max=1, capabilities=3, boot_id=77,
                         log_epoch=2, capacity=10000, oldest_seq=5, last_seq=90, acked_seq=4,
                         owner_epoch_seen=9, clock_ms=1767225600000, digest=bytes(range(16, 32)),
                         model=b"SC-2", firmware=b"1.4.2"),
     lambda f: struct.pack(">QBBHIQIIQQQQQ", f["serial"], f["version_min"], f["version_max"], 0,
                           f["capabilities"], f["boot_id"], f["log_epoch"], f["capacity"],
                           f["oldest_seq"], f["last_seq"], f["acked_seq"], f["owner_epoch_seen"],
                           f["clock_ms"]) + f["digest"] + short(f["model"]) + short(f["firmware"])),
    ("welcome", 0x02, dict(session_id=1001, owner_epoch=9, log_epoch=2, k=64, w=16, resume_from=5,
                           host_time_ms=1767225600123, t1_ms=15000, t2_ms=20, t3_ms=20000,
                           bulk_window=2, flags=1),
     lambda f: struct.pack(">QQIHHQQIIIBBH", *f.values(), 0)),
    ("busy", 0x03, dict(retry_after_ms=2000, jitter_ms=5000),
     lambda f: struct.pack(">II", *f.values())),
    ("redirect", 0x04, dict(first=b"192.0.2.1:5001", second=b"node2.example:5001"),
     lambda f: b"\x02" + short(f["first"]) + short(f["second"])),
    ("reject", 0x05, dict(reason=3, text=b"acked_seq is above last_seq"),
     lambda f: struct.pack(">H", f["reason"]) + short(f["text"])),
    ("stale", 0x06, dict(value=12), lambda f: struct.pack(">Q", f["value"])),
    ("goaway", 0x07, dict(reason=18, spread_ms=30000),
     lambda f: struct.pack(">HHI", f["reason"], 0, f["spread_ms"])),
    ("superseded", 0x08, dict(value=1001), lambda f: struct.pack(">Q", f["value"])),
    ("event", 0x10, dict(log_epoch=2, flags=1, family=2, code=2, seq=5, occurred_at_ms=1767225599000,
                         source_type=2, source_number=3,
                         body=struct.pack(">QHBB", 0xCAFE, 1, 2, 0)),
     lambda f: struct.pack(">IBBHQQHHHH", f["log_epoch"], f["flags"], f["family"], f["code"],
                           f["seq"], f["occurred_at_ms"], f["source_type"], f["source_number"],
                           len(f["body"]), 0) + f["body"]),
    ("event_without_body", 0x10, dict(log_epoch=2, flags=0, family=1, code=1, seq=6,
                                      occurred_at_ms=1767225599001, source_type=1, source_number=1,
                                      body=b""),
     lambda f: struct.pack(">IBBHQQHHHH", *[v for k, v in f.items() if k != "body"], 0, 0)),
    ("event_ack", 0x11, dict(log_epoch=2, seq=20), lambda f: struct.pack(">IIQ", f["log_epoch"], 0, f["seq"])),
    ("log_gap", 0x12, dict(log_epoch=2, first=21, last=40),
     lambda f: struct.pack(">IIQQ", f["log_epoch"], 0, f["first"], f["last"])),
    ("log_reset", 0x13, dict(old_epoch=2, new_epoch=3, seq=1, occurred_at_ms=1767225600500,
                             old_last_seq=90, cause=1),
     lambda f: struct.pack(">IIQQQH6x", *f.values())),
    ("command", 0x20, dict(id=ID, owner_epoch=9, not_after_ms=1767225605000, code=1, lane=0, body=BODY),
     pack_command),
    ("result", 0x21, dict(id=ID, status=2, flags=1, reason=3, index=7, body=b"door 9"),
     pack_result),
    ("ping", 0x30, dict(value=0x0123456789ABCDEF), lambda f: struct.pack(">Q", f["value"])),
    ("pong", 0x31, dict(value=0x0123456789ABCDEF), lambda f: struct.pack(">Q", f["value"])),
    ("time", 0x32, dict(host_time_ms=1767225600999, rtt_us=850, token=0x89ABCDEF),
     lambda f: struct.pack(">QII", *f.values())),
    *transfer(),
]


def fingerprint(serial, f):
    value = 0xCBF29CE484222325
    data = struct.pack(">QIQQBHHH", serial, f["log_epoch"], f["seq"], f["occurred_at_ms"], f["family"],
                       f["code"], f["source_type"], f["source_number"]) + f["body"]
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & (2**64 - 1)
    return value


def text(value):
    return "x" + value.hex() if isinstance(value, bytes) else str(value)


def main():
    assert crc32c(b"123456789") == 0xE3069283
    with open(os.path.join(os.path.dirname(__file__), "frames.txt"), "w", encoding="ascii") as out:
        for name, kind, fields, pack in VECTORS:
            if name.startswith("event") and "family" in fields:
                fields = dict(fields, fingerprint=fingerprint(12345, fields))
            known = {k: v for k, v in fields.items() if k != "fingerprint"}
            out.write(" ".join([name] + [f"{k}={text(v)}" for k, v in fields.items()]) + "\n")
            out.write(frame(kind, pack(known)).hex() + "\n")


if __name__ == "__main__":
    main()
