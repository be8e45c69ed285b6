/* Owners that are slow, silent, half-closed, talk nonsense or die in the middle of a frame: what
 * the controller sees of them, and what they see of it. */
#include "relay-rig.h"

#include "../../Sources/CSCP/thread.h"

#include <fcntl.h>
#include <netinet/tcp.h>

static cscp *entry_to(const far_owner *s) {
    cscp_config config = node_config();
    config.hold_ms = 20000;
    cscp *entry = node_new(&config);
    node_relays(entry, s->port, 3);
    return entry;
}

/* A controller that was welcomed by an owner played by hand. */
static void join_far_owner_as(uint64_t serial, peer *p, peer *owner, const cscp *entry,
                         const far_owner *s) {
    cscp_proxy proxy;
    peer_connect(p, entry);
    peer_hello(p, serial);
    far_owner_accept(s, owner, &proxy);
    far_owner_welcome(owner, 3, 1);
    peer_expect_welcome(p);
}

static void join_far_owner(peer *p, peer *owner, const cscp *entry, const far_owner *s) {
    join_far_owner_as(5, p, owner, entry, s);
}

static void the_owner_is_told_who_it_is_and_that_it_is_relayed(void) {
    far_owner s = far_owner_new(), next = far_owner_new();
    cscp *entry = entry_to(&s);
    struct sockaddr_in address;
    socklen_t size = sizeof(address);
    cscp_proxy proxy;
    peer p, owner, other;
    cscp_hello hello = peer_hello_fields(5), seen;
    hello.capabilities = 0x1234;
    hello.boot_id = 99;
    hello.oldest_seq = 3;
    hello.last_seq = 20;
    hello.acked_seq = 4;
    hello.owner_epoch_seen = 2;
    hello.clock_ms = utc_ms() + 3600000;
    memset(hello.digest, 0xD1, sizeof(hello.digest));
    peer_connect(&p, entry);
    CHECK_EQ(getsockname(p.fd, (struct sockaddr *)&address, &size), 0);
    peer_say(&p, &hello);
    seen = far_owner_accept(&s, &owner, &proxy);
    CHECK(proxy.has_source && proxy.relayed && !proxy.again);
    CHECK_EQ(proxy.source_port, ntohs(address.sin_port));
    CHECK_EQ(proxy.target_port, cscp_port(entry));
    CHECK(memcmp(&proxy.source.s6_addr[12], "\x7f\0\0\1", 4) == 0);
    CHECK(seen.serial == 5 && seen.capabilities == 0x1234 && seen.boot_id == 99);
    CHECK(seen.oldest_seq == 3 && seen.last_seq == 20 && seen.acked_seq == 4);
    CHECK(seen.owner_epoch_seen == 2 && seen.capacity == 1000 && seen.log_epoch == 1);
    CHECK(seen.clock_ms + 1000 > hello.clock_ms && seen.clock_ms < hello.clock_ms + 10000);
    CHECK(memcmp(seen.digest, hello.digest, sizeof(seen.digest)) == 0);
    CHECK(seen.n_model == 5 && memcmp(seen.model, "model", 5) == 0);
    CHECK(seen.n_firmware == 3 && memcmp(seen.firmware, "1.0", 3) == 0);
    far_owner_welcome(&owner, 6, 5);
    CHECK_EQ(peer_expect_welcome(&p).session_id, 4006);
    for (uint64_t seq = 5; seq <= 25; seq++) {
        peer_event_at(&p, seq);
        CHECK_EQ(peer_expect_event(&owner), seq);
    }
    far_owner_ack(&owner, 19);
    CHECK_EQ(peer_expect_ack(&p), 19);
    uint8_t bytes[CSCP_U64_FRAME]; /* it has heard of a higher epoch elsewhere */
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_STALE, 11));
    peer_expect(&owner, CSCP_STALE);
    node_relays(entry, next.port, 12);
    seen = far_owner_accept(&next, &other, &proxy);
    CHECK(proxy.relayed && proxy.again);
    CHECK(seen.acked_seq == 19 && seen.last_seq == 25 && seen.owner_epoch_seen == 11);
    peer_expect_end(&owner);
    /* A log that is lost while nobody serves it is known to the next owner, too. */
    cscp_log_reset reset = {.old_epoch = 1, .new_epoch = 2, .seq = 1, .cause = 1};
    uint8_t frame[CSCP_FRAME_MAX];
    peer_write(&p, frame, cscp_write_log_reset(frame, &reset));
    peer_answer_ping(&p);
    HOST_UNTIL(entry, counters.frames_in >= 3); /* HELLO, the reset, PONG */
    peer_close(&other);
    seen = far_owner_accept(&next, &other, &proxy);
    CHECK(seen.log_epoch == 2 && seen.acked_seq == 0 && seen.oldest_seq == 1);
    CHECK_EQ(seen.last_seq, 1);
    peer_close(&p);
    peer_close(&owner);
    peer_close(&other);
    cscp_free(entry);
    close(s.fd);
    close(next.fd);
}

