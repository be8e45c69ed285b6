/// Rows under a heading, as `-f pretty` shows them.
struct Table {
  struct Column {
    var title: String
    /// Name of the record's field.
    var field: String
    /// Numbers are set flush right.
    var isNumber = false
    /// How the field is shown, when not plainly.
    var show: (Value) -> String = { $0.plain }
  }

  var title: String
  var columns: [Column]
  var rows: [Record]

  /// The table between lines of +---+, the title in the first of them. Control characters that a peer
  /// may have put into a text are shown as `?`, so that none reaches the terminal.
  func rendered() -> String {
    let cells = rows.map { row in columns.map { Table.printable($0.show(row[$0.field])) } }
    let widths = columns.indices.map { column in
      max(columns[column].title.count, cells.map { $0[column].count }.max() ?? 0)
    }
    let border = "+" + widths.map { String(repeating: "-", count: $0 + 2) + "+" }.joined()
    var lines = [titled(border)]
    lines.append(line(columns.map(\.title), widths, numbers: false))
    lines.append(border)
    lines += cells.map { line($0, widths, numbers: true) }
    if !rows.isEmpty { lines.append(border) }
    return lines.joined(separator: "\n")
  }

  private func titled(_ border: String) -> String {
    let text = "+ \(Table.printable(title)) "
    guard text.count < border.count else { return text.dropLast() + "\n" + border }
    return text + border.dropFirst(text.count)
  }

  private func line(_ cells: [String], _ widths: [Int], numbers: Bool) -> String {
    let padded = cells.indices.map { i in
      let space = String(repeating: " ", count: widths[i] - cells[i].count)
      return numbers && columns[i].isNumber ? space + cells[i] : cells[i] + space
    }
    return "| " + padded.joined(separator: " | ") + " |"
  }

  static func printable(_ text: String) -> String {
    String(
      String.UnicodeScalarView(
        text.unicodeScalars.map { scalar in
          switch scalar.properties.generalCategory {
          case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate: "?"
          default: scalar
          }
        }))
  }
}
