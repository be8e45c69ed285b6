/* Ownership at the edge: nothing is sent for a serial that is not ours at this moment, and a
 * session that loses its owner finds the next one without a disconnect. */
#include "host.h"
#include "../../Sources/CSCP/thread.h"

static void set_range(cscp *host, uint64_t first, uint64_t last, uint64_t epoch) {
    cscp_range range = {first, last, epoch};
    CHECK_EQ(cscp_set_ranges(host, &range, 1), 0);
}

static void expect_busy(peer *p) {
    peer_expect(p, CSCP_BUSY);
    peer_expect_end(p);
    peer_close(p);
}

static void nobody_is_welcomed_before_there_are_ranges(void) {
    cscp_config config = host_config();
    cscp *host;
    peer p;
    CHECK_EQ(cscp_new(&config, &host), 0);
    peer_connect(&p, host);
    peer_hello(&p, 11);
    peer_expect_silence(&p, 100); /* it is about to be known who owns what */
    set_range(host, 1, 10, 3);
    expect_busy(&p);
    CHECK_EQ(host_counters(host).closed[CSCP_REASON_NOT_OWNER], 1);
    peer_connect(&p, host);
    peer_hello(&p, 11);
    expect_busy(&p);
    /* Inside, but without a lease: it waits for that. */
    peer_connect(&p, host);
    peer_hello(&p, 5);
    peer_expect_silence(&p, 100);
    cscp_set_valid_until(host, UINT64_MAX);
    CHECK_EQ(peer_expect_welcome(&p).owner_epoch, 3);
    CHECK(host_counters(host).fenced >= 1);
    peer_close(&p);
    cscp_free(host);
}

static void who_waits_for_a_lease_too_long_is_sent_away(void) {
    cscp_config config = host_config();
    cscp *host;
    peer p;
    config.hold_ms = 100;
    CHECK_EQ(cscp_new(&config, &host), 0);
    set_range(host, 1, 10, 3);
    peer_connect(&p, host);
    peer_hello(&p, 5);
    expect_busy(&p);
    cscp_free(host);
}

static void bad_ranges_are_refused_and_the_old_ones_stay(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    peer p;
    cscp_range overlapping[] = {{1, 10, 1}, {10, 20, 1}};
    cscp_range unsorted[] = {{11, 20, 1}, {1, 10, 1}};
    cscp_range backwards[] = {{10, 1, 1}};
    cscp_range no_epoch[] = {{1, 10, 0}};
    CHECK_EQ(cscp_set_ranges(host, overlapping, 2), -EINVAL);
    CHECK_EQ(cscp_set_ranges(host, unsorted, 2), -EINVAL);
    CHECK_EQ(cscp_set_ranges(host, backwards, 1), -EINVAL);
    CHECK_EQ(cscp_set_ranges(host, no_epoch, 1), -EINVAL);
    peer_join(&p, host, 5);
    peer_close(&p);
    cscp_free(host);
}

static void after_the_lease_nothing_is_sent_and_later_it_is(void) {
    cscp_config config = host_config();
    config.window_w = 1;
    cscp *host = host_new(&config);
    uint8_t bytes[64];
    peer p;
    peer_join(&p, host, 5);
    host_next(host, CSCP_MSG_CONNECTED);
    peer_event(&p);
    cscp_message event = host_next(host, CSCP_MSG_EVENT);
    cscp_set_valid_until(host, boot_ns() - 1);
    host_ack(host, &event);
    cscp_command late = {.serial = 5, .id = {1}, .not_after_ms = utc_ms() + 100};
    cscp_command patient = {.serial = 5, .id = {2}};
    CHECK_EQ(cscp_config_command(host, &late), 0);
    CHECK_EQ(cscp_config_command(host, &patient), 0);
    cscp_message message = host_next(host, CSCP_MSG_COMMAND);
    CHECK_EQ(message.id[0], 1);
    CHECK_EQ(message.status, CSCP_COMMAND_EXPIRED);
    /* Neither ack nor command came; what needs no ownership does. */
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_PING, 3));
    peer_expect(&p, CSCP_PONG);
    peer_expect_silence(&p, 50);
    peer_event(&p); /* events are still taken: their owner epoch says whose they are */
    CHECK_EQ(host_next(host, CSCP_MSG_EVENT).seq, 2);
    cscp_set_valid_until(host, boot_ns() + UINT64_C(60000000000));
    CHECK_EQ(peer_expect_ack(&p), 1);
    CHECK_EQ(peer_expect_command(&p).id[0], 2);
    CHECK_EQ(host_next(host, CSCP_MSG_COMMAND).status, CSCP_COMMAND_SENT);
    CHECK(host_counters(host).fenced >= 1);
    peer_close(&p);
    cscp_free(host);
}

