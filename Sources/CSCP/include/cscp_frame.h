/* The frames of the controller protocol: sizes, types, a decoder and encoders.
 *
 * Pure: no I/O, no clock, no allocation, no state but the caller's. Used by both ends. The layout of
 * every frame is Docs/PROTOCOL.md; the vectors in Tests/vectors hold both ends to it. */
#ifndef CSCP_FRAME_H
#define CSCP_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

enum {
    CSCP_MAGIC = 0x5C70,
    CSCP_VERSION = 1,
    CSCP_HEADER_SIZE = 12,
    CSCP_TRAILER_SIZE = 4,
    CSCP_PAYLOAD_MAX = 4096,
    CSCP_FRAME_MAX = CSCP_HEADER_SIZE + CSCP_PAYLOAD_MAX + CSCP_TRAILER_SIZE,
    CSCP_NAME_MAX = 32,          /* model, firmware */
    CSCP_EVENT_BODY_MAX = 1024,
    CSCP_COMMAND_BODY_MAX = 4000,
    CSCP_RESULT_BODY_MAX = 1024,
    CSCP_COMMAND_ID_SIZE = 16,
    CSCP_DIGEST_SIZE = 16,
    CSCP_WINDOW_MAX = 1024,
};

typedef enum cscp_type {
    CSCP_HELLO = 0x01,
    CSCP_WELCOME = 0x02,
    CSCP_BUSY = 0x03,
    CSCP_REDIRECT = 0x04,
    CSCP_REJECT = 0x05,
    CSCP_STALE = 0x06,
    CSCP_GOAWAY = 0x07,
    CSCP_SUPERSEDED = 0x08,
    CSCP_EVENT = 0x10,
    CSCP_EVENT_ACK = 0x11,
    CSCP_LOG_GAP = 0x12,
    CSCP_LOG_RESET = 0x13,
    CSCP_COMMAND = 0x20,
    CSCP_RESULT = 0x21,
    CSCP_PING = 0x30,
    CSCP_PONG = 0x31,
    CSCP_TIME = 0x32,
    CSCP_TYPE_SKIPPABLE = 0x80,
} cscp_type;

/* Why a session was refused or ended (Docs/PROTOCOL.md, "Reasons"). */
typedef enum cscp_reason {
    CSCP_REASON_NONE = 0,
    CSCP_REASON_UNSUPPORTED_VERSION = 1,
    CSCP_REASON_BAD_SERIAL = 2,
    CSCP_REASON_BAD_HELLO = 3,
    CSCP_REASON_OUT_OF_TURN = 4,
    CSCP_REASON_BAD_ORDER = 5,
    CSCP_REASON_WINDOW_EXCEEDED = 6,
    CSCP_REASON_FRAME_TOO_LARGE = 7,
    CSCP_REASON_OUT_OF_SYNC = 8,
    CSCP_REASON_UNKNOWN_TYPE = 9,
    CSCP_REASON_BAD_PAYLOAD = 10,
    CSCP_REASON_HANDSHAKE_TIMEOUT = 11,
    CSCP_REASON_PING_TIMEOUT = 12,
    CSCP_REASON_SLOW_READER = 13,
    CSCP_REASON_SUPERSEDED = 14,
    CSCP_REASON_PEER_CLOSED = 15,
    CSCP_REASON_CONNECTION_ERROR = 16,
    CSCP_REASON_TOO_MANY_CONNECTIONS = 17,
    CSCP_REASON_STOPPING = 18,
    CSCP_REASON_NOT_OWNER = 19,
    CSCP_REASON_BUSY = 20,
    CSCP_REASON_UNKNOWN_RESULT = 21,
    CSCP_REASON_PROXY_REFUSED = 22,
    CSCP_REASON_PROXY_MALFORMED = 23,
    CSCP_REASON_OUT_OF_REACH = 24,
    CSCP_REASON_MAX = 24,
} cscp_reason;

/* "ping_timeout" and so on, as in Docs/PROTOCOL.md; "unknown" for any other number. Static. */
const char *cscp_reason_name(cscp_reason reason);

enum {
    CSCP_EVENT_REPLAYED = 1 << 0,
    CSCP_EVENT_PRIORITY = 1 << 1,
    CSCP_EVENT_ADVISORY = 1 << 2,
};

typedef enum cscp_lane {
    CSCP_LANE_URGENT = 0,
    CSCP_LANE_NORMAL = 1,
    CSCP_LANE_BULK = 2,
    CSCP_LANE_COUNT = 3,
} cscp_lane;