/* An owner that fails time and again is tried less often; a new epoch makes it a new one. */
static void try_again(cscp *entry, const far_owner *s) {
    static uint64_t epoch = 10;
    cscp_relay_info info;
    do CHECK_EQ(cscp_list_relays(entry, 0, &info, 1, PATIENCE_MS), 1);
    while (info.attached);
    node_relays(entry, s->port, ++epoch);
}

/* Whatever the owner was in the middle of, the controller can go on reading. */
static void half_a_frame_of_an_owner_is_nothing(void) {
    far_owner s = far_owner_new();
    cscp *entry = entry_to(&s);
    cscp_proxy proxy;
    peer p, owner;
    peer_connect(&p, entry);
    peer_hello(&p, 5);
    for (unsigned cut = 0; cut <= CSCP_EVENT_ACK_FRAME; cut += 3) {
        uint8_t frame[CSCP_EVENT_ACK_FRAME];
        cscp_hello hello = far_owner_accept(&s, &owner, &proxy);
        CHECK_EQ(hello.owner_epoch_seen, cut == 0 ? 0 : 2 + cut);
        far_owner_welcome(&owner, 5 + cut, 1);
        CHECK_EQ(peer_expect_another_welcome(&p).owner_epoch, 5 + cut);
        size_t n = cscp_write_event_ack(frame, 1, 0);
        for (size_t i = 0; i < cut && i < n; i++) {
            peer_write(&owner, frame + i, 1);
            if (i % 8 == 0) usleep(500);
        }
        peer_close(&owner);
        try_again(entry, &s);
    }
    CHECK_EQ(p.decoder.resyncs + p.decoder.skipped, 0);
    peer_close(&p);
    cscp_free(entry);
    close(s.fd);
}

typedef size_t nonsense(uint8_t *out);
static size_t noise(uint8_t *out) { return (size_t)snprintf((char *)out, 100, "HTTP/1.1 400 Bad\r\n"); }
static size_t event(uint8_t *out) {
    peer maker = {.log_epoch = 1};
    return peer_make_event(&maker, 1, out);
}
static size_t unknown(uint8_t *out) { return cscp_write_frame(out, 0x6A, NULL, 0); }
static size_t busy(uint8_t *out) { return cscp_write_busy(out, 60000, 60000); }
static size_t stopping(uint8_t *out) { return cscp_write_goaway(out, CSCP_REASON_STOPPING, 60000); }
static size_t not_owner(uint8_t *out) { return cscp_write_goaway(out, CSCP_REASON_NOT_OWNER, 1); }
static size_t old_welcome(uint8_t *out) {
    cscp_welcome welcome = {.session_id = 1, .owner_epoch = 1, .log_epoch = 1, .k = 1, .w = 1,
                            .resume_from = 1, .bulk_window = 1};
    return cscp_write_welcome(out, &welcome);
}
static size_t too_large(uint8_t *out) {
    size_t n = cscp_write_frame(out, CSCP_PING, NULL, 0);
    out[6] = 0xFF;
    uint32_t crc = cscp_crc32c(0, out, 8);
    for (int i = 0; i < 4; i++) out[8 + i] = (uint8_t)(crc >> (24 - 8 * i));
    return n;
}

static void nonsense_of_an_owner_does_not_reach_the_controller(void) {
    static nonsense *const kinds[] = {noise, event, unknown, busy, stopping, not_owner, old_welcome,
                                      too_large};
    far_owner s = far_owner_new();
    cscp *entry = entry_to(&s);
    cscp_proxy proxy;
    peer p, owner;
    peer_connect(&p, entry);
    peer_hello(&p, 5);
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        for (int welcomed = 0; welcomed < 2; welcomed++) {
            uint8_t bytes[CSCP_FRAME_MAX];
            far_owner_accept(&s, &owner, &proxy);
            if (welcomed) {
                far_owner_welcome(&owner, 5, 1);
                peer_expect_another_welcome(&p);
                p.last = 0; /* this PING is to be left */
                peer_ping(&owner, 1);
            }
            for (int times = 0; times < 1000; times++) /* closed at the latest after too much */
                (void)!send(owner.fd, bytes, kinds[i](bytes), MSG_NOSIGNAL);
            cscp_frame frame;
            CHECK_EQ(peer_read(&owner, &frame, PATIENCE_MS), 0);
            peer_close(&owner);
            try_again(entry, &s);
        }
    far_owner_accept(&s, &owner, &proxy);
    far_owner_welcome(&owner, 5, 1);
    peer_expect_another_welcome(&p);
    CHECK_EQ(p.decoder.resyncs + p.decoder.skipped, 0);
    CHECK(host_counters(entry).relay_losses >= 8);
    peer_close(&p);
    peer_close(&owner);
    cscp_free(entry);
    close(s.fd);
}

