/// What a result says in words. One place, so that the same thing is always said the same way.
enum CommandDetail {
  static let expired = "the deadline (not_after) passed before the controller could carry it out"
  static let notConnected = "the controller is not connected to this node"
  static let noAnswer =
    "it was sent, and no answer came: it may have been carried out, and will not be sent again"
  static let notAsked =
    "the controller is not connected, and it alone knows: the command came late, or by another node, "
    + "and may have been carried out before"
  static let noOwner =
    "no owner of the controller took it: whether it was carried out is not known, and this node does "
    + "not try any longer"
  static let tooManyAway =
    "the node has too many commands for controllers of other nodes: whether another one carried it "
    + "out is not known"
  static let stopping = "the node is stopping; give the command to another, or again in a moment"
  static let vendorBehind =
    "too much waits for the vendor app, whose acknowledgement is missing; try again later"
  static let tooManyOnNode = "the node has too many commands without a result; try again later"
  static let tooManyForController =
    "the controller has too many commands without a result; try again later"
  static let noBody = "its text is missing from the mailbox, or has more than 8192 bytes"
  static let perhapsSent =
    """
    the deadline (not_after) passed while the controller was away: it was given to it before, or to a \
    node that is gone, and may have been carried out
    """
  static let badTransfer =
    "the controller does not take a configuration: it wants it begun again and again, or says of none what it has"
  static let sequenceByOtherDoor =
    "a list or a configuration comes by the Attach stream or the mailbox only: there somebody keeps it until it has ended"
  static let keptForLong = "the controller did not come within seven days"
}
