/* Bad input harms only its sender: each fault ends its own connection, with the reason told to the
 * peer and in a notice, while a bystander goes on. */
#include "host.h"

/* A bystander who is served before and after, on the same thread. */
typedef struct stage {
    cscp *host;
    peer bystander;
} stage;

static stage stage_new(const cscp_config *config) {
    stage s = {.host = host_new(config)};
    peer_join(&s.bystander, s.host, 77);
    host_next(s.host, CSCP_MSG_CONNECTED);
    return s;
}

static void stage_free(stage *s) {
    peer_event(&s->bystander);
    cscp_message event = host_wait(s->host, CSCP_MSG_EVENT);
    CHECK_EQ(event.serial, 77);
    peer_close(&s->bystander);
    cscp_free(s->host);
}

static void expect_refused(stage *s, peer *p, cscp_reason reason) {
    cscp_message notice = host_wait(s->host, CSCP_MSG_NOTICE);
    CHECK_EQ(notice.reason, reason);
    CHECK_EQ(notice.serial, p->serial);
    CHECK(notice.n_body > 10 && memcmp(notice.body, "127.0.0.1:", 10) == 0);
    CHECK_EQ(peer_expect_reason(p), reason);
    peer_expect_end(p);
    peer_close(p);
    CHECK_EQ(host_counters(s->host).closed[reason], 1);
}

/* The same for a session that was welcomed. */
static void expect_ended(stage *s, peer *p, cscp_reason reason) {
    expect_refused(s, p, reason);
    CHECK_EQ(host_wait(s->host, CSCP_MSG_DISCONNECTED).reason, reason);
}

static stage begin(void) {
    cscp_config config = host_config();
    return stage_new(&config);
}

static void send_raw(const uint8_t *bytes, size_t n, cscp_reason reason) {
    stage s = begin();
    peer p;
    peer_connect(&p, s.host);
    peer_write(&p, bytes, n);
    expect_refused(&s, &p, reason);
    stage_free(&s);
}