typedef enum cscp_result_status {
    CSCP_RESULT_DONE = 1,
    CSCP_RESULT_REFUSED = 2,
    CSCP_RESULT_EXPIRED = 3,
} cscp_result_status;

enum { CSCP_RESULT_REPEATED = 1 << 0 };

/* Decoded payloads. Pointers go into the buffer that was decoded, and live as long as it. */
typedef struct cscp_hello {
    uint64_t serial;
    uint8_t version_min, version_max;
    uint32_t capabilities;
    uint64_t boot_id;
    uint32_t log_epoch;
    uint32_t capacity;
    uint64_t oldest_seq, last_seq, acked_seq;
    uint64_t owner_epoch_seen;
    uint64_t clock_ms;
    uint8_t digest[CSCP_DIGEST_SIZE];
    uint8_t n_model, n_firmware;
    const char *model, *firmware; /* not terminated */
} cscp_hello;

typedef struct cscp_welcome {
    uint64_t session_id;
    uint64_t owner_epoch;
    uint32_t log_epoch;
    uint16_t k, w;
    uint64_t resume_from;
    uint64_t host_time_ms;
    uint32_t t1_ms, t2_ms, t3_ms;
    uint8_t bulk_window;
    uint8_t flags;
} cscp_welcome;

enum { CSCP_WELCOME_RESUMED = 1 << 0 };

typedef struct cscp_event {
    uint32_t log_epoch;
    uint8_t flags;
    uint8_t family;
    uint16_t code;
    uint64_t seq;
    uint64_t occurred_at_ms;
    uint16_t source_type, source_number;
    uint16_t n_body;
    const uint8_t *body;
} cscp_event;

typedef struct cscp_log_gap {
    uint32_t log_epoch;
    uint64_t from, to;
} cscp_log_gap;

typedef struct cscp_log_reset {
    uint32_t old_epoch, new_epoch;
    uint64_t seq;
    uint64_t occurred_at_ms;
    uint64_t old_last_seq;
    uint16_t cause;
} cscp_log_reset;

typedef struct cscp_event_ack_frame {
    uint32_t log_epoch;
    uint64_t seq;
} cscp_event_ack_frame;

typedef struct cscp_command_frame {
    uint8_t id[CSCP_COMMAND_ID_SIZE];
    uint64_t owner_epoch;
    uint64_t not_after_ms;
    uint16_t code;
    uint8_t lane;
    uint16_t n_body;
    const uint8_t *body;
} cscp_command_frame;

typedef struct cscp_result {
    uint8_t id[CSCP_COMMAND_ID_SIZE];
    uint8_t status;
    uint8_t flags;
    uint16_t reason;
    uint32_t index;
    uint16_t n_body;
    const uint8_t *body;
} cscp_result;

typedef struct cscp_time {
    uint64_t host_time_ms;
    uint32_t rtt_us;
    uint32_t token; /* lower half of the PING's whose PONG it follows */
} cscp_time;

/* BUSY: a = retry_after_ms, b = jitter_ms. GOAWAY: a = reason, b = spread_ms. */
typedef struct cscp_pair {
    uint32_t a, b;
} cscp_pair;

typedef struct cscp_reject {
    uint16_t reason;
    uint8_t n_text;
    const char *text; /* not terminated */
} cscp_reject;

/* CRC-32C; `crc` is the value so far, 0 to begin. Uses the processor's instruction where it has one. */
uint32_t cscp_crc32c(uint32_t crc, const void *data, size_t n);

/* A frame found by the decoder. */
typedef struct cscp_frame {
    uint8_t type;
    uint16_t n_payload;
    const uint8_t *payload; /* into the decoded buffer */
} cscp_frame;

/* Decoder state of one direction of one connection. Zero it to begin. */
typedef struct cscp_decoder {
    uint64_t skipped; /* bytes passed over, ever */
    uint32_t resyncs; /* searches begun, ever */
    bool searching;   /* in the middle of one */
} cscp_decoder;

/* Looks for one frame at the start of buf[0..n).
 *
 * Returns
 *   1           *ret_frame is a frame; *ret_consumed bytes are used up (skipped ones included)
 *   0           more bytes are needed; *ret_consumed bytes are used up (skipped ones), keep the rest:
 *               at most CSCP_FRAME_MAX - 1 bytes
 *   -EPROTONOSUPPORT  a true header of another version
 *   -EMSGSIZE         a true header with a length over CSCP_PAYLOAD_MAX
 * Both errors are final for the connection. However the bytes are cut into calls, the frames and the
 * counters are the same. Unknown types are returned like others; the caller decides. */