static void a_session_outside_is_not_served_and_goes_on_when_it_is_owned_again(void) {
    cscp_config config = host_config();
    config.window_w = 1;
    cscp *host = host_new(&config);
    uint8_t bytes[64];
    peer p;
    peer_join(&p, host, 5);
    cscp_message first = host_next(host, CSCP_MSG_CONNECTED);
    for (int i = 0; i < 3; i++) peer_event(&p);
    cscp_message event = host_next(host, CSCP_MSG_EVENT);
    host_next(host, CSCP_MSG_EVENT);
    host_next(host, CSCP_MSG_EVENT);
    host_ack(host, &event);
    CHECK_EQ(peer_expect_ack(&p), 1);
    CHECK_EQ(cscp_set_ranges(host, NULL, 0), 0);
    cscp_message gone = host_next(host, CSCP_MSG_DISCONNECTED);
    CHECK_EQ(gone.reason, CSCP_REASON_NOT_OWNER);
    CHECK_EQ(gone.connection, first.connection);
    CHECK_EQ(host_counters(host).unacked, 0);
    event.seq = 2;
    host_ack(host, &event); /* of the session that is over */
    cscp_command command = {.serial = 5, .id = {1}};
    CHECK_EQ(cscp_config_command(host, &command), -ENOTCONN);
    peer_event(&p); /* 4: read and dropped */
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_PING, 3));
    peer_expect(&p, CSCP_PONG);
    set_range(host, 1, 10, 7);
    peer_event(&p); /* 5: sent before the WELCOME was read */
    cscp_welcome welcome = peer_expect_welcome(&p);
    CHECK_EQ(welcome.owner_epoch, 7);
    CHECK_EQ(welcome.resume_from, 2);
    CHECK_EQ(peer_expect_ack(&p), 1); /* once more: it may not have arrived */
    cscp_message again = host_next(host, CSCP_MSG_CONNECTED);
    CHECK_EQ(again.owner_epoch, 7);
    CHECK_EQ(again.seq, 2);
    CHECK(again.connection != first.connection);
    for (uint64_t seq = 2; seq <= 6; seq++) {
        peer_event(&p);
        event = host_next(host, CSCP_MSG_EVENT);
        CHECK_EQ(event.seq, seq);
        CHECK_EQ(event.owner_epoch, 7);
        CHECK_EQ(event.connection, again.connection);
    }
    host_ack(host, &event);
    CHECK_EQ(peer_expect_ack(&p), 6);
    peer_close(&p);
    CHECK_EQ(host_next(host, CSCP_MSG_DISCONNECTED).connection, again.connection);
    cscp_free(host);
}

static void a_session_that_nobody_takes_back_is_told_to_go(void) {
    cscp_config config = host_config();
    config.hold_ms = 100;
    cscp *host = host_new(&config);
    peer p;
    peer_join(&p, host, 5);
    CHECK_EQ(cscp_set_ranges(host, NULL, 0), 0);
    CHECK_EQ(peer_expect_reason(&p), CSCP_REASON_NOT_OWNER);
    peer_expect_end(&p);
    peer_close(&p);
    host_next(host, CSCP_MSG_CONNECTED);
    host_next(host, CSCP_MSG_DISCONNECTED);
    cscp_free(host);
}

static void a_controller_that_has_seen_more_waits_until_the_epoch_is_high_enough(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    peer p;
    cscp_hello hello = peer_hello_fields(5);
    hello.owner_epoch_seen = 9;
    peer_connect(&p, host);
    peer_say(&p, &hello);
    cscp_message behind = host_next(host, CSCP_MSG_EPOCH_BEHIND);
    CHECK_EQ(behind.serial, 5);
    CHECK_EQ(behind.epoch_seen, 9);
    CHECK_EQ(behind.owner_epoch, 1);
    set_range(host, 1, 10, 8); /* still not enough, and said again */
    CHECK_EQ(host_next(host, CSCP_MSG_EPOCH_BEHIND).owner_epoch, 8);
    peer_expect_silence(&p, 50);
    set_range(host, 1, 10, 9);
    CHECK_EQ(peer_expect_welcome(&p).owner_epoch, 9);
    CHECK_EQ(host_next(host, CSCP_MSG_CONNECTED).owner_epoch, 9);
    peer_close(&p);
    cscp_free(host);
}

