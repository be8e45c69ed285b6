/* A controller at a node that is not its owner: it is served as if it were at the owner, and stays
 * when the owner changes. Real nodes on both sides; test-cscp-relay-owner.c has owners that
 * misbehave. */
#include "relay-rig.h"

typedef struct pair {
    cscp *entry, *owner;
} pair;

static pair pair_new(void) {
    cscp_config config = node_config();
    pair p = {node_new(&config), node_new(&config)};
    node_owns(p.owner, 3);
    node_relays(p.entry, cscp_port(p.owner), 3);
    return p;
}

static void pair_free(pair *p) {
    cscp_free(p->entry);
    cscp_free(p->owner);
}

static void everything_flows_both_ways(void) {
    pair nodes = pair_new();
    struct sockaddr_in address;
    socklen_t size = sizeof(address);
    char text[32];
    peer p;
    peer_join(&p, nodes.entry, 5);
    CHECK_EQ(getsockname(p.fd, (struct sockaddr *)&address, &size), 0);
    int n = snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(address.sin_port));
    cscp_message connected = host_next(nodes.owner, CSCP_MSG_CONNECTED);
    CHECK_EQ(connected.n_body, n); /* its own address, not the entry node's */
    CHECK(memcmp(connected.body, text, (size_t)n) == 0);
    CHECK_EQ(connected.owner_epoch, 3);
    CHECK(connected.n_model == 5 && memcmp(connected.model, "model", 5) == 0);
    for (int i = 0; i < 10; i++) {
        peer_event(&p);
        cscp_message event = host_next(nodes.owner, CSCP_MSG_EVENT);
        CHECK_EQ(event.seq, i + 1);
        host_ack(nodes.owner, &event);
        CHECK_EQ(peer_expect_ack(&p), i + 1);
    }
    cscp_command command = {.serial = 5, .id = {9}};
    CHECK_EQ(cscp_config_command(nodes.entry, &command), -ENOTCONN); /* it is no session there */
    CHECK_EQ(cscp_config_command(nodes.owner, &command), 0);
    CHECK_EQ(peer_expect_command(&p).owner_epoch, 3);
    CHECK_EQ(host_next(nodes.owner, CSCP_MSG_COMMAND).status, CSCP_COMMAND_SENT);
    peer_result(&p, command.id);
    CHECK_EQ(host_next(nodes.owner, CSCP_MSG_RESULT).id[0], 9);
    peer_ping(&p, 77);
    peer_expect_pong(&p, 77);
    cscp_relay_info info;
    cscp_session_info session;
    CHECK_EQ(cscp_list_relays(nodes.entry, 6, &info, 1, PATIENCE_MS), 0);
    CHECK_EQ(cscp_list_relays(nodes.entry, 5, &info, 1, PATIENCE_MS), 1);
    CHECK(info.serial == 5 && info.attached && info.attaches == 1 && info.epoch == 3);
    CHECK(strcmp(info.peer, text) == 0);
    snprintf(text, sizeof(text), "127.0.0.1:%u", cscp_port(nodes.owner));
    CHECK(strcmp(info.owner, text) == 0);
    CHECK_EQ(cscp_list_sessions(nodes.entry, 0, &session, 1, PATIENCE_MS), 0);
    peer direct;
    peer_join(&direct, nodes.owner, 6);
    host_next(nodes.owner, CSCP_MSG_CONNECTED);
    CHECK_EQ(cscp_list_sessions(nodes.owner, 6, &session, 1, PATIENCE_MS), 1);
    CHECK(!session.relayed);
    peer_close(&direct);
    host_next(nodes.owner, CSCP_MSG_DISCONNECTED);
    cscp_counters entry = host_counters(nodes.entry);
    CHECK(entry.sessions == 0 && entry.handshakes == 0 && entry.relays == 1);
    CHECK(entry.relay_attaches == 1 && entry.relay_losses == 0 && entry.relay_failures == 0);
    CHECK(entry.relay_frames_up == 13 && entry.relay_frames_down == 15);
    CHECK_EQ(host_counters(nodes.owner).proxies_taken, 1);
    peer_close(&p);
    CHECK_EQ(host_next(nodes.owner, CSCP_MSG_DISCONNECTED).reason, CSCP_REASON_PEER_CLOSED);
    HOST_UNTIL(nodes.entry, counters.relays == 0 && counters.connections == 0);
    pair_free(&nodes);
}

