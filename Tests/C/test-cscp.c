/* The whole layer over real sockets: what honest controllers and an honest vendor app see. */
#include "host.h"

static void a_controller_is_welcomed_and_its_events_are_handed_up_and_acknowledged(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    peer p;
    peer_connect(&p, host);
    cscp_hello hello = peer_hello_fields(42);
    hello.last_seq = 5;
    hello.acked_seq = 3;
    peer_say(&p, &hello);
    cscp_welcome welcome = peer_expect_welcome(&p);
    CHECK_EQ(welcome.resume_from, 4);
    CHECK_EQ(welcome.owner_epoch, 1);
    CHECK_EQ(welcome.k, 64);
    CHECK(welcome.session_id != 0);
    cscp_message connected = host_next(host, CSCP_MSG_CONNECTED);
    CHECK_EQ(connected.serial, 42);
    CHECK_EQ(connected.seq, 4);
    CHECK_EQ(connected.through_seq, 5);
    CHECK(connected.session_id == welcome.session_id);
    CHECK_EQ(connected.n_model, 5);
    CHECK(memcmp(connected.model, "model", 5) == 0);
    CHECK(memcmp(connected.body, "127.0.0.1:", 10) == 0);
    for (uint64_t seq = 4; seq <= 20; seq++) {
        peer_event(&p);
        cscp_message event = host_next(host, CSCP_MSG_EVENT);
        CHECK_EQ(event.seq, seq);
        CHECK_EQ(event.serial, 42);
        CHECK_EQ(event.connection, connected.connection);
        CHECK_EQ(event.owner_epoch, 1);
        CHECK_EQ(event.n_body, 4);
        CHECK(memcmp(event.body, "body", 4) == 0);
        host_ack(host, &event);
        if (seq == 4) CHECK_EQ(peer_expect_ack(&p), 4); /* the first at once */
    }
    CHECK_EQ(peer_expect_ack(&p), 20); /* then one for w of them */
    peer_close(&p);
    cscp_message gone = host_next(host, CSCP_MSG_DISCONNECTED);
    CHECK_EQ(gone.connection, connected.connection);
    CHECK_EQ(gone.reason, CSCP_REASON_PEER_CLOSED);
    cscp_counters counters = host_counters(host);
    CHECK_EQ(counters.events, 17);
    CHECK_EQ(counters.acks_out, 2);
    CHECK_EQ(counters.unacked, 0);
    CHECK_EQ(counters.sessions, 0);
    cscp_free(host);
}

static void a_single_event_is_acknowledged_within_t2(void) {
    cscp_config config = host_config();
    config.t2_ms = 200;
    cscp *host = host_new(&config);
    peer p;
    peer_join(&p, host, 1);
    peer_event(&p);
    cscp_message event = host_wait(host, CSCP_MSG_EVENT);
    host_ack(host, &event);
    CHECK_EQ(peer_expect_ack(&p), 1);
    peer_event(&p);
    event = host_wait(host, CSCP_MSG_EVENT);
    CHECK_EQ(host_counters(host).unacked, 1);
    host_ack(host, &event);
    uint64_t begin = now_ms();
    CHECK_EQ(peer_expect_ack(&p), 2);
    CHECK(now_ms() - begin >= 50);
    CHECK(now_ms() - begin < 2000);
    CHECK_EQ(host_counters(host).unacked, 0);
    peer_close(&p);
    cscp_free(host);
}

static void a_small_window_never_stops_for_want_of_an_ack(void) {
    cscp_config config = host_config();
    config.window_k = 4;
    config.window_w = 4;
    config.t2_ms = 10000;
    cscp *host = host_new(&config);
    peer p;
    peer_join(&p, host, 1);
    uint64_t begin = now_ms(), acked = 0;
    for (int i = 0; i < 100; i++) {
        peer_event(&p);
        cscp_message event = host_wait(host, CSCP_MSG_EVENT);
        host_ack(host, &event);
        if (i == 0 || p.next - 1 - acked == 4) acked = peer_expect_ack(&p);
    }
    CHECK(now_ms() - begin < 5000);
    peer_close(&p);
    cscp_free(host);
}

