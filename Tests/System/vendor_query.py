"""The vendor app's query service, spoken with gRPC's own Python implementation.

The messages are made from the protos at import, so there is nothing generated to keep in step.
"""

import sys

import grpc

from harness import ROOT

_PROTOS = str(ROOT / "Sources/DriverProtocol/Protos")
if _PROTOS not in sys.path:
    sys.path.append(_PROTOS)

model = grpc.protos("model.proto")
vendor, vendor_services = grpc.protos_and_services("vendor_query.proto")


class VendorQuery:
    """A connection to a vendor app's VendorQuery service; close() it, or use it as a context."""

    def __init__(self, app, seconds=10):
        self._channel = grpc.insecure_channel(app.listen)
        self._stub = vendor_services.VendorQueryStub(self._channel)
        self._seconds = seconds

    def stats(self):
        return self._stub.GetStats(vendor.GetStatsRequest(), timeout=self._seconds)

    def audit(self):
        """What is stored of every log: {(serial, log_epoch): LogAudit}."""
        logs = self._stub.Audit(vendor.AuditRequest(), timeout=self._seconds)
        return {(log.serial, log.log_epoch): log for log in logs}

    def controllers(self):
        """Every controller it knows: {serial: ControllerRecord}."""
        records = self._stub.ListControllers(vendor.ListControllersRequest(), timeout=self._seconds)
        return {record.status.serial: record for record in records}

    def events(self, serial=0, limit=0):
        request = vendor.ListEventsRequest(serial=serial, limit=limit)
        return list(self._stub.ListEvents(request, timeout=self._seconds))

    def send(self, command):
        """Sends a command by the Attach stream and returns its CommandResult."""
        return self._stub.SendCommand(command, timeout=self._seconds)

    def send_later(self, command, seconds=60):
        """The same, at once: what it returns has its result() later."""
        return self._stub.SendCommand.future(command, timeout=seconds)

    def sequences(self, serial=0):
        """Command sequences whose progress was told: {id: SequenceRecord}."""
        records = self._stub.ListSequences(vendor.ListSequencesRequest(serial=serial), timeout=self._seconds)
        return {record.progress.id: record for record in records}

    def close(self):
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