/* What a load balancer said to the entry node, that one says to the owner. */
static void who_came_through_a_load_balancer_is_known_to_the_owner(void) {
    pair nodes = pair_new();
    uint8_t bytes[CSCP_PROXY_WRITTEN_MAX];
    cscp_proxy proxy = {.source_port = 40000, .target_port = 5001, .n_tls_name = 7};
    cscp_session_info info;
    peer p;
    memcpy(proxy.tls_name, "door-17", 7);
    for (int v6 = 0; v6 < 2; v6++) {
        inet_pton(AF_INET6, v6 ? "2001:db8::7" : "::ffff:203.0.113.9", &proxy.source);
        inet_pton(AF_INET6, "::ffff:192.0.2.1", &proxy.target);
        peer_connect(&p, nodes.entry);
        peer_write(&p, bytes, cscp_proxy_write(bytes, &proxy));
        peer_hello(&p, 5);
        peer_expect_welcome(&p);
        CHECK_EQ(cscp_list_sessions(nodes.owner, 0, &info, 1, PATIENCE_MS), 1);
        CHECK(strcmp(info.peer, v6 ? "[2001:db8::7]:40000" : "203.0.113.9:40000") == 0);
        CHECK(strcmp(info.tls_name, "door-17") == 0);
        CHECK(info.relayed);
        peer_close(&p);
        HOST_UNTIL(nodes.owner, counters.sessions == 0);
    }
    pair_free(&nodes);
}

static void an_owner_that_does_not_trust_the_entry_takes_nobody_from_it(void) {
    cscp_config config = node_config();
    config.hold_ms = 500;
    cscp *entry = node_new(&config);
    config.n_trusted = 0;
    cscp *owner = node_new(&config);
    peer p;
    node_owns(owner, 3);
    node_relays(entry, cscp_port(owner), 3);
    peer_connect(&p, entry);
    peer_hello(&p, 5);
    CHECK_EQ(host_next(owner, CSCP_MSG_NOTICE).reason, CSCP_REASON_PROXY_REFUSED);
    peer_expect(&p, CSCP_BUSY); /* not its fault */
    peer_close(&p);
    cscp_free(entry);
    cscp_free(owner);
}

static void however_the_bytes_come_the_frames_are_whole(void) {
    pair nodes = pair_new();
    uint8_t bytes[CSCP_FRAME_MAX], events[1024];
    cscp_hello hello = peer_hello_fields(5);
    size_t n = cscp_write_hello(bytes, &hello);
    peer p;
    peer_connect(&p, nodes.entry);
    for (size_t i = 0; i < n; i++) {
        peer_write(&p, bytes + i, 1);
        usleep(200);
    }
    peer_expect_welcome(&p);
    host_next(nodes.owner, CSCP_MSG_CONNECTED);
    n = 0;
    for (uint64_t seq = 1; seq <= 8; seq++) n += peer_make_event(&p, seq, events + n);
    for (size_t i = 0; i < n; i++) {
        peer_write(&p, events + i, 1);
        if (i % 8 == 0) usleep(200);
    }
    for (uint64_t seq = 1; seq <= 8; seq++)
        CHECK_EQ(host_next(nodes.owner, CSCP_MSG_EVENT).seq, seq);
    CHECK_EQ(host_counters(nodes.entry).relay_bytes_up, n);
    CHECK_EQ(host_counters(nodes.owner).resyncs, 0);
    peer_close(&p);
    pair_free(&nodes);
}

