/// `; did you mean "--port"?` when one of the known words is near, else nothing.
func suggestion(for word: String, among known: [String]) -> String {
  let limit = max(2, word.count / 4)
  let nearest = known.map { (word: $0, distance: editDistance(word, $0)) }
    .min { $0.distance < $1.distance }
  guard let nearest, nearest.distance <= limit else { return "" }
  return "; did you mean \(nearest.word)?"
}

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a`.
func editDistance(_ a: String, _ b: String) -> Int {
  let a = Array(a.prefix(128).utf8)
  let b = Array(b.prefix(128).utf8)
  if a.isEmpty || b.isEmpty { return max(a.count, b.count) }
  var before: [Int] = []
  var last = Array(0...b.count)
  for i in 1...a.count {
    var row = [i] + [Int](repeating: 0, count: b.count)
    for j in 1...b.count {
      let replaced = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)
      row[j] = min(replaced, last[j] + 1, row[j - 1] + 1)
      if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
        row[j] = min(row[j], before[j - 2] + 1)
      }
    }
    before = last
    last = row
  }
  return last[b.count]
}

/// In double quotes, control characters escaped and cut to a length fit for a message.
func quoted(_ text: String) -> String {
  var quoted = "\""
  for scalar in text.unicodeScalars.prefix(200) {
    switch scalar {
    case "\"", "\\": quoted += "\\" + String(scalar)
    case _ where scalar.value < 0x20 || scalar.value == 0x7F:
      quoted += "\\x" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
    default: quoted.unicodeScalars.append(scalar)
    }
  }
  return quoted + (text.unicodeScalars.count > 200 ? "…\"" : "\"")
}
