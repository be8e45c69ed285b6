/* Finding frames in bytes. The payloads are in cscp_payload.c.
 *
 * Why search inside a broken frame rather than behind it: a writer that was killed in the middle of a
 * frame may have been followed by another that simply began a new one, and then the next true header
 * lies inside what the broken header claims. The peer that sent the bytes is the only one such a search
 * can deceive itself about: every frame found still is that peer's own. */
#include "cscp_frame.h"
#include "wire.h"

#include <assert.h>
#include <errno.h>

static bool is_header(const uint8_t *p) {
    return get16(p) == CSCP_MAGIC && get32(p + 8) == cscp_crc32c(0, p, 8);
}

/* Next place at or after `from` where a header may begin: a whole one that is true, or the end of the
 * bytes cutting one short that so far looks right. n when there is none. */
static size_t find_header(const uint8_t *buf, size_t n, size_t from) {
    for (size_t i = from; i < n; i++) {
        const uint8_t *magic = memchr(buf + i, CSCP_MAGIC >> 8, n - i);
        if (!magic) return n;
        i = (size_t)(magic - buf);
        if (n - i >= CSCP_HEADER_SIZE) {
            if (is_header(magic)) return i;
        } else if (n - i < 2 || magic[1] == (CSCP_MAGIC & 0xFF)) {
            return i;
        }
    }
    return n;
}

static void begin_search(cscp_decoder *d) {
    if (!d->searching) d->resyncs++;
    d->searching = true;
}

int cscp_decode(cscp_decoder *d, const uint8_t *buf, size_t n, cscp_frame *ret_frame,
                size_t *ret_consumed) {
    size_t at = 0;
    for (;;) {
        if (d->searching) {
            size_t found = find_header(buf, n, at);
            d->skipped += found - at;
            at = found;
        }
        const uint8_t *header = buf + at;
        size_t have = n - at;
        if (have < CSCP_HEADER_SIZE) {
            /* While in step, a wrong beginning shows before the header is whole. */
            bool wrong = (have >= 1 && header[0] != CSCP_MAGIC >> 8) ||
                         (have >= 2 && header[1] != (CSCP_MAGIC & 0xFF));
            if (!wrong || d->searching) break;
        } else if (is_header(header)) {
            size_t n_payload = get32(header + 4);
            *ret_consumed = at;
            if (header[2] != CSCP_VERSION) return -EPROTONOSUPPORT;
            if (n_payload > CSCP_PAYLOAD_MAX) return -EMSGSIZE;
            size_t size = CSCP_HEADER_SIZE + n_payload + (n_payload ? CSCP_TRAILER_SIZE : 0);
            if (have < size) break;
            const uint8_t *payload = header + CSCP_HEADER_SIZE;
            if (!n_payload || get32(payload + n_payload) == cscp_crc32c(0, payload, n_payload)) {
                d->searching = false;
                *ret_frame = (cscp_frame){header[3], (uint16_t)n_payload, payload};
                *ret_consumed = at + size;
                return 1;
            }
        }
        begin_search(d);
        d->skipped++;
        at++;
    }
    *ret_consumed = at;
    return 0;
}

size_t cscp_write_frame(uint8_t *out, uint8_t type, const uint8_t *payload, size_t n) {
    assert(n <= CSCP_PAYLOAD_MAX);
    put16(out, CSCP_MAGIC);
    out[2] = CSCP_VERSION;
    out[3] = type;
    put32(out + 4, (uint32_t)n);
    put32(out + 8, cscp_crc32c(0, out, 8));
    if (n == 0) return CSCP_HEADER_SIZE;
    uint8_t *body = out + CSCP_HEADER_SIZE;
    if (payload && payload != body) memcpy(body, payload, n);
    put32(body + n, cscp_crc32c(0, body, n));
    return CSCP_HEADER_SIZE + n + CSCP_TRAILER_SIZE;
}

static const char *const reason_names[CSCP_REASON_MAX + 1] = {
    [CSCP_REASON_NONE] = "none",
    [CSCP_REASON_UNSUPPORTED_VERSION] = "unsupported_version",
    [CSCP_REASON_BAD_SERIAL] = "bad_serial",
    [CSCP_REASON_BAD_HELLO] = "bad_hello",
    [CSCP_REASON_OUT_OF_TURN] = "out_of_turn",
    [CSCP_REASON_BAD_ORDER] = "bad_order",
    [CSCP_REASON_WINDOW_EXCEEDED] = "window_exceeded",
    [CSCP_REASON_FRAME_TOO_LARGE] = "frame_too_large",
    [CSCP_REASON_OUT_OF_SYNC] = "out_of_sync",
    [CSCP_REASON_UNKNOWN_TYPE] = "unknown_type",
    [CSCP_REASON_BAD_PAYLOAD] = "bad_payload",
    [CSCP_REASON_HANDSHAKE_TIMEOUT] = "handshake_timeout",
    [CSCP_REASON_PING_TIMEOUT] = "ping_timeout",
    [CSCP_REASON_SLOW_READER] = "slow_reader",
    [CSCP_REASON_SUPERSEDED] = "superseded",
    [CSCP_REASON_PEER_CLOSED] = "peer_closed",
    [CSCP_REASON_CONNECTION_ERROR] = "connection_error",
    [CSCP_REASON_TOO_MANY_CONNECTIONS] = "too_many_connections",
    [CSCP_REASON_STOPPING] = "stopping",
    [CSCP_REASON_NOT_OWNER] = "not_owner",
    [CSCP_REASON_BUSY] = "busy",
    [CSCP_REASON_UNKNOWN_RESULT] = "unknown_result",
    [CSCP_REASON_PROXY_REFUSED] = "proxy_refused",
    [CSCP_REASON_PROXY_MALFORMED] = "proxy_malformed",
    [CSCP_REASON_OUT_OF_REACH] = "out_of_reach",
};

const char *cscp_reason_name(cscp_reason reason) {
    return (unsigned)reason <= CSCP_REASON_MAX ? reason_names[reason] : "unknown";
}