/* From here to there and back, as ranges and routes say; the connection stays. */
static void ownership_moves_and_the_connection_stays(void) {
    cscp_config config = node_config();
    cscp *a = node_new(&config), *b = node_new(&config), *nodes[] = {a, b};
    uint64_t epoch = 1, n_acked = 0;
    peer p;
    node_owns(a, epoch);
    node_relays(b, cscp_port(a), epoch);
    peer_join(&p, a, 5);
    host_next(a, CSCP_MSG_CONNECTED);
    for (int round = 0; round < 20; round++) {
        cscp *owner = nodes[round % 2], *next = nodes[1 - round % 2];
        peer_event(&p);
        peer_event(&p);
        cscp_message event = host_next(owner, CSCP_MSG_EVENT);
        host_next(owner, CSCP_MSG_EVENT);
        host_ack(owner, &event);
        peer_expect_past_pings(&p, CSCP_EVENT_ACK);
        n_acked++;
        epoch++;
        if (round % 4 < 2) { /* the new owner knows first, or last */
            node_owns(next, epoch);
            node_relays(owner, cscp_port(next), epoch);
        } else {
            node_relays(owner, cscp_port(next), epoch);
            usleep(20000);
            node_owns(next, epoch);
        }
        cscp_reason reason = host_next(owner, CSCP_MSG_DISCONNECTED).reason;
        CHECK(reason == CSCP_REASON_NOT_OWNER ||
              (owner == b && reason == CSCP_REASON_PEER_CLOSED));
        cscp_welcome welcome = peer_expect_another_welcome(&p);
        CHECK_EQ(welcome.owner_epoch, epoch);
        CHECK_EQ(welcome.resume_from, n_acked + 1);
        peer_expect_past_pings(&p, CSCP_EVENT_ACK); /* the same once more */
        cscp_message connected = host_next(next, CSCP_MSG_CONNECTED);
        CHECK_EQ(connected.seq, n_acked + 1);
        CHECK_EQ(connected.acked_seq, n_acked);
        CHECK(connected.through_seq >= n_acked + 1);
    }
    CHECK_EQ(host_counters(a).relay_attaches, 10);
    CHECK_EQ(host_counters(a).accepted, 1);
    CHECK_EQ(host_counters(a).relays, 0);
    peer_close(&p);
    cscp_free(a);
    cscp_free(b);
}

static void who_has_no_owner_is_kept_alive_and_finds_the_next_one(void) {
    cscp_config config = node_config();
    config.hold_ms = 60000;
    pair nodes = {node_new(&config), node_new(&config)};
    node_owns(nodes.owner, 3);
    node_relays(nodes.entry, cscp_port(nodes.owner), 3);
    cscp_relay_info info;
    peer p;
    peer_join(&p, nodes.entry, 5);
    for (int i = 0; i < 3; i++) peer_event(&p);
    host_next(nodes.owner, CSCP_MSG_CONNECTED);
    cscp_message event = host_next(nodes.owner, CSCP_MSG_EVENT);
    host_ack(nodes.owner, &event);
    CHECK_EQ(peer_expect_ack(&p), 1);
    cscp_free(nodes.owner);
    peer_answer_ping(&p); /* "are you there?", so that it does not ask itself */
    peer_ping(&p, 8);
    peer_expect_past_pings(&p, CSCP_PONG);
    peer_event(&p); /* 4: read and dropped */
    HOST_UNTIL(nodes.entry, counters.relay_failures >= 3); /* nobody listens there */
    CHECK_EQ(host_counters(nodes.entry).relay_losses, 1);
    CHECK_EQ(cscp_list_relays(nodes.entry, 5, &info, 1, PATIENCE_MS), 1);
    CHECK(!info.attached);
    nodes.owner = node_new(&config);
    node_owns(nodes.owner, 9);
    uint64_t begin = now_ms();
    node_relays(nodes.entry, cscp_port(nodes.owner), 9);
    cscp_welcome welcome = peer_expect_another_welcome(&p);
    CHECK(now_ms() - begin < 2000);
    CHECK(welcome.owner_epoch == 9 && welcome.resume_from == 2);
    CHECK_EQ(host_next(nodes.owner, CSCP_MSG_CONNECTED).seq, 2);
    /* What was sent before it read that WELCOME is no fault at an owner that knows it is not the
     * first. */
    peer_event_at(&p, 5);
    p.next = 2;
    for (uint64_t seq = 2; seq <= 5; seq++) {
        peer_event(&p);
        CHECK_EQ(host_next(nodes.owner, CSCP_MSG_EVENT).seq, seq);
    }
    peer_close(&p);
    pair_free(&nodes);
}