static void an_owner_that_does_not_answer_is_waited_for_no_longer_than_the_hold(void) {
    far_owner s = far_owner_new();
    cscp_config config = node_config();
    config.hold_ms = 300;
    cscp *entry = node_new(&config);
    peer p;
    node_relays(entry, s.port, 3);
    uint64_t begin = now_ms();
    peer_connect(&p, entry);
    peer_hello(&p, 5); /* the kernel connects; nobody accepts */
    peer_expect(&p, CSCP_BUSY);
    peer_expect_end(&p);
    CHECK(now_ms() - begin >= 300 && now_ms() - begin < 5000);
    peer_close(&p);
    HOST_UNTIL(entry, counters.relays == 0);
    cscp_free(entry);
    close(s.fd);
}

/* Nobody answers a SYN where the queue of those to be accepted is full. */
static void an_owner_that_cannot_be_reached_is_given_up_in_time(void) {
    far_owner s = far_owner_new(), next = far_owner_new();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(s.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct pollfd queue[16];
    unsigned n = 0;
    CHECK_EQ(listen(s.fd, 0), 0);
    do {
        CHECK(n < 16);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(fd, (struct sockaddr *)&address, sizeof(address));
        queue[n] = (struct pollfd){.fd = fd, .events = POLLOUT};
    } while (poll(&queue[n++], 1, 200) == 1);
    cscp_config config = node_config();
    config.relay_connect_timeout_ms = 100;
    config.hold_ms = 20000;
    cscp *entry = node_new(&config);
    cscp_proxy proxy;
    peer p, owner;
    node_relays(entry, s.port, 3);
    uint64_t begin = now_ms();
    peer_connect(&p, entry);
    peer_hello(&p, 5);
    HOST_UNTIL(entry, counters.relay_failures == 2);
    CHECK(now_ms() - begin >= 200 && now_ms() - begin < 5000);
    node_relays(entry, next.port, 4);
    far_owner_accept(&next, &owner, &proxy);
    far_owner_welcome(&owner, 4, 1);
    peer_expect_welcome(&p);
    while (n > 0) close(queue[--n].fd);
    peer_close(&p);
    peer_close(&owner);
    cscp_free(entry);
    close(s.fd);
    close(next.fd);
}

static void an_owner_that_half_closes_is_lost(void) {
    far_owner s = far_owner_new();
    cscp *entry = entry_to(&s);
    cscp_proxy proxy;
    peer p, owner, again;
    join_far_owner(&p, &owner, entry, &s);
    far_owner_ack(&owner, 0);
    shutdown(owner.fd, SHUT_WR);
    peer_expect_ack(&p); /* its last word */
    far_owner_accept(&s, &again, &proxy);
    peer_expect_end(&owner);
    far_owner_welcome(&again, 4, 1);
    CHECK_EQ(peer_expect_another_welcome(&p).owner_epoch, 4);
    peer_close(&p);
    peer_close(&owner);
    peer_close(&again);
    cscp_free(entry);
    close(s.fd);
}

static void a_controller_that_half_closes_is_heard_to_the_end_and_answered(void) {
    far_owner s = far_owner_new();
    cscp *entry = entry_to(&s);
    peer p, owner;
    join_far_owner(&p, &owner, entry, &s);
    for (uint64_t seq = 1; seq <= 40; seq++) peer_event_at(&p, seq);
    shutdown(p.fd, SHUT_WR);
    for (uint64_t seq = 1; seq <= 40; seq++) CHECK_EQ(peer_expect_event(&owner), seq);
    peer_expect_end(&owner);
    far_owner_ack(&owner, 40);
    CHECK_EQ(peer_expect_ack(&p), 40);
    peer_close(&owner);
    peer_expect_end(&p);
    HOST_UNTIL(entry, counters.connections == 0 && counters.relays == 0);
    CHECK_EQ(host_counters(entry).closed[CSCP_REASON_PEER_CLOSED], 1);
    CHECK(!far_owner_is_visited(&s, 0));
    peer_close(&p);
    cscp_free(entry);
    close(s.fd);
}

static void an_owner_does_not_keep_a_controller_that_has_gone(void) {
    far_owner s = far_owner_new();
    cscp_config config = node_config();
    config.t1_ms = 200;
    cscp *entry = node_new(&config);
    peer p, owner;
    node_relays(entry, s.port, 3);
    join_far_owner(&p, &owner, entry, &s);
    shutdown(p.fd, SHUT_WR);
    peer_expect_end(&owner); /* and it says nothing, and does not close */
    HOST_UNTIL(entry, counters.connections == 0 && counters.relays == 0);
    peer_close(&p);
    peer_close(&owner);
    cscp_free(entry);
    close(s.fd);
}

/* --- Back-pressure */

static cscp_relay_info the_relay(cscp *entry) {
    cscp_relay_info info;
    CHECK_EQ(cscp_list_relays(entry, 0, &info, 1, PATIENCE_MS), 1);
    return info;
}

static void shrink(int fd, int option) {
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, option, &(int){32768}, sizeof(int)), 0);
}

