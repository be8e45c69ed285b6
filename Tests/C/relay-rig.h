/* For tests of relaying: hosts that take PROXY headers from the loopback, routes between them, and
 * owners played by hand. */
#ifndef RELAY_RIG_H
#define RELAY_RIG_H

#include "host.h"
#include "../../Sources/CSCP/proxy.h"

enum { ALL_FIRST = 1 };
static const uint64_t all_last = UINT64_MAX - 1;

static inline cscp_config node_config(void) {
    static cscp_network loopback = {.prefix_bits = 96 + 8};
    cscp_config config = host_config();
    inet_pton(AF_INET6, "::ffff:127.0.0.0", loopback.address);
    config.trusted = &loopback;
    config.n_trusted = 1;
    config.window_w = 1;
    return config;
}

/* A host that owns nothing, and knows it. */
static inline cscp *node_new(const cscp_config *config) {
    cscp *host;
    CHECK_EQ(cscp_new(config, &host), 0);
    CHECK_EQ(cscp_set_ranges(host, NULL, 0), 0);
    cscp_set_valid_until(host, UINT64_MAX);
    return host;
}

static inline cscp_route route_of(uint16_t port, uint64_t epoch) {
    cscp_route route = {.first = ALL_FIRST, .last = all_last, .epoch = epoch};
    struct sockaddr_in *in = (void *)&route.address;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return route;
}

/* All serials are owned by this node. */
static inline void node_owns(cscp *host, uint64_t epoch) {
    cscp_range all = {ALL_FIRST, all_last, epoch};
    CHECK_EQ(cscp_set_ownership(host, &all, 1, NULL, 0), 0);
}

/* ... by the one that listens there. */
static inline void node_relays(cscp *host, uint16_t port, uint64_t epoch) {
    cscp_route route = route_of(port, epoch);
    CHECK_EQ(cscp_set_ownership(host, NULL, 0, &route, 1), 0);
}

static inline void node_knows_nobody(cscp *host) {
    CHECK_EQ(cscp_set_ownership(host, NULL, 0, NULL, 0), 0);
}

/* --- An owner by hand: its side of a relayed connection is a peer */

typedef struct far_owner {
    int fd;
    uint16_t port;
} far_owner;

static inline far_owner far_owner_new(void) {
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    far_owner s = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    CHECK_EQ(bind(s.fd, (struct sockaddr *)&address, size), 0);
    CHECK_EQ(listen(s.fd, 64), 0);
    CHECK_EQ(getsockname(s.fd, (struct sockaddr *)&address, &size), 0);
    s.port = ntohs(address.sin_port);
    return s;
}

static inline bool far_owner_is_visited(const far_owner *s, int ms) {
    struct pollfd fds = {.fd = s->fd, .events = POLLIN};
    return poll(&fds, 1, ms) == 1;
}

/* The next relayed connection: what its PROXY header and its HELLO say. */
static inline cscp_hello far_owner_accept(const far_owner *s, peer *p, cscp_proxy *ret_proxy) {
    uint8_t bytes[CSCP_PROXY_WRITTEN_MAX];
    size_t n = 0, consumed;
    cscp_hello hello;
    CHECK(far_owner_is_visited(s, PATIENCE_MS));
    *p = (peer){.fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC), .log_epoch = 1};
    CHECK(p->fd >= 0);
    while (cscp_proxy_read(bytes, n, ret_proxy, &consumed) == 0) { /* not a byte too many */
        CHECK(n < sizeof(bytes));
        CHECK_EQ(recv(p->fd, bytes + n, 1, 0), 1);
        n++;
    }
    CHECK(cscp_proxy_read(bytes, n, ret_proxy, &consumed) == 1 && consumed == n);
    cscp_frame frame = peer_expect(p, CSCP_HELLO);
    CHECK_EQ(cscp_parse_hello(frame.payload, frame.n_payload, &hello), 0);
    p->serial = hello.serial;
    return hello;
}

static inline void far_owner_welcome(peer *p, uint64_t epoch, uint64_t resume_from) {
    uint8_t frame[CSCP_WELCOME_FRAME];
    cscp_welcome welcome = {
        .session_id = 4000 + epoch, .owner_epoch = epoch, .log_epoch = 1, .k = 64, .w = 16,
        .resume_from = resume_from, .host_time_ms = 1, .t1_ms = 15000, .t2_ms = 100,
        .t3_ms = 20000, .bulk_window = 2,
    };
    peer_write(p, frame, cscp_write_welcome(frame, &welcome));
}

static inline void far_owner_ack(peer *p, uint64_t seq) {
    uint8_t frame[CSCP_EVENT_ACK_FRAME];
    peer_write(p, frame, cscp_write_event_ack(frame, 1, seq));
}

static inline uint64_t peer_expect_event(peer *p) {
    cscp_frame frame = peer_expect(p, CSCP_EVENT);
    cscp_event event;
    CHECK_EQ(cscp_parse_event(frame.payload, frame.n_payload, &event), 0);
    return event.seq;
}

static inline void peer_ping(peer *p, uint64_t token) {
    uint8_t frame[CSCP_U64_FRAME];
    peer_write(p, frame, cscp_write_u64(frame, CSCP_PING, token));
}

static inline void peer_expect_pong(peer *p, uint64_t expected) {
    cscp_frame frame = peer_expect(p, CSCP_PONG);
    uint64_t token;
    CHECK_EQ(cscp_parse_u64(frame.payload, frame.n_payload, &token), 0);
    CHECK_EQ(token, expected);
}

/* The next frame that is no PING and no TIME. */
static inline cscp_frame peer_expect_past_pings(peer *p, uint8_t type) {
    cscp_frame frame;
    do CHECK_EQ(peer_read(p, &frame, PATIENCE_MS), 1);
    while (frame.type == CSCP_PING || frame.type == CSCP_TIME);
    CHECK_EQ(frame.type, type);
    return frame;
}

static inline cscp_welcome peer_expect_another_welcome(peer *p) {
    cscp_frame frame = peer_expect_past_pings(p, CSCP_WELCOME);
    cscp_welcome welcome;
    CHECK_EQ(cscp_parse_welcome(frame.payload, frame.n_payload, &welcome), 0);
    p->next = welcome.resume_from;
    return welcome;
}

/* Answers a PING that is the next frame. */
static inline void peer_answer_ping(peer *p) {
    cscp_frame frame = peer_expect(p, CSCP_PING);
    uint8_t bytes[CSCP_U64_FRAME];
    uint64_t token;
    CHECK_EQ(cscp_parse_u64(frame.payload, frame.n_payload, &token), 0);
    peer_write(p, bytes, cscp_write_u64(bytes, CSCP_PONG, token));
}

#endif