static void an_owner_that_comes_back_at_its_place_is_found_again(void) {
    cscp_config config = node_config();
    pair nodes = pair_new();
    peer p;
    peer_join(&p, nodes.entry, 5);
    config.port = cscp_port(nodes.owner);
    cscp_free(nodes.owner);
    HOST_UNTIL(nodes.entry, counters.relay_failures >= 1);
    nodes.owner = node_new(&config);
    node_owns(nodes.owner, 4);
    CHECK_EQ(peer_expect_another_welcome(&p).owner_epoch, 4);
    peer_close(&p);
    pair_free(&nodes);
}

static void who_finds_no_owner_is_sent_away_in_time(void) {
    cscp_config config = node_config();
    config.hold_ms = 300;
    cscp *entry = node_new(&config), *owner = node_new(&config);
    peer p, q;
    node_owns(owner, 3);
    node_relays(entry, cscp_port(owner), 3);
    peer_join(&p, entry, 5);
    cscp_free(owner);
    CHECK_EQ(peer_expect_reason(&p), CSCP_REASON_NOT_OWNER);
    peer_expect_end(&p);
    peer_close(&p);
    peer_connect(&q, entry);
    peer_hello(&q, 6);
    peer_expect(&q, CSCP_BUSY);
    peer_expect_end(&q);
    peer_close(&q);
    HOST_UNTIL(entry, counters.connections == 0 && counters.relays == 0);
    node_knows_nobody(entry); /* neither: as ever */
    peer_connect(&q, entry);
    peer_hello(&q, 6);
    peer_expect(&q, CSCP_BUSY);
    peer_close(&q);
    cscp_free(entry);
}

static void a_route_that_is_gone_takes_nobody_from_a_sound_owner(void) {
    pair nodes = pair_new();
    peer p;
    peer_join(&p, nodes.entry, 5);
    host_next(nodes.owner, CSCP_MSG_CONNECTED);
    node_knows_nobody(nodes.entry);
    usleep(50000);
    peer_event(&p);
    CHECK_EQ(host_next(nodes.owner, CSCP_MSG_EVENT).seq, 1);
    node_relays(nodes.entry, cscp_port(nodes.owner), 4); /* the same one, under another epoch */
    node_owns(nodes.owner, 4);
    CHECK_EQ(peer_expect_welcome(&p).owner_epoch, 4); /* says so itself */
    CHECK_EQ(host_counters(nodes.entry).relay_attaches, 1);
    peer_close(&p);
    pair_free(&nodes);
}

static void the_owner_decides_who_supersedes(void) {
    pair nodes = pair_new();
    uint64_t session_id;
    peer p, q;
    peer_connect(&p, nodes.entry);
    peer_hello(&p, 5);
    cscp_welcome welcome = peer_expect_welcome(&p);
    peer_join(&q, nodes.entry, 5);
    cscp_frame frame = peer_expect(&p, CSCP_SUPERSEDED);
    CHECK_EQ(cscp_parse_u64(frame.payload, frame.n_payload, &session_id), 0);
    CHECK_EQ(session_id, welcome.session_id);
    peer_expect_end(&p);
    peer_close(&p);
    peer_ping(&q, 1);
    peer_expect_pong(&q, 1);
    cscp_relay_info infos[2];
    CHECK_EQ(cscp_list_relays(nodes.entry, 0, infos, 2, PATIENCE_MS), 1);
    peer_join(&p, nodes.owner, 5); /* one that comes to the owner itself */
    peer_expect(&q, CSCP_SUPERSEDED);
    peer_expect_end(&q);
    peer_close(&p);
    peer_close(&q);
    HOST_UNTIL(nodes.entry, counters.relays == 0);
    CHECK_EQ(cscp_list_relays(nodes.entry, 0, infos, 2, PATIENCE_MS), 0);
    pair_free(&nodes);
}