static void bytes_may_come_one_by_one(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    uint8_t bytes[CSCP_FRAME_MAX];
    peer p;
    cscp_hello hello = peer_hello_fields(9);
    peer_connect(&p, host);
    size_t n = cscp_write_hello(bytes, &hello);
    for (size_t i = 0; i < n; i++) {
        peer_write(&p, bytes + i, 1);
        usleep(200);
    }
    peer_expect_welcome(&p);
    host_next(host, CSCP_MSG_CONNECTED);
    for (uint64_t seq = 1; seq <= 5; seq++) {
        n = peer_make_event(&p, seq, bytes);
        for (size_t i = 0; i < n; i++) {
            peer_write(&p, bytes + i, 1);
            usleep(200);
        }
        CHECK_EQ(host_next(host, CSCP_MSG_EVENT).seq, seq);
    }
    CHECK_EQ(host_counters(host).resyncs, 0);
    peer_close(&p);
    cscp_free(host);
}

static void gaps_resets_and_advisories_are_handed_up(void) {
    cscp_config config = host_config();
    config.window_w = 1;
    cscp *host = host_new(&config);
    uint8_t bytes[CSCP_FRAME_MAX];
    peer p;
    peer_join(&p, host, 9);
    host_next(host, CSCP_MSG_CONNECTED);
    cscp_log_gap gap = {.log_epoch = 1, .from = 1, .to = 1000};
    peer_write(&p, bytes, cscp_write_log_gap(bytes, &gap));
    cscp_message message = host_next(host, CSCP_MSG_LOG_GAP);
    CHECK_EQ(message.seq, 1);
    CHECK_EQ(message.through_seq, 1000);
    CHECK_EQ(host_counters(host).unacked, 1);
    cscp_ack ack = {message.connection, 1, 1000};
    CHECK_EQ(cscp_event_ack(host, &ack, 1), 0);
    CHECK_EQ(peer_expect_ack(&p), 1000);
    cscp_event advisory = {
        .log_epoch = 1, .flags = CSCP_EVENT_ADVISORY | CSCP_EVENT_PRIORITY, .family = 1, .code = 3,
        .seq = 1007, .source_type = 1, .source_number = 1, .body = bytes,
    };
    peer_write(&p, bytes, cscp_write_event(bytes, &advisory));
    message = host_next(host, CSCP_MSG_EVENT);
    CHECK(message.flags & CSCP_EVENT_ADVISORY);
    peer_event_at(&p, 1001);
    CHECK_EQ(host_next(host, CSCP_MSG_EVENT).seq, 1001);
    cscp_log_reset reset = {
        .old_epoch = 1, .new_epoch = 2, .seq = 1, .occurred_at_ms = 77, .old_last_seq = 1001,
        .cause = 1,
    };
    peer_write(&p, bytes, cscp_write_log_reset(bytes, &reset));
    message = host_next(host, CSCP_MSG_LOG_RESET);
    CHECK_EQ(message.log_epoch, 2);
    CHECK_EQ(message.old_log_epoch, 1);
    CHECK_EQ(message.through_seq, 1001);
    CHECK_EQ(message.code, 1);
    CHECK_EQ(message.seq, 1);
    p.log_epoch = 2;
    peer_event_at(&p, 2);
    CHECK_EQ(host_next(host, CSCP_MSG_EVENT).log_epoch, 2);
    ack = (cscp_ack){message.connection, 1, 1001}; /* of the old log: nothing to say */
    CHECK_EQ(cscp_event_ack(host, &ack, 1), 0);
    ack = (cscp_ack){message.connection, 2, 2};
    CHECK_EQ(cscp_event_ack(host, &ack, 1), 0);
    CHECK_EQ(peer_expect_ack(&p), 2);
    CHECK_EQ(host_counters(host).acks_invalid, 0);
    peer_close(&p);
    cscp_free(host);
}

