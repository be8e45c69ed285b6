# shellcheck shell=bash
# Read by the other scripts: where the project is, how a script speaks, how a stage counts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck disable=SC2034 # used by those who read this
jobs=${JOBS:-$(nproc)}

say() { printf '%s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

# clang of the Swift toolchain: it brings the sanitizers and libFuzzer, and reads the same C as
# `swift build` does.
swift_clang() {
  local swift
  if [[ -n ${CLANG:-} ]]; then
    printf '%s\n' "$CLANG"
    return
  fi
  swift=$(command -v swift) || die "no swift on PATH: install a Swift 6.3 toolchain (swift.org/install) and add its usr/bin to PATH"
  for swift in "$swift" "$(readlink -f "$swift")"; do
    if [[ -x ${swift%/*}/clang ]]; then
      printf '%s\n' "${swift%/*}/clang"
      return
    fi
  done
  command -v clang || die "no clang beside swift nor on PATH: set CLANG to the toolchain's"
}

# Closes a stage: prints its sum and, within `make test`, leaves it to scripts/test.
# tally PASSED FAILED [SKIPPED]; returns 1 when something failed.
tally() {
  local passed=$1 failed=$2 skipped=${3:-0}
  printf '%d passed, %d failed%s\n' "$passed" "$failed" \
    "$( ((skipped)) && printf ', %d skipped' "$skipped")"
  if [[ -n ${TALLY_FILE:-} ]]; then
    printf '%d %d %d\n' "$passed" "$failed" "$skipped" >>"$TALLY_FILE"
  fi
  ((failed == 0))
}