static void stale_ends_the_session_until_the_epoch_is_high_enough(void) {
    cscp_config config = host_config();
    cscp *host = host_new(&config);
    uint8_t bytes[64];
    peer p;
    peer_join(&p, host, 5);
    host_next(host, CSCP_MSG_CONNECTED);
    cscp_command command = {.serial = 5, .id = {1}, .lane = CSCP_LANE_BULK};
    for (int i = 0; i < 3; i++) {
        command.id[0]++;
        CHECK_EQ(cscp_config_command(host, &command), 0);
    }
    peer_expect_command(&p);
    peer_expect_command(&p);
    host_next(host, CSCP_MSG_COMMAND);
    host_next(host, CSCP_MSG_COMMAND);
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_STALE, 1)); /* not higher: old news */
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_STALE, 4));
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_STALE, 4));
    cscp_message unsent = host_next(host, CSCP_MSG_COMMAND);
    CHECK_EQ(unsent.status, CSCP_COMMAND_UNSENT);
    CHECK_EQ(unsent.id[0], 4);
    CHECK_EQ(host_next(host, CSCP_MSG_DISCONNECTED).reason, CSCP_REASON_NOT_OWNER);
    CHECK_EQ(host_next(host, CSCP_MSG_EPOCH_BEHIND).epoch_seen, 4);
    set_range(host, 1, 10, 5);
    CHECK_EQ(peer_expect_welcome(&p).owner_epoch, 5);
    CHECK_EQ(host_next(host, CSCP_MSG_CONNECTED).owner_epoch, 5);
    peer_event(&p);
    CHECK_EQ(host_next(host, CSCP_MSG_EVENT).seq, 1);
    peer_close(&p);
    cscp_free(host);
}

/* A socket that is full in the middle of a command when ownership is lost: the command must not
 * become whole, and what follows must be understood. */