static void an_ack_for_what_was_not_received_is_ignored_and_counted(void) {
    cscp_config config = host_config();
    config.window_w = 1;
    cscp *host = host_new(&config);
    peer p;
    peer_join(&p, host, 9);
    cscp_message connected = host_next(host, CSCP_MSG_CONNECTED);
    peer_event(&p);
    host_next(host, CSCP_MSG_EVENT);
    cscp_ack acks[] = {
        {connected.connection, 1, 2},                     /* not received */
        {connected.connection, 2, 1},                     /* no such log */
        {connected.connection + 1, 1, 1},                 /* no such session */
        {connected.connection ^ (UINT64_C(9) << 56), 1, 1}, /* no such thread */
        {connected.connection ^ (UINT64_C(70000) << 32), 1, 1}, /* no such slot */
        {0, 1, 1},
    };
    CHECK_EQ(cscp_event_ack(host, acks, sizeof(acks) / sizeof(acks[0])), 0);
    HOST_UNTIL(host, counters.acks_invalid == 2);
    peer_expect_silence(&p, 50);
    cscp_ack good = {connected.connection, 1, 1};
    CHECK_EQ(cscp_event_ack(host, &good, 1), 0);
    CHECK_EQ(peer_expect_ack(&p), 1);
    peer_close(&p);
    cscp_free(host);
}

static cscp_command command_for(uint64_t serial, uint8_t number) {
    cscp_command command = {.serial = serial, .code = 1, .lane = CSCP_LANE_NORMAL};
    memset(command.id, number, sizeof(command.id));
    return command;
}

static void a_command_is_sent_and_its_result_handed_up(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    peer p;
    cscp_command command = command_for(9, 7);
    CHECK_EQ(cscp_config_command(host, &command), -ENOTCONN);
    peer_join(&p, host, 9);
    host_next(host, CSCP_MSG_CONNECTED);
    command.body = (const uint8_t *)"12345678";
    command.n_body = 8;
    command.not_after_ms = utc_ms() + 60000;
    CHECK_EQ(cscp_config_command(host, &command), 0);
    cscp_command_frame got = peer_expect_command(&p);
    CHECK(memcmp(got.id, command.id, 16) == 0);
    CHECK_EQ(got.owner_epoch, 1);
    CHECK_EQ(got.not_after_ms, command.not_after_ms);
    CHECK_EQ(got.n_body, 8);
    CHECK(memcmp(got.body, "12345678", 8) == 0);
    cscp_message message = host_next(host, CSCP_MSG_COMMAND);
    CHECK_EQ(message.status, CSCP_COMMAND_SENT);
    CHECK(memcmp(message.id, command.id, 16) == 0);
    CHECK_EQ(message.serial, 9);
    CHECK_EQ(message.owner_epoch, 1);
    peer_result(&p, got.id);
    message = host_next(host, CSCP_MSG_RESULT);
    CHECK_EQ(message.status, CSCP_RESULT_DONE);
    CHECK(memcmp(message.id, command.id, 16) == 0);
    peer_result(&p, got.id); /* nobody waits for it any more */
    HOST_UNTIL(host, counters.results_unknown == 1);
    command.not_after_ms = utc_ms() - 1;
    CHECK_EQ(cscp_config_command(host, &command), 0);
    CHECK_EQ(host_next(host, CSCP_MSG_COMMAND).status, CSCP_COMMAND_EXPIRED);
    peer_expect_silence(&p, 50);
    command.not_after_ms = CSCP_NOT_AFTER_PAST; /* asks what became of it */
    CHECK_EQ(cscp_config_command(host, &command), 0);
    CHECK_EQ(peer_expect_command(&p).not_after_ms, CSCP_NOT_AFTER_PAST);
    CHECK_EQ(host_next(host, CSCP_MSG_COMMAND).status, CSCP_COMMAND_SENT);
    command.lane = CSCP_LANE_COUNT;
    CHECK_EQ(cscp_config_command(host, &command), -EINVAL);
    command.lane = 0;
    command.n_body = CSCP_COMMAND_BODY_MAX + 1;
    CHECK_EQ(cscp_config_command(host, &command), -EMSGSIZE);
    peer_close(&p);
    cscp_free(host);
}

