/* For tests of the whole layer: a host on a free port of the loopback, and controllers that say
 * what they are told to. Everything waits with a deadline and fails the test when it passes. */
#ifndef HOST_H
#define HOST_H

#include "check.h"
#include "cscp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000 };

static inline uint64_t now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static inline uint64_t boot_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t utc_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- The host */

static inline cscp_config host_config(void) {
    cscp_config config;
    cscp_config_init(&config);
    config.bind_address = "127.0.0.1";
    config.port = 0;
    config.n_io_threads = 1;
    return config;
}

/* A host that owns every serial under epoch 1, without end. */
static inline cscp *host_new(const cscp_config *config) {
    cscp_range all = {.first = 1, .last = UINT64_MAX - 1, .epoch = 1};
    cscp *host;
    CHECK_EQ(cscp_new(config, &host), 0);
    CHECK_EQ(cscp_set_ranges(host, &all, 1), 0);
    cscp_set_valid_until(host, UINT64_MAX);
    return host;
}

/* The next message of that kind; others are passed over. */
static inline cscp_message host_wait(cscp *host, cscp_message_kind kind) {
    uint64_t until = now_ms() + PATIENCE_MS;
    cscp_message message;
    while (now_ms() < until)
        if (cscp_get_message(host, &message, 100) == 1 && message.kind == kind) return message;
    fprintf(stderr, "no message of kind %u came\n", (unsigned)kind);
    abort();
}

/* The next message, whatever it is, must be of that kind. */
static inline cscp_message host_next(cscp *host, cscp_message_kind kind) {
    cscp_message message;
    CHECK_EQ(cscp_get_message(host, &message, PATIENCE_MS), 1);
    CHECK_EQ(message.kind, kind);
    return message;
}

static inline void host_ack(cscp *host, const cscp_message *message) {
    cscp_ack ack = {message->connection, message->log_epoch, message->seq};
    CHECK_EQ(cscp_event_ack(host, &ack, 1), 0);
}

static inline cscp_counters host_counters(const cscp *host) {
    cscp_counters counters;
    cscp_get_counters(host, &counters);
    return counters;
}