static void a_command_cut_by_the_loss_of_ownership_never_arrives(void) {
    cscp_config config = host_config();
    config.t1_ms = 60000;
    config.hold_ms = 60000;
    config.send_queue_max = 1 << 24;
    config.commands_max = 4096;
    cscp *host = host_new(&config);
    static uint8_t body[CSCP_COMMAND_BODY_MAX];
    cscp_message message;
    unsigned n_sent = 0, n_unsent = 0, n_got = 0;
    peer p;
    peer_connect(&p, host);
    setsockopt(p.fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
    peer_hello(&p, 5);
    peer_expect_welcome(&p);
    host_next(host, CSCP_MSG_CONNECTED);
    for (int i = 0; i < 3000; i++) {
        cscp_command command = {.serial = 5, .code = 1, .n_body = sizeof(body), .body = body};
        memcpy(command.id, &i, sizeof(i));
        CHECK_EQ(cscp_config_command(host, &command), 0);
    }
    while (cscp_get_message(host, &message, 200) == 1) n_sent++;
    CHECK(n_sent > 0 && n_sent < 3000);
    CHECK_EQ(cscp_set_ranges(host, NULL, 0), 0);
    while (cscp_get_message(host, &message, PATIENCE_MS) == 1 &&
           message.kind == CSCP_MSG_COMMAND)
        n_unsent++;
    CHECK_EQ(message.kind, CSCP_MSG_DISCONNECTED);
    CHECK_EQ(n_sent + n_unsent, 3000);
    set_range(host, 1, 10, 2);
    for (;;) {
        cscp_frame frame;
        CHECK_EQ(peer_read(&p, &frame, PATIENCE_MS), 1);
        if (frame.type == CSCP_WELCOME) break;
        CHECK_EQ(frame.type, CSCP_COMMAND);
        n_got++;
    }
    CHECK(p.decoder.resyncs <= 1);
    CHECK_EQ(n_got + p.decoder.resyncs, n_sent);
    peer_close(&p);
    cscp_free(host);
}

static void a_serial_outside_may_wait_for_its_range(void) {
    cscp_config config = host_config();
    config.outside_hold_ms = 300;
    cscp *host = host_new(&config);
    peer p, q;
    set_range(host, 1, 10, 3);
    uint64_t begin = now_ms();
    peer_connect(&q, host);
    peer_hello(&q, 20);
    peer_connect(&p, host);
    peer_hello(&p, 15);
    peer_expect_silence(&p, 100);
    set_range(host, 1, 15, 3);
    peer_expect_welcome(&p);
    expect_busy(&q);
    CHECK(now_ms() - begin >= 300);
    peer_close(&p);
    cscp_free(host);
}

/* The change is known to every fence at once, though the connections are looked at little by
 * little. */
static void no_ack_is_sent_after_the_ranges_are_gone_however_many_there_are(void) {
    enum { N = 7000 };
    static int fds[N];
    cscp_config config = host_config();
    config.window_w = 1;
    config.handshakes_per_second = 1000000;
    config.handshake_burst = 1000000;
    config.hold_ms = 60000;
    cscp *host = host_new(&config);
    uint8_t bytes[CSCP_FRAME_MAX];
    cscp_message messages[256];
    static cscp_ack acks[N];
    unsigned n_acks = 0;
    for (unsigned i = 0; i < N; i++) {
        cscp_hello hello = peer_hello_fields(i + 1);
        fds[i] = peer_socket(host);
        CHECK(send(fds[i], bytes, cscp_write_hello(bytes, &hello), 0) > 0);
    }
    for (unsigned i = 0; i < N; i++) {
        uint8_t welcome[CSCP_WELCOME_FRAME + CSCP_U64_FRAME]; /* and the PING that comes with it */
        peer maker = {.log_epoch = 1};
        CHECK_EQ(recv(fds[i], welcome, sizeof(welcome), MSG_WAITALL), sizeof(welcome));
        CHECK(send(fds[i], bytes, peer_make_event(&maker, 1, bytes), 0) > 0);
    }
    while (n_acks < N) {
        int n = cscp_get_messages(host, messages, 256, PATIENCE_MS);
        CHECK(n > 0);
        for (int i = 0; i < n; i++)
            if (messages[i].kind == CSCP_MSG_EVENT)
                acks[n_acks++] = (cscp_ack){messages[i].connection, 1, 1};
    }
    /* All acknowledgements lie in the mailbox when the thread meets the change. */
    cscp_mailbox *box = &host->threads[0]->box;
    pthread_mutex_lock(&box->lock);
    free(box->mail.acks);
    box->mail.acks = malloc(sizeof(acks));
    memcpy(box->mail.acks, acks, sizeof(acks));
    box->mail.n_acks = box->mail.n_acks_max = N;
    atomic_store(&box->full, 1);
    CHECK_EQ(cscp_set_ranges(host, NULL, 0), 0);
    pthread_mutex_unlock(&box->lock);
    HOST_UNTIL(host, counters.sessions == 0);
    CHECK_EQ(host_counters(host).acks_in, N);
    CHECK_EQ(host_counters(host).acks_out, 0);
    for (unsigned i = 0; i < N; i++) {
        CHECK(recv(fds[i], bytes, sizeof(bytes), MSG_DONTWAIT) < 0);
        close(fds[i]);
    }
    cscp_free(host);
}

int main(void) {
    RUN(nobody_is_welcomed_before_there_are_ranges);
    RUN(a_serial_outside_may_wait_for_its_range);
    RUN(no_ack_is_sent_after_the_ranges_are_gone_however_many_there_are);
    RUN(who_waits_for_a_lease_too_long_is_sent_away);
    RUN(bad_ranges_are_refused_and_the_old_ones_stay);
    RUN(after_the_lease_nothing_is_sent_and_later_it_is);
    RUN(a_session_outside_is_not_served_and_goes_on_when_it_is_owned_again);
    RUN(a_session_that_nobody_takes_back_is_told_to_go);
    RUN(a_controller_that_has_seen_more_waits_until_the_epoch_is_high_enough);
    RUN(stale_ends_the_session_until_the_epoch_is_high_enough);
    RUN(a_command_cut_by_the_loss_of_ownership_never_arrives);
    return 0;
}