static void bulk_waits_for_its_results_and_delays_nobody(void) {
    cscp_config config = host_config();
    config.commands_max = 4;
    cscp *host = host_new(&config);
    peer p;
    peer_join(&p, host, 9);
    host_next(host, CSCP_MSG_CONNECTED);
    for (uint8_t i = 1; i <= 3; i++) {
        cscp_command bulk = command_for(9, i);
        bulk.lane = CSCP_LANE_BULK;
        CHECK_EQ(cscp_config_command(host, &bulk), 0);
    }
    CHECK_EQ(peer_expect_command(&p).id[0], 1);
    CHECK_EQ(peer_expect_command(&p).id[0], 2);
    peer_expect_silence(&p, 50);
    cscp_command urgent = command_for(9, 100);
    urgent.lane = CSCP_LANE_URGENT;
    CHECK_EQ(cscp_config_command(host, &urgent), 0);
    cscp_command_frame got = peer_expect_command(&p);
    CHECK_EQ(got.id[0], 100);
    cscp_command fifth = command_for(9, 101);
    CHECK_EQ(cscp_config_command(host, &fifth), -ENOBUFS);
    uint8_t id[CSCP_COMMAND_ID_SIZE];
    memset(id, 1, sizeof(id));
    peer_result(&p, id);
    CHECK_EQ(peer_expect_command(&p).id[0], 3);
    host_wait(host, CSCP_MSG_RESULT);
    CHECK_EQ(cscp_config_command(host, &fifth), 0);
    CHECK_EQ(peer_expect_command(&p).id[0], 101);
    peer_close(&p);
    cscp_message gone = host_wait(host, CSCP_MSG_DISCONNECTED);
    CHECK_EQ(gone.serial, 9);
    CHECK_EQ(cscp_config_command(host, &fifth), -ENOTCONN);
    cscp_free(host);
}

static void a_welcome_asks_and_the_answer_brings_the_time(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    uint8_t bytes[CSCP_U64_FRAME];
    uint64_t token;
    cscp_time time;
    peer p;
    peer_connect(&p, host);
    peer_hello(&p, 9);
    peer_expect(&p, CSCP_WELCOME);
    p.last = 0; /* answers itself */
    cscp_frame frame = peer_expect(&p, CSCP_PING);
    CHECK_EQ(cscp_parse_u64(frame.payload, frame.n_payload, &token), 0);
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_PONG, token - 1)); /* of another */
    peer_expect_silence(&p, 50);
    uint64_t before = utc_ms();
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_PONG, token));
    frame = peer_expect(&p, CSCP_TIME);
    CHECK_EQ(cscp_parse_time(frame.payload, frame.n_payload, &time), 0);
    CHECK(time.token == (uint32_t)token && time.rtt_us >= 50000);
    CHECK(time.host_time_ms >= before && time.host_time_ms <= utc_ms());
    /* The same on the same connection, which another owner may have had meanwhile. */
    cscp_range range = {1, UINT64_MAX, 101};
    CHECK_EQ(cscp_set_ranges(host, NULL, 0), 0);
    host_next(host, CSCP_MSG_CONNECTED);
    host_next(host, CSCP_MSG_DISCONNECTED);
    CHECK_EQ(cscp_set_ranges(host, &range, 1), 0);
    peer_expect(&p, CSCP_WELCOME);
    p.last = 0;
    peer_expect(&p, CSCP_PING);
    peer_close(&p);
    cscp_free(host);
}