/* Sends frames of `type` with a number in them until nothing more is taken for a while. Returns how
 * many; the last one may have gone in part, *left says how much of it is left. */
static unsigned fill(int fd, uint8_t type, uint8_t *frame, size_t *size, size_t *left) {
    static uint8_t body[1000];
    unsigned n = 0;
    *left = 0;
    for (;;) {
        cscp_event e = {.log_epoch = 1, .seq = n + 1, .n_body = sizeof(body), .body = body};
        cscp_command_frame c = {.owner_epoch = 3, .n_body = sizeof(body), .body = body};
        struct pollfd fds = {.fd = fd, .events = POLLOUT};
        memcpy(c.id, &n, sizeof(n));
        *size = type == CSCP_EVENT ? cscp_write_event(frame, &e) : cscp_write_command(frame, &c);
        for (size_t at = 0; at < *size;) {
            if (poll(&fds, 1, 300) == 0) {
                *left = *size - at;
                return n + (at > 0);
            }
            ssize_t sent = send(fd, frame + at, *size - at, MSG_NOSIGNAL | MSG_DONTWAIT);
            CHECK(sent > 0 || errno == EAGAIN);
            if (sent > 0) at += (size_t)sent;
        }
        n++;
        CHECK(n < 1000000);
    }
}

static void a_slow_controller_holds_its_owner_up_and_nothing_else(void) {
    far_owner s = far_owner_new();
    cscp_config config = node_config();
    config.hold_ms = 20000;
    config.t1_ms = 60000;
    cscp *entry = node_new(&config);
    uint8_t frame[CSCP_FRAME_MAX];
    size_t size, left;
    peer p, owner, q, other;
    node_relays(entry, s.port, 3);
    peer_connect(&p, entry);
    shrink(p.fd, SO_RCVBUF);
    peer_hello(&p, 5);
    cscp_proxy proxy;
    shrink(s.fd, SO_RCVBUF);
    far_owner_accept(&s, &owner, &proxy);
    shrink(owner.fd, SO_SNDBUF);
    far_owner_welcome(&owner, 3, 1);
    peer_expect_welcome(&p);
    unsigned n = fill(owner.fd, CSCP_COMMAND, frame, &size, &left);
    CHECK(n > 50);
    cscp_relay_info info = the_relay(entry);
    CHECK(info.waiting_down > 0 && info.waiting_down <= config.relay_buffer);
    CHECK_EQ(info.waiting_up, 0);
    join_far_owner_as(6, &q, &other, entry, &s); /* another one is served as ever */
    peer_event_at(&q, 1);
    CHECK_EQ(peer_expect_event(&other), 1);
    peer_event_at(&p, 1); /* and the other way is open */
    CHECK_EQ(peer_expect_event(&owner), 1);
    uint64_t cpu = 0, begin = 0; /* nobody spins */
    clockid_t clock;
    struct timespec ts;
    CHECK_EQ(pthread_getcpuclockid(entry->threads[0]->pthread, &clock), 0);
    clock_gettime(clock, &ts);
    begin = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    usleep(300000);
    clock_gettime(clock, &ts);
    cpu = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec - begin;
    CHECK(cpu < 100000000);
    for (unsigned i = 0; i < n; i++) {
        cscp_command_frame command = peer_expect_command(&p);
        unsigned number;
        memcpy(&number, command.id, sizeof(number));
        CHECK_EQ(number, i);
        if (i + 2 == n && left > 0) peer_write(&owner, frame + size - left, left);
    }
    info = the_relay(entry);
    CHECK_EQ(info.waiting_down + info.waiting_up, 0);
    peer_close(&p);
    peer_close(&q);
    peer_close(&owner);
    peer_close(&other);
    cscp_free(entry);
    close(s.fd);
}

