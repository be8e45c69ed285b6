internal import CFleet
internal import DriverProtocol
internal import GRPCCore
internal import GRPCNGHTTP2

/// Compares what was acknowledged with what the vendor app says is stored.
enum Verification {
  typealias Query = Clusterdriver_V1_VendorQuery.Client<NGHTTP2ClientTransport>

  static func address(_ text: String) throws -> NGHTTP2Address {
    let scheme = "grpc://"
    guard text.hasPrefix(scheme), let address = NGHTTP2Address(String(text.dropFirst(scheme.count)))
    else {
      throw Failure("verify: '\(text)' is not grpc://HOST:PORT or grpc://unix:PATH")
    }
    return address
  }

  static func run(_ fleet: Fleet, _ address: NGHTTP2Address, _ options: Options) async throws {
    var request = Clusterdriver_V1_AuditRequest()
    request.firstSerial = options.firstSerial
    request.lastSerial = options.firstSerial + UInt64(options.controllers) - 1
    let audits = try await audits(request, address)
    for audit in audits { fleet.verify(audit) }
    fleet.verifyFinish()
  }

  private static func audits(
    _ asked: Clusterdriver_V1_AuditRequest, _ address: NGHTTP2Address
  ) async throws -> [fleet_audit] {
    do {
      var config = NGHTTP2ClientConfig()
      config.connectTimeout = .seconds(5)
      let transport = try NGHTTP2ClientTransport(target: address, config: config)
      return try await withGRPCClient(transport: transport) { client in
        var options = CallOptions.defaults
        options.timeout = .seconds(120)
        return try await Query(wrapping: client).audit(asked, options: options) { response in
          var audits: [fleet_audit] = []
          for try await log in response.messages { audits.append(fleet_audit(log)) }
          return audits
        }
      }
    } catch let error as RPCError {
      throw Failure("cannot verify with the vendor app at \(address): \(error.message)")
    }
  }
}

extension fleet_audit {
  init(_ log: Clusterdriver_V1_LogAudit) {
    self.init(
      serial: log.serial, log_epoch: log.logEpoch, first_seq: log.firstSeq, last_seq: log.lastSeq,
      gap_records: log.gapRecords, holes: log.holes, fingerprint_sum: log.fingerprintSum,
      duplicates: log.duplicates)
  }
}