static void silence_is_broken_by_a_ping_and_the_answer_brings_the_time(void) {
    cscp_config config = host_config();
    config.t3_ms = 100;
    cscp *host = host_new(&config);
    uint8_t bytes[64];
    uint64_t token;
    peer p;
    peer_join(&p, host, 9);
    cscp_frame frame = peer_expect(&p, CSCP_PING);
    CHECK_EQ(cscp_parse_u64(frame.payload, frame.n_payload, &token), 0);
    usleep(20000);
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_PONG, token));
    frame = peer_expect(&p, CSCP_TIME);
    cscp_time time;
    CHECK_EQ(cscp_parse_time(frame.payload, frame.n_payload, &time), 0);
    CHECK(time.rtt_us >= 20000 && time.rtt_us < 10000000);
    CHECK(time.host_time_ms + 5000 > utc_ms() && time.host_time_ms <= utc_ms());
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_PING, 4711));
    frame = peer_expect(&p, CSCP_PONG);
    CHECK_EQ(cscp_parse_u64(frame.payload, frame.n_payload, &token), 0);
    CHECK_EQ(token, 4711);
    peer_close(&p);
    cscp_free(host);
}

static void a_session_can_be_ended_and_everybody_told_to_go(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    peer a, b;
    peer_join(&a, host, 1);
    peer_join(&b, host, 2);
    uint64_t handle = host_next(host, CSCP_MSG_CONNECTED).connection;
    host_next(host, CSCP_MSG_CONNECTED);
    CHECK_EQ(cscp_disconnect(host, handle, CSCP_REASON_NOT_OWNER, 300), 0);
    CHECK_EQ(peer_expect_reason(&a), CSCP_REASON_NOT_OWNER);
    peer_expect_end(&a);
    peer_close(&a);
    cscp_message gone = host_next(host, CSCP_MSG_DISCONNECTED);
    CHECK_EQ(gone.connection, handle);
    CHECK_EQ(gone.reason, CSCP_REASON_NOT_OWNER);
    CHECK_EQ(cscp_disconnect(host, handle, CSCP_REASON_NOT_OWNER, 300), -ENOTCONN);
    CHECK_EQ(cscp_disconnect(host, 0, CSCP_REASON_NOT_OWNER, 300), -ENOTCONN);
    cscp_stop_accepting(host, true, 100);
    CHECK_EQ(peer_expect_reason(&b), CSCP_REASON_STOPPING);
    peer_event(&b); /* it may finish what it does */
    host_next(host, CSCP_MSG_EVENT);
    peer_close(&b);
    CHECK_EQ(host_next(host, CSCP_MSG_DISCONNECTED).reason, CSCP_REASON_PEER_CLOSED);
    cscp_free(host);
}

static void all_are_told_to_go_one_after_another(void) {
    enum { N = 20, SPREAD_MS = 1000 };
    static peer peers[N];
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    uint64_t began, told[N];
    cscp_frame frame;
    cscp_pair pair;

    for (unsigned i = 0; i < N; i++) peer_join(&peers[i], host, 1 + i);
    began = now_ms();
    cscp_stop_accepting(host, true, SPREAD_MS);
    for (unsigned i = 0; i < N; i++) {
        do CHECK_EQ(peer_read(&peers[i], &frame, PATIENCE_MS), 1);
        while (frame.type != CSCP_GOAWAY);
        told[i] = now_ms() - began;
        CHECK_EQ(cscp_parse_goaway(frame.payload, frame.n_payload, &pair), 0);
        CHECK_EQ(pair.a, CSCP_REASON_STOPPING);
        CHECK_EQ(pair.b, 0); /* to come back at once */
    }
    CHECK(told[0] < SPREAD_MS / 2);
    CHECK(told[N / 2] >= SPREAD_MS / 4 && told[N / 2] < SPREAD_MS);
    CHECK(told[N - 1] >= SPREAD_MS - SPREAD_MS / 8);
    for (unsigned i = 0; i < N; i++) peer_close(&peers[i]);
    cscp_free(host);
}

