"""Prints a vendor app's counters as JSON: `vendor_stats.py HOST:PORT`. A program, so that it can run on a host."""

import json
import sys
import types

from google.protobuf.json_format import MessageToDict

from vendor_query import VendorQuery

with VendorQuery(types.SimpleNamespace(listen=sys.argv[1]), seconds=5) as query:
    said = MessageToDict(query.stats(), preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    print(json.dumps({name: int(value) for name, value in said.items()}))