static void a_slow_owner_holds_its_controller_up_and_nothing_else(void) {
    far_owner s = far_owner_new();
    cscp *entry = entry_to(&s);
    uint8_t frame[CSCP_FRAME_MAX];
    size_t size, left;
    peer p, owner, q, other;
    shrink(s.fd, SO_RCVBUF);
    join_far_owner(&p, &owner, entry, &s);
    shrink(p.fd, SO_SNDBUF);
    unsigned n = fill(p.fd, CSCP_EVENT, frame, &size, &left);
    CHECK(n > 50);
    cscp_relay_info info = the_relay(entry);
    CHECK(info.waiting_up > 0 && info.waiting_up <= 16384);
    CHECK_EQ(info.waiting_down, 0);
    join_far_owner_as(6, &q, &other, entry, &s);
    peer_event_at(&q, 1);
    CHECK_EQ(peer_expect_event(&other), 1);
    far_owner_ack(&owner, 0);
    peer_expect_ack(&p);
    for (unsigned i = 0; i < n; i++) {
        CHECK_EQ(peer_expect_event(&owner), i + 1);
        if (i + 2 == n && left > 0) peer_write(&p, frame + size - left, left);
    }
    /* An owner that hangs like that is left when the routes say so, however much waits for it. */
    fill(p.fd, CSCP_EVENT, frame, &size, &left);
    far_owner next = far_owner_new();
    cscp_proxy proxy;
    peer third;
    node_relays(entry, next.port, 4);
    cscp_hello hello = far_owner_accept(&next, &third, &proxy);
    CHECK(hello.serial == 5 || hello.serial == 6); /* both are */
    CHECK(proxy.again);
    peer_close(&p);
    peer_close(&q);
    peer_close(&owner);
    peer_close(&other);
    peer_close(&third);
    cscp_free(entry);
    close(s.fd);
    close(next.fd);
}

static void a_controller_that_takes_nothing_is_given_up(void) {
    far_owner s = far_owner_new();
    cscp_config config = node_config();
    config.t1_ms = 400;
    config.hold_ms = 20000;
    cscp *entry = node_new(&config);
    static uint8_t payload[1000];
    uint8_t frame[CSCP_FRAME_MAX];
    size_t size = cscp_write_frame(frame, 0x80, payload, sizeof(payload));
    peer p, owner;
    cscp_proxy proxy;
    node_relays(entry, s.port, 3);
    peer_connect(&p, entry);
    shrink(p.fd, SO_RCVBUF);
    peer_hello(&p, 5);
    shrink(s.fd, SO_RCVBUF);
    far_owner_accept(&s, &owner, &proxy);
    far_owner_welcome(&owner, 3, 1);
    peer_expect_welcome(&p);
    struct pollfd fds = {.fd = owner.fd, .events = POLLOUT};
    while (poll(&fds, 1, 100) == 1 &&
           send(owner.fd, frame, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size)
        ;
    HOST_UNTIL(entry, counters.slow_readers == 1 && counters.relays == 0);
    peer_close(&p);
    peer_close(&owner);
    cscp_free(entry);
    close(s.fd);
}

int main(void) {
    RUN(the_owner_is_told_who_it_is_and_that_it_is_relayed);
    RUN(half_a_frame_of_an_owner_is_nothing);
    RUN(nonsense_of_an_owner_does_not_reach_the_controller);
    RUN(an_owner_that_does_not_answer_is_waited_for_no_longer_than_the_hold);
    RUN(an_owner_that_cannot_be_reached_is_given_up_in_time);
    RUN(an_owner_that_half_closes_is_lost);
    RUN(a_controller_that_half_closes_is_heard_to_the_end_and_answered);
    RUN(an_owner_does_not_keep_a_controller_that_has_gone);
    RUN(a_slow_controller_holds_its_owner_up_and_nothing_else);
    RUN(a_slow_owner_holds_its_controller_up_and_nothing_else);
    RUN(a_controller_that_takes_nothing_is_given_up);
    return 0;
}