static void what_is_meant_for_the_controller_reaches_it(void) {
    pair nodes = pair_new();
    cscp_pair pair;
    peer p;
    peer_join(&p, nodes.entry, 5);
    uint64_t connection = host_next(nodes.owner, CSCP_MSG_CONNECTED).connection;
    CHECK_EQ(cscp_disconnect(nodes.owner, connection, CSCP_REASON_BAD_SERIAL, 1234), 0);
    cscp_frame frame = peer_expect(&p, CSCP_GOAWAY);
    CHECK_EQ(cscp_parse_goaway(frame.payload, frame.n_payload, &pair), 0);
    CHECK(pair.a == CSCP_REASON_BAD_SERIAL && pair.b == 1234);
    peer_expect_end(&p);
    peer_close(&p);
    peer_join(&p, nodes.entry, 5);
    peer_event_at(&p, 7); /* the owner judges order */
    CHECK_EQ(peer_expect_reason(&p), CSCP_REASON_BAD_ORDER);
    peer_expect_end(&p);
    peer_close(&p);
    peer_join(&p, nodes.entry, 5);
    peer_write(&p, "what is this", 12); /* the entry judges form */
    peer_event(&p);
    peer_write(&p, "what is this", 12);
    peer_event(&p);
    peer_write(&p, "what is this", 12);
    peer_write(&p, "what is this", 12);
    peer_event(&p);
    peer_write(&p, "what is this", 12);
    CHECK_EQ(peer_expect_reason(&p), CSCP_REASON_OUT_OF_SYNC);
    peer_expect_end(&p);
    peer_close(&p);
    HOST_UNTIL(nodes.owner, counters.events == 3); /* what was in order is passed on all the same */
    CHECK_EQ(host_counters(nodes.owner).resyncs, 0);
    CHECK_EQ(host_counters(nodes.entry).relay_losses, 0);
    pair_free(&nodes);
}

static void an_entry_that_stops_tells_its_guests_an_owner_that_stops_does_not(void) {
    cscp_config config = node_config();
    pair nodes = pair_new();
    cscp *next = node_new(&config);
    peer p;
    peer_join(&p, nodes.entry, 5);
    node_owns(next, 4);
    cscp_stop_accepting(nodes.owner, true, 5);
    HOST_UNTIL(nodes.entry, counters.relay_losses == 1);
    node_relays(nodes.entry, cscp_port(next), 4);
    CHECK_EQ(peer_expect_another_welcome(&p).owner_epoch, 4);
    cscp_stop_accepting(nodes.entry, true, 5);
    CHECK_EQ(peer_expect_reason(&p), CSCP_REASON_STOPPING);
    peer_event(&p); /* it finishes what it is doing */
    CHECK_EQ(host_wait(next, CSCP_MSG_EVENT).seq, 1);
    peer_close(&p);
    CHECK_EQ(host_next(next, CSCP_MSG_DISCONNECTED).reason, CSCP_REASON_PEER_CLOSED);
    pair_free(&nodes);
    cscp_free(next);
}

static void nodes_that_take_each_other_for_the_owner_end_it_there(void) {
    cscp_config config = node_config();
    config.hold_ms = 200;
    cscp *a = node_new(&config);
    config.hold_ms = 400;
    cscp *b = node_new(&config);
    peer p;
    node_relays(a, cscp_port(b), 3);
    node_relays(b, cscp_port(a), 3);
    uint64_t begin = now_ms();
    peer_connect(&p, b);
    peer_hello(&p, 5);
    peer_expect(&p, CSCP_BUSY);
    CHECK(now_ms() - begin >= 200);
    peer_expect_end(&p);
    peer_close(&p);
    CHECK(host_counters(b).relay_failures >= 1 && host_counters(b).relay_attaches == 0);
    CHECK_EQ(host_counters(b).accepted, 1); /* never by a */
    CHECK(host_counters(a).accepted >= 1);
    CHECK_EQ(host_counters(a).relay_failures + host_counters(a).relays, 0);
    /* And one that is to be the owner in a moment need not be asked twice. */
    peer_connect(&p, b);
    peer_hello(&p, 5);
    peer_expect_silence(&p, 50);
    node_owns(a, 3);
    peer_expect_welcome(&p);
    peer_close(&p);
    cscp_free(a);
    cscp_free(b);
}

static void there_is_a_limit_to_relays(void) {
    cscp_config config = node_config();
    cscp *owner = node_new(&config);
    config.relays_max = 1;
    cscp *entry = node_new(&config);
    peer p, q;
    node_owns(owner, 3);
    node_relays(entry, cscp_port(owner), 3);
    peer_join(&p, entry, 5);
    peer_connect(&q, entry);
    peer_hello(&q, 6);
    peer_expect(&q, CSCP_BUSY);
    peer_expect_end(&q);
    peer_close(&q);
    peer_close(&p);
    HOST_UNTIL(entry, counters.relays == 0);
    peer_join(&q, entry, 6);
    peer_close(&q);
    cscp_free(entry);
    cscp_free(owner);
}