/* Waits until `condition`, in which `counters` are the newest. */
#define HOST_UNTIL(host, condition)                                                            \
    do {                                                                                       \
        uint64_t until_ms = now_ms() + PATIENCE_MS;                                            \
        for (;;) {                                                                             \
            cscp_counters counters = host_counters(host);                                      \
            if (condition) break;                                                              \
            if (now_ms() > until_ms) {                                                         \
                fprintf(stderr, "%s:%d: never came true: %s\n", __FILE__, __LINE__,            \
                        #condition);                                                           \
                exit(1);                                                                       \
            }                                                                                  \
            usleep(1000);                                                                      \
        }                                                                                      \
    } while (0)

/* --- A controller */

typedef struct peer {
    int fd;
    uint64_t serial, next;
    uint32_t log_epoch;
    cscp_decoder decoder;
    uint8_t buffer[65536];
    size_t n, used;
    uint8_t last;  /* type of the last frame */
    unsigned owed; /* TIMEs */
} peer;

static inline int peer_socket(const cscp *host) {
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(cscp_port(host)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static inline void peer_connect(peer *p, const cscp *host) {
    *p = (peer){.fd = peer_socket(host), .next = 1, .log_epoch = 1};
}

static inline void peer_close(peer *p) {
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
}

static inline void peer_write(peer *p, const void *bytes, size_t n) {
    const uint8_t *at = bytes;
    while (n > 0) {
        ssize_t r = send(p->fd, at, n, MSG_NOSIGNAL);
        CHECK(r > 0);
        at += r;
        n -= (size_t)r;
    }
}

static inline cscp_hello peer_hello_fields(uint64_t serial) {
    return (cscp_hello){
        .serial = serial, .version_min = 1, .version_max = 1, .boot_id = 7, .log_epoch = 1,
        .capacity = 1000, .oldest_seq = 1, .n_model = 5, .n_firmware = 3,
        .model = "model", .firmware = "1.0",
    };
}

static inline void peer_say(peer *p, const cscp_hello *hello) {
    uint8_t frame[CSCP_FRAME_MAX];
    p->serial = hello->serial;
    p->next = hello->acked_seq + 1;
    p->log_epoch = hello->log_epoch;
    peer_write(p, frame, cscp_write_hello(frame, hello));
}

static inline void peer_hello(peer *p, uint64_t serial) {
    cscp_hello hello = peer_hello_fields(serial);
    peer_say(p, &hello);
}

/* The PING that comes with a WELCOME is answered, and passed over like the TIME which that brings. */
static inline bool peer_keeps_time(peer *p, const cscp_frame *frame) {
    uint8_t last = p->last, bytes[CSCP_U64_FRAME];
    uint64_t token;
    p->last = frame->type;
    if (frame->type == CSCP_TIME && p->owed > 0) {
        p->owed--;
        return true;
    }
    if (frame->type != CSCP_PING || last != CSCP_WELCOME) return false;
    CHECK_EQ(cscp_parse_u64(frame->payload, frame->n_payload, &token), 0);
    peer_write(p, bytes, cscp_write_u64(bytes, CSCP_PONG, token));
    p->owed++;
    return true;
}

/* The next frame: 1; 0 when the host closed (or reset, with *ret_reset); -1 when ms passed. */
static inline int peer_read(peer *p, cscp_frame *frame, int ms) {
    uint64_t until = now_ms() + (uint64_t)ms;
    for (;;) {
        size_t consumed;
        struct pollfd fds = {.fd = p->fd, .events = POLLIN};
        int r = cscp_decode(&p->decoder, p->buffer + p->used, p->n - p->used, frame, &consumed);
        CHECK(r >= 0);
        p->used += consumed;
        if (r == 1 && peer_keeps_time(p, frame)) continue;
        if (r == 1) return 1;
        memmove(p->buffer, p->buffer + p->used, p->n - p->used);
        p->n -= p->used;
        p->used = 0;
        uint64_t now = now_ms();
        if (poll(&fds, 1, now < until ? (int)(until - now) : 0) == 0) return -1;
        ssize_t got = recv(p->fd, p->buffer + p->n, sizeof(p->buffer) - p->n, 0);
        if (got <= 0) return 0;
        p->n += (size_t)got;
    }
}

/* The next frame must be of that type. */
static inline cscp_frame peer_expect(peer *p, uint8_t type) {
    cscp_frame frame;
    int r = peer_read(p, &frame, PATIENCE_MS);
    if (r != 1 || frame.type != type) {
        fprintf(stderr, "expected frame %02x, got %s %02x\n", type,
                r == 1 ? "frame" : r == 0 ? "end" : "nothing", r == 1 ? frame.type : 0);
        abort();
    }
    return frame;
}

static inline void peer_expect_end(peer *p) {
    cscp_frame frame;
    CHECK_EQ(peer_read(p, &frame, PATIENCE_MS), 0);
}

static inline void peer_expect_silence(peer *p, int ms) {
    cscp_frame frame;
    CHECK_EQ(peer_read(p, &frame, ms), -1);
}

static inline cscp_welcome peer_expect_welcome(peer *p) {
    cscp_frame frame = peer_expect(p, CSCP_WELCOME);
    cscp_welcome welcome;
    CHECK_EQ(cscp_parse_welcome(frame.payload, frame.n_payload, &welcome), 0);
    p->next = welcome.resume_from;
    return welcome;
}

/* Right after a WELCOME: waits until what that brings is through. */
static inline void peer_hear_time(peer *p) {
    cscp_frame frame;
    p->last = 0;
    frame = peer_expect(p, CSCP_PING);
    p->last = CSCP_WELCOME;
    CHECK(peer_keeps_time(p, &frame));
    p->owed = 0;
    peer_expect(p, CSCP_TIME);
}

static inline void peer_join(peer *p, const cscp *host, uint64_t serial) {
    peer_connect(p, host);
    peer_hello(p, serial);
    peer_expect_welcome(p);
    peer_hear_time(p);
}

static inline size_t peer_make_event(const peer *p, uint64_t seq, uint8_t *frame) {
    cscp_event event = {
        .log_epoch = p->log_epoch, .family = 1, .code = 1, .seq = seq, .occurred_at_ms = 1000 + seq,
        .source_type = 1, .source_number = 2, .n_body = 4, .body = (const uint8_t *)"body",
    };
    return cscp_write_event(frame, &event);
}

static inline void peer_event_at(peer *p, uint64_t seq) {
    uint8_t frame[CSCP_FRAME_MAX];
    peer_write(p, frame, peer_make_event(p, seq, frame));
}

static inline void peer_event(peer *p) {
    peer_event_at(p, p->next++);
}

/* The ack that is the next frame. */
static inline uint64_t peer_expect_ack(peer *p) {
    cscp_frame frame = peer_expect(p, CSCP_EVENT_ACK);
    cscp_event_ack_frame ack;
    CHECK_EQ(cscp_parse_event_ack(frame.payload, frame.n_payload, &ack), 0);
    CHECK_EQ(ack.log_epoch, p->log_epoch);
    return ack.seq;
}

static inline cscp_command_frame peer_expect_command(peer *p) {
    cscp_frame frame = peer_expect(p, CSCP_COMMAND);
    cscp_command_frame command;
    CHECK_EQ(cscp_parse_command(frame.payload, frame.n_payload, &command), 0);
    return command;
}

static inline void peer_result(peer *p, const uint8_t *id) {
    uint8_t frame[CSCP_FRAME_MAX];
    cscp_result result = {.status = CSCP_RESULT_DONE};
    memcpy(result.id, id, sizeof(result.id));
    peer_write(p, frame, cscp_write_result(frame, &result));
}

/* REJECT or GOAWAY: its reason. Frames before it are passed over. */
static inline cscp_reason peer_expect_reason(peer *p) {
    cscp_frame frame;
    cscp_reject reject;
    cscp_pair pair;
    for (;;) {
        CHECK_EQ(peer_read(p, &frame, PATIENCE_MS), 1);
        if (frame.type == CSCP_REJECT) {
            CHECK_EQ(cscp_parse_reject(frame.payload, frame.n_payload, &reject), 0);
            return (cscp_reason)reject.reason;
        }
        if (frame.type == CSCP_GOAWAY) {
            CHECK_EQ(cscp_parse_goaway(frame.payload, frame.n_payload, &pair), 0);
            return (cscp_reason)pair.a;
        }
    }
}

#endif