static void sessions_are_listed_by_serial_from_all_threads(void) {
    cscp_config config = host_config();
    config.n_io_threads = 3;
    cscp *host = host_new(&config);
    enum { N = 50 };
    static peer peers[N];
    cscp_session_info infos[N];
    for (unsigned i = 0; i < N; i++) peer_join(&peers[i], host, 1000 - i * 10);
    CHECK_EQ(cscp_list_sessions(host, 0, infos, N, 5000), N);
    for (unsigned i = 0; i < N; i++) CHECK_EQ(infos[i].serial, 1000 - (N - 1 - i) * 10);
    CHECK(strcmp(infos[0].model, "model") == 0);
    CHECK(strncmp(infos[0].peer, "127.0.0.1:", 10) == 0);
    CHECK_EQ(cscp_list_sessions(host, 601, infos, 3, 5000), 3);
    CHECK_EQ(infos[0].serial, 610);
    CHECK_EQ(infos[2].serial, 630);
    CHECK_EQ(cscp_list_sessions(host, 1001, infos, 3, 5000), 0);
    CHECK_EQ(cscp_list_sessions(host, 0, infos, 0, 5000), 0);
    for (unsigned i = 0; i < N; i++) peer_close(&peers[i]);
    cscp_free(host);
}

static void a_wake_ends_a_wait(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    cscp_message message;
    cscp_wake(host);
    CHECK_EQ(cscp_get_message(host, &message, -1), 0);
    uint64_t begin = now_ms();
    CHECK_EQ(cscp_get_message(host, &message, 50), 0);
    CHECK(now_ms() - begin >= 45);
    CHECK_EQ(cscp_get_message(host, &message, 0), 0);
    cscp_free(host);
}

static void a_port_that_is_taken_is_refused(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config), *other = NULL;
    config.port = cscp_port(host);
    CHECK_EQ(cscp_new(&config, &other), -EADDRINUSE);
    CHECK(!other);
    cscp_free(host);
    host = host_new(&config); /* and free again at once */
    cscp_free(host);
}

static void a_wrong_configuration_is_refused_with_the_reason(void) {
    cscp_config config = host_config();
    const char *why = NULL;
    CHECK_EQ(cscp_config_check(&config, &why), 0);
    config.window_w = 65;
    CHECK_EQ(cscp_config_check(&config, &why), -EINVAL);
    CHECK(strstr(why, "window_w"));
    config = host_config();
    config.bind_address = "localhost";
    CHECK_EQ(cscp_config_check(&config, &why), -EINVAL);
    CHECK(strstr(why, "bind_address"));
    config = host_config();
    config.ring_bytes = 100000;
    CHECK_EQ(cscp_config_check(&config, &why), -EINVAL);
    CHECK(strstr(why, "ring_bytes"));
    cscp_free(NULL);
}

int main(void) {
    RUN(a_controller_is_welcomed_and_its_events_are_handed_up_and_acknowledged);
    RUN(a_single_event_is_acknowledged_within_t2);
    RUN(a_small_window_never_stops_for_want_of_an_ack);
    RUN(bytes_may_come_one_by_one);
    RUN(gaps_resets_and_advisories_are_handed_up);
    RUN(an_ack_for_what_was_not_received_is_ignored_and_counted);
    RUN(a_command_is_sent_and_its_result_handed_up);
    RUN(bulk_waits_for_its_results_and_delays_nobody);
    RUN(a_welcome_asks_and_the_answer_brings_the_time);
    RUN(silence_is_broken_by_a_ping_and_the_answer_brings_the_time);
    RUN(a_session_can_be_ended_and_everybody_told_to_go);
    RUN(all_are_told_to_go_one_after_another);
    RUN(sessions_are_listed_by_serial_from_all_threads);
    RUN(a_wake_ends_a_wait);
    RUN(a_port_that_is_taken_is_refused);
    RUN(a_wrong_configuration_is_refused_with_the_reason);
    return 0;
}