int cscp_decode(cscp_decoder *decoder, const uint8_t *buf, size_t n, cscp_frame *ret_frame,
                size_t *ret_consumed);

/* Parse a payload. Return 0, or -EBADMSG when it is shorter than its fields or a field is out of its
 * range (then *ret is untouched). */
int cscp_parse_hello(const uint8_t *p, size_t n, cscp_hello *ret);
int cscp_parse_welcome(const uint8_t *p, size_t n, cscp_welcome *ret);
int cscp_parse_busy(const uint8_t *p, size_t n, cscp_pair *ret);
int cscp_parse_goaway(const uint8_t *p, size_t n, cscp_pair *ret);
int cscp_parse_reject(const uint8_t *p, size_t n, cscp_reject *ret);
int cscp_parse_event(const uint8_t *p, size_t n, cscp_event *ret);
int cscp_parse_event_ack(const uint8_t *p, size_t n, cscp_event_ack_frame *ret);
int cscp_parse_log_gap(const uint8_t *p, size_t n, cscp_log_gap *ret);
int cscp_parse_log_reset(const uint8_t *p, size_t n, cscp_log_reset *ret);
int cscp_parse_command(const uint8_t *p, size_t n, cscp_command_frame *ret);
int cscp_parse_result(const uint8_t *p, size_t n, cscp_result *ret);
int cscp_parse_time(const uint8_t *p, size_t n, cscp_time *ret);
/* STALE, SUPERSEDED, PING, PONG: one u64. */
int cscp_parse_u64(const uint8_t *p, size_t n, uint64_t *ret);

/* Write a whole frame, header and CRCs included, to `out`, which has room for it (CSCP_FRAME_MAX always
 * does; the constants below where the size is fixed). Return the number of bytes written. Lengths over
 * the maxima are the caller's error and are asserted. */
enum {
    CSCP_WELCOME_FRAME = 12 + 56 + 4,
    CSCP_U64_FRAME = 12 + 8 + 4,
    CSCP_PAIR_FRAME = 12 + 8 + 4,
    CSCP_EVENT_ACK_FRAME = 12 + 16 + 4,
    CSCP_LOG_GAP_FRAME = 12 + 24 + 4,
    CSCP_LOG_RESET_FRAME = 12 + 40 + 4,
    CSCP_TIME_FRAME = 12 + 16 + 4,
};
size_t cscp_write_frame(uint8_t *out, uint8_t type, const uint8_t *_Nullable payload, size_t n);
size_t cscp_write_hello(uint8_t *out, const cscp_hello *in);
size_t cscp_write_welcome(uint8_t *out, const cscp_welcome *in);
size_t cscp_write_busy(uint8_t *out, uint32_t retry_after_ms, uint32_t jitter_ms);
size_t cscp_write_goaway(uint8_t *out, cscp_reason reason, uint32_t spread_ms);
size_t cscp_write_reject(uint8_t *out, cscp_reason reason, const char *text);
size_t cscp_write_event(uint8_t *out, const cscp_event *in);
size_t cscp_write_event_ack(uint8_t *out, uint32_t log_epoch, uint64_t seq);
size_t cscp_write_log_gap(uint8_t *out, const cscp_log_gap *in);
size_t cscp_write_log_reset(uint8_t *out, const cscp_log_reset *in);
size_t cscp_write_command(uint8_t *out, const cscp_command_frame *in);
size_t cscp_write_result(uint8_t *out, const cscp_result *in);
size_t cscp_write_time(uint8_t *out, const cscp_time *in);
size_t cscp_write_u64(uint8_t *out, uint8_t type, uint64_t value);

/* Fingerprint of an event, for comparing logs (Docs/PROTOCOL.md). */
uint64_t cscp_event_fingerprint(uint64_t serial, const cscp_event *event);

/* Digest of a configuration: the first 16 bytes of the SHA-256 of whatever was added. */
typedef struct cscp_digest {
    uint32_t state[8];
    uint64_t n; /* bytes added */
    uint8_t block[64];
} cscp_digest;

void cscp_digest_begin(cscp_digest *self);
void cscp_digest_add(cscp_digest *self, const void *data, size_t n);
/* Of what was added so far; more may be added afterwards. */
void cscp_digest_get(const cscp_digest *self, uint8_t ret[_Nonnull CSCP_DIGEST_SIZE]);

#pragma clang assume_nonnull end
#endif
