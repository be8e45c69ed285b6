#!/usr/bin/env python3
"""Posts a command: mailbox.py redis://HOST:6379 SERIAL '{"queryStatus": {}}' [ID]. Docs/VENDOR.md, "The mailbox"."""
import json, pathlib, secrets, sys
import redis

POST = pathlib.Path(__file__).with_name("mailbox_post.lua").read_text()

class Mailbox:
    def __init__(self, connection, cluster="main"):
        self._script = connection.register_script(POST)
        self._keys = [f"{{cd:{cluster}}}:{key}" for key in ("mail", "letters", "marks", "ended")]

    def post(self, serial, command, id=None):
        """"posted", "waiting" or "ended". When the reply is lost, post again under the same id."""
        said = self._script(self._keys, [serial, id or secrets.token_hex(16), json.dumps(command)])
        return said.decode() if isinstance(said, bytes) else said

if __name__ == "__main__":
    url, serial, command, *id = sys.argv[1:]
    print(Mailbox(redis.Redis.from_url(url)).post(serial, json.loads(command), *id))