static void a_wrong_magic_is_out_of_sync(void) {
    send_raw((const uint8_t *)"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, CSCP_REASON_OUT_OF_SYNC);
}

static void a_broken_crc_before_hello_is_out_of_sync(void) {
    uint8_t bytes[CSCP_FRAME_MAX];
    cscp_hello hello = peer_hello_fields(5);
    size_t n = cscp_write_hello(bytes, &hello);
    bytes[n - 1] ^= 1;
    send_raw(bytes, n, CSCP_REASON_OUT_OF_SYNC);
}

/* A header with a right CRC. */
static size_t header(uint8_t *out, uint8_t version, uint8_t type, uint32_t n) {
    uint8_t bytes[8] = {0x5c, 0x70, version, type, (uint8_t)(n >> 24), (uint8_t)(n >> 16),
                        (uint8_t)(n >> 8), (uint8_t)n};
    uint32_t crc = cscp_crc32c(0, bytes, 8);
    memcpy(out, bytes, 8);
    for (int i = 0; i < 4; i++) out[8 + i] = (uint8_t)(crc >> (24 - 8 * i));
    return 12;
}

static void a_payload_of_5000_bytes_is_too_large(void) {
    uint8_t bytes[12 + 5000 + 4] = {0};
    header(bytes, 1, CSCP_HELLO, 5000);
    send_raw(bytes, sizeof(bytes), CSCP_REASON_FRAME_TOO_LARGE);
    header(bytes, 1, CSCP_HELLO, 0xffffffff);
    send_raw(bytes, 12, CSCP_REASON_FRAME_TOO_LARGE);
}

static void another_version_is_unsupported(void) {
    uint8_t bytes[12];
    header(bytes, 2, CSCP_HELLO, 0);
    send_raw(bytes, sizeof(bytes), CSCP_REASON_UNSUPPORTED_VERSION);
    uint8_t frame[CSCP_FRAME_MAX];
    cscp_hello hello = peer_hello_fields(5);
    hello.version_min = 2;
    hello.version_max = 3;
    send_raw(frame, cscp_write_hello(frame, &hello), CSCP_REASON_UNSUPPORTED_VERSION);
}

static void a_hello_cut_short_is_bad(void) {
    uint8_t frame[CSCP_FRAME_MAX], payload[80] = {[7] = 5};
    send_raw(frame, cscp_write_frame(frame, CSCP_HELLO, payload, sizeof(payload)),
             CSCP_REASON_BAD_HELLO);
    send_raw(frame, cscp_write_frame(frame, CSCP_HELLO, NULL, 0), CSCP_REASON_BAD_HELLO);
}

static void a_serial_of_0_or_all_ones_is_bad(void) {
    uint8_t frame[CSCP_FRAME_MAX];
    cscp_hello hello = peer_hello_fields(0);
    send_raw(frame, cscp_write_hello(frame, &hello), CSCP_REASON_BAD_SERIAL);
    hello.serial = UINT64_MAX;
    send_raw(frame, cscp_write_hello(frame, &hello), CSCP_REASON_BAD_SERIAL);
}

static void a_hello_that_contradicts_itself_is_bad(void) {
    uint8_t frame[CSCP_FRAME_MAX];
    cscp_hello hello = peer_hello_fields(5);
    hello.acked_seq = 1;
    send_raw(frame, cscp_write_hello(frame, &hello), CSCP_REASON_BAD_HELLO);
    hello = peer_hello_fields(5);
    hello.oldest_seq = 2;
    send_raw(frame, cscp_write_hello(frame, &hello), CSCP_REASON_BAD_HELLO);
    hello.oldest_seq = 0;
    send_raw(frame, cscp_write_hello(frame, &hello), CSCP_REASON_BAD_HELLO);
    hello = peer_hello_fields(5);
    hello.capacity = 0;
    send_raw(frame, cscp_write_hello(frame, &hello), CSCP_REASON_BAD_HELLO);
    hello = peer_hello_fields(5);
    hello.last_seq = UINT64_MAX;
    hello.acked_seq = UINT64_MAX;
    send_raw(frame, cscp_write_hello(frame, &hello), CSCP_REASON_BAD_HELLO);
}

static void an_event_before_hello_is_out_of_turn(void) {
    uint8_t frame[CSCP_FRAME_MAX];
    peer p = {.log_epoch = 1};
    send_raw(frame, peer_make_event(&p, 1, frame), CSCP_REASON_OUT_OF_TURN);
    send_raw(frame, cscp_write_u64(frame, CSCP_PING, 1), CSCP_REASON_OUT_OF_TURN);
}

static void an_unknown_type_before_hello_ends_it_too(void) {
    uint8_t frame[CSCP_FRAME_MAX];
    send_raw(frame, cscp_write_frame(frame, 0x55, NULL, 0), CSCP_REASON_UNKNOWN_TYPE);
}

/* After WELCOME. */
static void send_in_session(const uint8_t *bytes, size_t n, cscp_reason reason) {
    stage s = begin();
    peer p;
    peer_join(&p, s.host, 5);
    peer_write(&p, bytes, n);
    expect_ended(&s, &p, reason);
    stage_free(&s);
}

static void a_second_hello_is_out_of_turn(void) {
    uint8_t frame[CSCP_FRAME_MAX];
    cscp_hello hello = peer_hello_fields(5);
    send_in_session(frame, cscp_write_hello(frame, &hello), CSCP_REASON_OUT_OF_TURN);
}

static void a_frame_of_the_hosts_is_out_of_turn(void) {
    uint8_t frame[CSCP_FRAME_MAX];
    send_in_session(frame, cscp_write_event_ack(frame, 1, 1), CSCP_REASON_OUT_OF_TURN);
}

static void an_unknown_type_ends_the_session(void) {
    uint8_t frame[CSCP_FRAME_MAX];
    send_in_session(frame, cscp_write_frame(frame, 0x7f, (const uint8_t *)"x", 1),
                    CSCP_REASON_UNKNOWN_TYPE);
}

static void an_unknown_type_with_the_high_bit_is_skipped(void) {
    stage s = begin();
    uint8_t frame[CSCP_FRAME_MAX];
    peer p;
    peer_connect(&p, s.host);
    peer_write(&p, frame, cscp_write_frame(frame, 0x80, NULL, 0));
    peer_hello(&p, 5);
    peer_expect_welcome(&p);
    host_wait(s.host, CSCP_MSG_CONNECTED);
    peer_write(&p, frame, cscp_write_frame(frame, 0xff, (const uint8_t *)"x", 1));
    peer_event(&p);
    CHECK_EQ(host_next(s.host, CSCP_MSG_EVENT).serial, 5);
    peer_close(&p);
    stage_free(&s);
}

static void an_event_out_of_order_ends_the_session(void) {
    uint8_t bytes[2 * CSCP_FRAME_MAX];
    peer p = {.log_epoch = 1};
    size_t n = peer_make_event(&p, 1, bytes);
    n += peer_make_event(&p, 3, bytes + n);
    send_in_session(bytes, n, CSCP_REASON_BAD_ORDER);
    n = peer_make_event(&p, 1, bytes);
    n += peer_make_event(&p, 1, bytes + n);
    send_in_session(bytes, n, CSCP_REASON_BAD_ORDER);
    p.log_epoch = 2;
    send_in_session(bytes, peer_make_event(&p, 1, bytes), CSCP_REASON_BAD_ORDER);
    cscp_log_gap gap = {.log_epoch = 1, .from = 2, .to = 5};
    send_in_session(bytes, cscp_write_log_gap(bytes, &gap), CSCP_REASON_BAD_ORDER);
    cscp_log_reset reset = {.old_epoch = 1, .new_epoch = 2, .seq = 1, .cause = 1};
    n = cscp_write_log_reset(bytes, &reset);
    n += cscp_write_log_reset(bytes + n, &reset);
    send_in_session(bytes, n, CSCP_REASON_BAD_ORDER);
}

static void one_event_more_than_the_window_ends_the_session(void) {
    cscp_config config = host_config();
    config.window_k = 4;
    config.window_w = 2;
    stage s = stage_new(&config);
    peer p;
    peer_join(&p, s.host, 5);
    for (int i = 0; i < 5; i++) peer_event(&p);
    for (uint64_t seq = 1; seq <= 4; seq++)
        CHECK_EQ(host_wait(s.host, CSCP_MSG_EVENT).seq, seq);
    expect_ended(&s, &p, CSCP_REASON_WINDOW_EXCEEDED);
    stage_free(&s);
}

static void an_event_cut_short_is_a_bad_payload(void) {
    uint8_t frame[CSCP_FRAME_MAX], payload[40] = {[3] = 1, [15] = 1, [29] = 9};
    send_in_session(frame, cscp_write_frame(frame, CSCP_EVENT, payload, 31),
                    CSCP_REASON_BAD_PAYLOAD);
    send_in_session(frame, cscp_write_frame(frame, CSCP_EVENT, payload, 40),
                    CSCP_REASON_BAD_PAYLOAD);
    send_in_session(frame, cscp_write_frame(frame, CSCP_PING, payload, 7), CSCP_REASON_BAD_PAYLOAD);
    send_in_session(frame, cscp_write_frame(frame, CSCP_RESULT, payload, 27),
                    CSCP_REASON_BAD_PAYLOAD);
}

static void a_session_survives_three_resyncs_and_no_more(void) {
    stage s = begin();
    uint8_t frame[CSCP_FRAME_MAX];
    peer p;
    peer_join(&p, s.host, 5);
    for (int i = 1; i <= 3; i++) {
        peer_write(&p, "noise", 5);
        peer_write(&p, frame, cscp_write_u64(frame, CSCP_PING, 1));
        peer_expect(&p, CSCP_PONG);
    }
    CHECK_EQ(host_counters(s.host).resyncs, 3);
    CHECK_EQ(host_counters(s.host).bytes_skipped, 15);
    peer_write(&p, "noise, and more of it", 21);
    expect_ended(&s, &p, CSCP_REASON_OUT_OF_SYNC);
    stage_free(&s);
}

static void results_nobody_asked_for_end_the_session_at_last(void) {
    stage s = begin();
    uint8_t id[CSCP_COMMAND_ID_SIZE] = {1};
    peer p;
    peer_join(&p, s.host, 5);
    for (int i = 0; i < 65; i++) peer_result(&p, id);
    expect_ended(&s, &p, CSCP_REASON_UNKNOWN_RESULT);
    stage_free(&s);
}

static void silence_after_a_ping_ends_the_session(void) {
    cscp_config config = host_config();
    config.t3_ms = 50;
    config.t2_ms = 20;
    config.t1_ms = 50;
    cscp *host = host_new(&config);
    peer p;
    peer_join(&p, host, 5);
    peer_expect(&p, CSCP_PING);
    CHECK_EQ(host_wait(host, CSCP_MSG_NOTICE).reason, CSCP_REASON_PING_TIMEOUT);
    CHECK_EQ(host_wait(host, CSCP_MSG_DISCONNECTED).reason, CSCP_REASON_PING_TIMEOUT);
    CHECK_EQ(host_counters(host).ping_timeouts, 1);
    peer_expect_end(&p);
    peer_close(&p);
    cscp_free(host);
}

static void who_reads_nothing_is_a_slow_reader(void) {
    cscp_config config = host_config();
    config.t1_ms = 300;
    config.t2_ms = 100;
    config.t3_ms = 100000;
    config.commands_max = 60000;
    stage s = stage_new(&config);
    static uint8_t body[CSCP_COMMAND_BODY_MAX];
    cscp_message message;
    unsigned n = 0, n_full = 0, n_outcomes = 0;
    bool noticed = false, ended = false;
    peer p;
    peer_connect(&p, s.host);
    setsockopt(p.fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
    peer_hello(&p, 5);
    peer_expect_welcome(&p);
    host_wait(s.host, CSCP_MSG_CONNECTED);
    /* As much as it takes, until the session ends. */
    while (!ended) {
        cscp_command command = {
            .serial = 5, .code = 1, .lane = CSCP_LANE_NORMAL, .n_body = sizeof(body), .body = body,
        };
        memcpy(command.id, &n, sizeof(n));
        int r = cscp_config_command(s.host, &command);
        CHECK(r == 0 || r == -ENOBUFS || r == -ENOTCONN);
        n += r == 0;
        n_full += r == -ENOBUFS;
        while (cscp_get_message(s.host, &message, r == 0 ? 0 : 1) == 1) {
            n_outcomes += message.kind == CSCP_MSG_COMMAND;
            noticed |= message.kind == CSCP_MSG_NOTICE && message.reason == CSCP_REASON_SLOW_READER;
            ended |= message.kind == CSCP_MSG_DISCONNECTED;
        }
    }
    CHECK(n_full > 0);
    CHECK(noticed);
    CHECK_EQ(n_outcomes, n); /* exactly one end each, before that of the session */
    CHECK_EQ(host_counters(s.host).slow_readers, 1);
    peer_close(&p);
    stage_free(&s);
}

int main(void) {
    RUN(a_wrong_magic_is_out_of_sync);
    RUN(a_broken_crc_before_hello_is_out_of_sync);
    RUN(a_payload_of_5000_bytes_is_too_large);
    RUN(another_version_is_unsupported);
    RUN(a_hello_cut_short_is_bad);
    RUN(a_serial_of_0_or_all_ones_is_bad);
    RUN(a_hello_that_contradicts_itself_is_bad);
    RUN(an_event_before_hello_is_out_of_turn);
    RUN(an_unknown_type_before_hello_ends_it_too);
    RUN(a_second_hello_is_out_of_turn);
    RUN(a_frame_of_the_hosts_is_out_of_turn);
    RUN(an_unknown_type_ends_the_session);
    RUN(an_unknown_type_with_the_high_bit_is_skipped);
    RUN(an_event_out_of_order_ends_the_session);
    RUN(one_event_more_than_the_window_ends_the_session);
    RUN(an_event_cut_short_is_a_bad_payload);
    RUN(a_session_survives_three_resyncs_and_no_more);
    RUN(results_nobody_asked_for_end_the_session_at_last);
    RUN(silence_after_a_ping_ends_the_session);
    RUN(who_reads_nothing_is_a_slow_reader);
    return 0;
}
