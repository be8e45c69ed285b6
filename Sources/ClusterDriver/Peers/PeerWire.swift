import DriverProtocol
import Election

/// Questions and answers between nodes as they travel (driver_peer.proto). What can't be read is nil.
enum PeerWire {
  /// News of more ranges than that are not sent: the asker reads them from the store one day.
  static let newsMax = 20_000

  // MARK: Questions

  static func message(
    _ question: NodeMachine.Question, to node: NodeID
  ) -> Clusterdriver_V1_PeerQuestion {
    var message = Clusterdriver_V1_PeerQuestion()
    message.asked = node.name
    switch question {
    case .promise(let request):
      message.asker = self.message(request.asker)
      message.store = request.identity.text
      message.promise.round = request.round
      message.promise.version = request.version
      message.promise.probe = request.isProbe
    case .consent(let request):
      message.asker = self.message(request.asker)
      message.store = request.identity.text
      message.consent = Clusterdriver_V1_PeerConsentRequest()
      if let against = request.against { message.consent.against = self.message(against) }
    }
    return message
  }

  static func question(
    _ message: Clusterdriver_V1_PeerQuestion
  ) -> (asker: NodeID, question: NodeMachine.Question)? {
    guard message.hasAsker, !message.asker.node.isEmpty, !message.store.isEmpty else { return nil }
    let asker = self.owner(message.asker)
    let store = StoreIdentity(message.store)
    switch message.question {
    case .promise(let request):
      return (
        asker.node,
        .promise(
          FailsafeMachine.PromiseRequest(
            asker: asker, round: request.round, identity: store, version: request.version,
            isProbe: request.probe))
      )
    case .consent(let request):
      return (
        asker.node,
        .consent(
          FailsafeMachine.ConsentRequest(
            asker: asker, identity: store,
            against: request.hasAgainst ? self.watched(request.against) : nil))
      )
    case nil:
      return nil
    }
  }

  // MARK: Answers

  static func message(_ answer: NodeMachine.Answer) -> Clusterdriver_V1_PeerAnswer {
    var message = Clusterdriver_V1_PeerAnswer()
    switch answer {
    case .refused:
      message.refused = Clusterdriver_V1_PeerRefused()
    case .heard(let round):
      message.heard.round = round
    case .promised(let round, let store, let version, let news):
      // A promise with some of the news left out would say what is not so.
      guard news.count <= self.newsMax else { return self.message(.refused) }
      message.promised.round = round
      message.promised.store = store.text
      message.promised.version = version
      message.promised.news = news.map { self.message($0) }
    case .consented(let against):
      message.consented = Clusterdriver_V1_PeerConsented()
      if let against { message.consented.against = self.message(against) }
    }
    return message
  }

  static func answer(_ message: Clusterdriver_V1_PeerAnswer) -> NodeMachine.Answer? {
    switch message.answer {
    case .refused: return .refused
    case .promised(let promised):
      var news: [RangeRecord] = []
      for range in promised.news {
        guard let record = self.record(range), news.last.map({ $0.last < record.first }) ?? true
        else { return nil }
        news.append(record)
      }
      return .promised(
        round: promised.round, StoreIdentity(promised.store), version: promised.version, news: news)
    case .heard(let heard): return .heard(round: heard.round)
    case .consented(let consented):
      return .consented(against: consented.hasAgainst ? self.watched(consented.against) : nil)
    case nil: return nil
    }
  }

  // MARK: Parts

  static func owner(_ message: Clusterdriver_V1_PeerOwner) -> Owner {
    Owner(NodeID(message.node), Incarnation(message.incarnation))
  }

  static func message(_ owner: Owner) -> Clusterdriver_V1_PeerOwner {
    var message = Clusterdriver_V1_PeerOwner()
    message.node = owner.node.name
    message.incarnation = owner.incarnation.rawValue
    return message
  }

  private static func message(_ watched: StoreCall.Watched) -> Clusterdriver_V1_PeerSession {
    var message = Clusterdriver_V1_PeerSession()
    message.node = watched.node.name
    if let value = watched.value {
      message.value.incarnation = value.incarnation.rawValue
      message.value.counter = value.counter
    }
    return message
  }

  private static func watched(_ message: Clusterdriver_V1_PeerSession) -> StoreCall.Watched {
    StoreCall.Watched(
      NodeID(message.node),
      message.hasValue
        ? SessionValue(Incarnation(message.value.incarnation), message.value.counter) : nil)
  }

  private static func message(_ record: RangeRecord) -> Clusterdriver_V1_PeerRange {
    var message = Clusterdriver_V1_PeerRange()
    message.first = record.first.rawValue
    message.last = record.last.rawValue
    if let owner = record.owner { message.owner = self.message(owner) }
    message.epoch = record.epoch.rawValue
    message.weight = record.load.weight
    message.median = record.load.median?.rawValue ?? 0
    message.successors = record.successors.map(\.name)
    if let move = record.move {
      message.move.to = move.to.name
      message.move.number = move.number
    }
    message.store = record.store?.text ?? ""
    message.changed = record.changed
    return message
  }

  private static func record(_ message: Clusterdriver_V1_PeerRange) -> RangeRecord? {
    guard message.first >= Serial.lowest.rawValue, message.first <= message.last,
      message.last <= Serial.highest.rawValue
    else { return nil }
    return RangeRecord(
      first: Serial(message.first), last: Serial(message.last),
      owner: message.hasOwner
        ? self.owner(message.owner) : nil,
      epoch: Epoch(message.epoch),
      load: RangeLoad(
        weight: message.weight, median: message.median == 0 ? nil : Serial(message.median)),
      successors: message.successors.map { NodeID($0) },
      move: message.hasMove
        ? PendingMove(to: NodeID(message.move.to), number: message.move.number) : nil,
      store: message.store.isEmpty ? nil : StoreIdentity(message.store), changed: message.changed)
  }
}
