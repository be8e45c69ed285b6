import Testing

@testable import ClusterDriver

@Suite(".env files")
struct DotEnvTests {
  @Test("comments, quotes, escapes and export are read as shells and other tools read them")
  func values() {
    let text = """
      # a comment
      A=1
        export B = two words  # and a comment
      C='it # is $not "touched"\\n'
      D="a\\tb \\"c\\" \\$d \\\\" # comment
      E=p#ss=word
      F=
      G=""
      """
    let (entries, problems) = DotEnv.parse(text, path: ".env")
    #expect(problems.isEmpty)
    #expect(
      entries.map { "\($0.line) \($0.key)=\($0.value)" } == [
        "2 A=1", "3 B=two words", "4 C=it # is $not \"touched\"\\n", "5 D=a\tb \"c\" $d \\",
        "6 E=p#ss=word", "7 F=", "8 G=",
      ])
  }

  @Test("lines of Windows editors are lines")
  func carriageReturns() {
    let (entries, problems) = DotEnv.parse("A=1\r\nB=2\r\n", path: ".env")
    #expect(problems.isEmpty)
    #expect(entries.map(\.value) == ["1", "2"])
    #expect(entries.map(\.line) == [1, 2])
  }

  @Test(
    "a line that is none of these is told with its number",
    arguments: [
      ("A", "no \"=\"; write KEY=value, or # before a comment"),
      ("1A=1", "the key before \"=\" is not made of letters, digits and _"),
      ("=1", "the key before \"=\" is not made of letters, digits and _"),
      ("A-B=1", "the key before \"=\" is not made of letters, digits and _"),
      ("A=\"1", "the closing quote is missing"),
      ("A='1' 2", "something follows the closing quote"),
      ("A=\"\\x\"", "unknown escape \\x (use \\n, \\t, \\\", \\\\ or \\$)"),
    ])
  func badLines(line: String, why: String) {
    let (entries, problems) = DotEnv.parse("OK=1\n\(line)\nALSO=2", path: "x.env")
    #expect(problems == ["x.env line 2: \(why)"])
    #expect(entries.map(\.key) == ["OK", "ALSO"])
  }
}
