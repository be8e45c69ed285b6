import Glibc
import RedisLink
import Testing

/// Certificates made by `openssl` for these tests, in a folder that goes with this object:
/// `ca` signs `server` (localhost, 127.0.0.1), `elsewhere` (another name), `expired` and `client`;
/// `stranger` is another CA.
final class TestCertificates: Sendable {
  let folder: String

  init() throws {
    folder = try temporaryFolder()
    let script = #"""
      cd "$1" || exit 1
      new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
      for name in ca stranger; do
        openssl req -x509 $new -days 2 -subj "/CN=$name" -keyout $name.key -out $name.pem
      done
      printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >local
      printf 'subjectAltName=DNS:redis.example\n' >other
      sign() {
        openssl req -new $new -subj "/CN=$1" -keyout $1.key -out $1.req
        openssl x509 -req -in $1.req -CA ca.pem -CAkey ca.key -set_serial $3 -days $4 \
          -extfile $2 -out $1.pem
      }
      sign server local 1 2 && sign client local 2 2 && sign elsewhere other 3 2 &&
        sign expired local 4 -1
      """#
    try #require(shell(script, folder) == 0, "openssl could not make certificates")
  }

  deinit {
    removeFolder(folder)
  }

  func path(_ name: String) -> String { "\(folder)/\(name)" }

  var tls: RedisTLS { RedisTLS(ca: path("ca.pem")) }
  var tlsWithClient: RedisTLS {
    RedisTLS(ca: path("ca.pem"), certificate: path("client.pem"), key: path("client.key"))
  }

  /// What makes a redis-server show a certificate on `port`, and nothing without TLS.
  func arguments(_ certificate: String = "server", port: UInt16, clients: String = "no")
    -> [String]
  {
    [
      "--port", "0", "--tls-port", "\(port)", "--tls-cert-file", path("\(certificate).pem"),
      "--tls-key-file", path("\(certificate).key"), "--tls-ca-cert-file", path("ca.pem"),
      "--tls-auth-clients", clients,
    ]
  }
}

extension TestCertificates {
  /// Arguments as lines of a configuration file.
  func pairs(_ arguments: some Sequence<String>) -> [String] {
    var lines: [String] = []
    for word in arguments {
      if word.hasPrefix("--") {
        lines.append(String(word.dropFirst(2)))
      } else {
        lines[lines.count - 1] += " " + word
      }
    }
    return lines
  }
}

func temporaryFolder() throws -> String {
  var template = Array("/tmp/redis-link-XXXXXX".utf8CString)
  try #require(mkdtemp(&template) != nil)
  return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

func removeFolder(_ folder: String) {
  _ = shell(#"rm -rf "$1""#, folder)
}

/// Puts a copy of a file in another's place, at once.
func copy(_ source: String, _ target: String) throws {
  try #require(
    shell(#"cp "$1" "$2.new" && mv "$2.new" "$2""#, source, target) == 0, "no copy of \(source)")
}

/// Runs a script to its end and returns its exit code.
private func shell(_ script: String, _ arguments: String...) -> Int32 {
  var actions = posix_spawn_file_actions_t()
  posix_spawn_file_actions_init(&actions)
  defer { posix_spawn_file_actions_destroy(&actions) }
  for fd in 0...2 as ClosedRange<Int32> {
    posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0)
  }
  var argv = (["sh", "-c", script, "sh"] + arguments).map { strdup($0) } + [nil]
  defer { for word in argv { free(word) } }
  var pid: pid_t = 0
  guard posix_spawn(&pid, "/bin/sh", &actions, nil, &argv, environ) == 0 else { return -1 }
  var status: Int32 = 0
  waitpid(pid, &status, 0)
  return status
}