/* The owner gives a controller up that answers nothing; it must not come back through the entry for
 * ever. */
static void a_controller_that_is_silent_is_not_relayed_again(void) {
    cscp_config config = node_config();
    config.t1_ms = 200;
    config.t2_ms = 20;
    config.t3_ms = 200;
    config.hold_ms = 400;
    cscp *entry = node_new(&config), *owner = node_new(&config);
    peer p;
    node_owns(owner, 3);
    node_relays(entry, cscp_port(owner), 3);
    peer_join(&p, entry, 5);
    host_next(owner, CSCP_MSG_CONNECTED);
    CHECK_EQ(host_wait(owner, CSCP_MSG_DISCONNECTED).reason, CSCP_REASON_PING_TIMEOUT);
    cscp_frame frame;
    int r;
    while ((r = peer_read(&p, &frame, PATIENCE_MS)) == 1)
        ;
    CHECK_EQ(r, 0);
    CHECK_EQ(host_counters(owner).accepted, 1);
    peer_close(&p);
    /* But when it shows that it lives, it is. */
    peer_join(&p, entry, 5);
    CHECK_EQ(host_wait(owner, CSCP_MSG_DISCONNECTED).reason, CSCP_REASON_PING_TIMEOUT);
    peer_expect(&p, CSCP_PING); /* the owner's */
    peer_answer_ping(&p);       /* the entry's */
    peer_expect_another_welcome(&p);
    CHECK_EQ(host_counters(owner).accepted, 3);
    peer_close(&p);
    cscp_free(entry);
    cscp_free(owner);
}

/* Descriptors and memory come back, whoever goes first. */
static void freeing_in_the_middle_of_everything_is_clean(void) {
    for (int round = 0; round < 6; round++) {
        enum { N = 40 };
        static peer peers[N];
        cscp_config config = node_config();
        config.n_io_threads = 2;
        pair nodes = {node_new(&config), node_new(&config)};
        node_owns(nodes.owner, 3);
        node_relays(nodes.entry, cscp_port(nodes.owner), 3);
        for (unsigned i = 0; i < N; i++) {
            peer_connect(&peers[i], nodes.entry);
            peer_hello(&peers[i], 1 + i % 30);
        }
        if (round % 3 == 1) HOST_UNTIL(nodes.entry, counters.relay_attaches > N / 2);
        if (round % 3 == 2) {
            HOST_UNTIL(nodes.entry, counters.relay_attaches > N / 2);
            node_owns(nodes.entry, 4);
        }
        if (round % 2) {
            cscp_free(nodes.owner);
            cscp_free(nodes.entry);
        } else
            pair_free(&nodes);
        for (unsigned i = 0; i < N; i++) peer_close(&peers[i]);
    }
}

int main(void) {
    RUN(everything_flows_both_ways);
    RUN(who_came_through_a_load_balancer_is_known_to_the_owner);
    RUN(an_owner_that_does_not_trust_the_entry_takes_nobody_from_it);
    RUN(however_the_bytes_come_the_frames_are_whole);
    RUN(ownership_moves_and_the_connection_stays);
    RUN(who_has_no_owner_is_kept_alive_and_finds_the_next_one);
    RUN(an_owner_that_comes_back_at_its_place_is_found_again);
    RUN(who_finds_no_owner_is_sent_away_in_time);
    RUN(a_route_that_is_gone_takes_nobody_from_a_sound_owner);
    RUN(the_owner_decides_who_supersedes);
    RUN(what_is_meant_for_the_controller_reaches_it);
    RUN(an_entry_that_stops_tells_its_guests_an_owner_that_stops_does_not);
    RUN(nodes_that_take_each_other_for_the_owner_end_it_there);
    RUN(there_is_a_limit_to_relays);
    RUN(a_controller_that_is_silent_is_not_relayed_again);
    RUN(freeing_in_the_middle_of_everything_is_clean);
    return 0;
}
