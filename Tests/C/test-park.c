/* The parking lot: what becomes of connections when their process goes and another one comes. Here
 * both are in this program, one after the other; test-park-crash.c kills real ones. */
#include "host.h"
#include "keeper.h"

#include "../../Sources/CSCP/book.h"
#include "../../Sources/CSCP/lot.h"

#include <sys/mman.h>

static keeper lot;

static cscp *open_host_with(cscp_config *config) {
    static cscp_inherited inherited[KEPT_MAX];
    static char names[KEPT_MAX][KEPT_NAME];
    cscp *host;

    config->keeper = &lot.as_keeper;
    config->inherited = inherited;
    config->n_inherited = keeper_hand_out(&lot, inherited, names);
    CHECK_EQ(cscp_new(config, &host), 0);
    return host;
}

static void own_all(cscp *host) {
    cscp_range all = {.first = 1, .last = UINT64_MAX - 1, .epoch = 1};

    CHECK_EQ(cscp_set_ranges(host, &all, 1), 0);
    cscp_set_valid_until(host, UINT64_MAX);
}

static cscp *open_host(void) {
    cscp_config config = host_config();
    cscp *host = open_host_with(&config);

    own_all(host);
    return host;
}

static cscp_resumption resumed(const cscp *host) {
    cscp_resumption r;

    cscp_get_resumption(host, &r);
    return r;
}

static cscp *begin(void) {
    keeper_init(&lot);
    return open_host();
}

static void end(cscp *host) {
    cscp_free(host);
    keeper_done(&lot);
}

/* All that is connected is parked. */
static void parked(cscp *host, unsigned n) {
    HOST_UNTIL(host, counters.parked == n);
}

static void a_controller_does_not_notice_that_its_host_is_another_one(void) {
    cscp *host = begin();
    cscp_message connected, again, event;
    cscp_welcome welcome;
    uint16_t port = cscp_port(host);
    peer p;

    CHECK_EQ(resumed(host).connections, 0);
    peer_join(&p, host, 7);
    connected = host_wait(host, CSCP_MSG_CONNECTED);
    peer_event(&p);
    peer_event(&p);
    event = host_wait(host, CSCP_MSG_EVENT);
    host_ack(host, &event);
    CHECK_EQ(peer_expect_ack(&p), 1);
    parked(host, 1);
    cscp_free(host);

    host = open_host();
    CHECK_EQ(cscp_port(host), port);
    CHECK_EQ(resumed(host).listeners, 1);
    CHECK_EQ(resumed(host).connections, 1);
    CHECK_EQ(resumed(host).welcomed, 1);
    CHECK_EQ(resumed(host).ended + resumed(host).stateless + resumed(host).socketless, 0);
    welcome = peer_expect_welcome(&p);
    CHECK_EQ(welcome.resume_from, 2);
    CHECK_EQ(welcome.flags, CSCP_WELCOME_RESUMED);
    again = host_wait(host, CSCP_MSG_CONNECTED);
    CHECK_EQ(again.serial, 7);
    CHECK_EQ(again.session_id, connected.session_id);
    CHECK_EQ(welcome.session_id, connected.session_id);
    CHECK_EQ(again.n_model, 5);
    CHECK(memcmp(again.model, "model", 5) == 0);
    CHECK_EQ(again.seq, 2);
    /* What it was told before is told again; then the second event comes again, and a third. */
    CHECK_EQ(peer_expect_ack(&p), 1);
    peer_event(&p);
    peer_event(&p);
    event = host_wait(host, CSCP_MSG_EVENT);
    CHECK_EQ(event.seq, 2);
    event = host_wait(host, CSCP_MSG_EVENT);
    CHECK_EQ(event.seq, 3);
    host_ack(host, &event);
    CHECK_EQ(peer_expect_ack(&p), 3);
    peer_close(&p);
    CHECK_EQ(host_wait(host, CSCP_MSG_DISCONNECTED).reason, CSCP_REASON_PEER_CLOSED);
    end(host);
}

static void listeners_are_gone_on_with_if_they_listen_where_they_are_to(void) {
    static const char *const addresses[] = {"127.0.0.1", "::", "::1"};
    cscp_config config = host_config();
    cscp *host;

    for (unsigned i = 0; i < 3; i++) {
        keeper_init(&lot);
        config.bind_address = addresses[i];
        config.n_io_threads = 2;
        host = open_host_with(&config);
        config.port = cscp_port(host);
        cscp_free(host);
        host = open_host_with(&config);
        CHECK_EQ(resumed(host).listeners, 2);
        CHECK_EQ(cscp_port(host), config.port);
        cscp_free(host);
        /* One thread less, then elsewhere. */
        config.n_io_threads = 1;
        host = open_host_with(&config);
        CHECK_EQ(resumed(host).listeners, 1);
        CHECK_EQ(keeper_count(&lot, "cscp.listen"), 1);
        cscp_free(host);
        config.bind_address = "127.0.0.2";
        config.port = 0;
        host = open_host_with(&config);
        CHECK_EQ(resumed(host).listeners, 0);
        CHECK_EQ(keeper_count(&lot, "cscp.listen"), 1);
        end(host);
    }
}

static void who_stops_accepting_leaves_nobody_in_the_queue_of_a_kept_listener(void) {
    cscp *host = begin();
    cscp_config config = host_config();
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(cscp_port(host)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uint64_t until = boot_ns() + UINT64_C(10000000000);
    int fd, r;

    CHECK_EQ(keeper_count(&lot, "cscp.listen"), 1);
    cscp_stop_accepting(host, true, 100);
    do {
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        r = connect(fd, (struct sockaddr *)&address, sizeof(address));
        close(fd);
    } while (r == 0 && boot_ns() < until);
    CHECK(r < 0);
    /* Another process listens there anew. */
    config.port = cscp_port(host);
    cscp_free(host);
    host = open_host_with(&config);
    CHECK_EQ(resumed(host).listeners, 0);
    CHECK_EQ(cscp_port(host), config.port);
    end(host);
}

static void records_under_way_from_before_are_not_held_against_it(void) {
    cscp *host = begin();
    uint8_t frame[CSCP_FRAME_MAX];
    cscp_message event;
    size_t n;
    peer p;

    peer_join(&p, host, 7);
    parked(host, 1);
    /* The host reads half a frame, and is gone; the other half is the next one's to read. */
    n = peer_make_event(&p, 1, frame);
    peer_write(&p, frame, n / 2);
    HOST_UNTIL(host, counters.bytes_in > n / 2 + 100);
    cscp_free(host);
    peer_write(&p, frame + n / 2, n - n / 2);
    peer_event_at(&p, 2);
    peer_event_at(&p, 3);
    host = open_host();
    peer_expect_welcome(&p);
    peer_event_at(&p, 1);
    peer_event_at(&p, 2);
    event = host_wait(host, CSCP_MSG_EVENT);
    CHECK_EQ(event.seq, 1);
    event = host_wait(host, CSCP_MSG_EVENT);
    CHECK_EQ(event.seq, 2);
    CHECK_EQ(host_counters(host).resyncs, 0);
    peer_close(&p);
    end(host);
}

static void one_that_has_not_said_hello_says_it_to_the_next_host(void) {
    cscp *host = begin();
    uint8_t frame[CSCP_FRAME_MAX];
    cscp_hello hello = peer_hello_fields(8);
    size_t n = cscp_write_hello(frame, &hello);
    peer p, silent;

    peer_connect(&silent, host);
    peer_connect(&p, host);
    peer_write(&p, frame, n - 3);
    parked(host, 2);
    cscp_free(host);
    peer_write(&p, frame + n - 3, 3);
    host = open_host();
    CHECK_EQ(resumed(host).connections, 2);
    CHECK_EQ(resumed(host).welcomed, 0);
    CHECK_EQ(peer_expect_welcome(&p).flags, 0);
    peer_hello(&silent, 9);
    peer_expect_welcome(&silent);
    host_wait(host, CSCP_MSG_CONNECTED);
    host_wait(host, CSCP_MSG_CONNECTED);
    peer_close(&p);
    peer_close(&silent);
    end(host);
}

static void one_that_waits_for_its_welcome_gets_it_from_the_next_host(void) {
    cscp_config config = host_config();
    peer p, event_too;
    cscp *host;

    keeper_init(&lot);
    host = open_host_with(&config); /* owns nothing yet */
    peer_connect(&p, host);
    peer_hello(&p, 8);
    peer_connect(&event_too, host);
    HOST_UNTIL(host, counters.frames_in == 1);
    parked(host, 2);
    cscp_free(host);
    /* And one whose HELLO comes while there is no host. */
    peer_hello(&event_too, 9);
    host = open_host();
    CHECK_EQ(resumed(host).connections, 2);
    CHECK_EQ(peer_expect_welcome(&p).resume_from, 1);
    peer_expect_welcome(&event_too);
    peer_event(&p);
    CHECK_EQ(host_wait(host, CSCP_MSG_EVENT).seq, 1);
    peer_close(&p);
    peer_close(&event_too);
    end(host);
}

static void what_ended_ends(void) {
    cscp *host = begin();
    cscp_message connected;
    peer told, gone, stays;

    peer_join(&told, host, 7);
    connected = host_wait(host, CSCP_MSG_CONNECTED);
    peer_join(&gone, host, 8);
    peer_join(&stays, host, 9);
    parked(host, 3);
    /* One that is sent away sees the end, though a copy of its socket is parked. */
    CHECK_EQ(cscp_disconnect(host, connected.connection, CSCP_REASON_BUSY, 0), 0);
    CHECK_EQ(peer_expect_reason(&told), CSCP_REASON_BUSY);
    peer_expect_end(&told);
    peer_close(&told);
    HOST_UNTIL(host, counters.connections == 2);
    cscp_free(host);
    peer_close(&gone); /* while there is no host: FIN waits in the socket */
    host = open_host();
    CHECK_EQ(resumed(host).ended, 1);
    CHECK_EQ(resumed(host).connections, 2);
    peer_expect_welcome(&stays);
    HOST_UNTIL(host, counters.connections == 1);
    peer_close(&stays);
    end(host);
}

/* A controller is parked, and there is no host. */
static void leave_one(peer *p) {
    cscp *host = begin();

    peer_join(p, host, 7);
    parked(host, 1);
    cscp_free(host);
}

/* From the end: what is dropped may have the last put into its place. */
static void drop_all(const char *prefix) {
    for (unsigned i = lot.n; i-- > 0;)
        if (strncmp(lot.names[i], prefix, strlen(prefix)) == 0)
            keeper_drop(&lot, lot.names[i]);
}

static void sockets_without_state_are_closed_and_counted(void) {
    cscp_config config = host_config();
    cscp *host;
    peer p;

    leave_one(&p);
    drop_all("cscp.book");
    host = open_host_with(&config);
    CHECK_EQ(resumed(host).stateless, 1);
    CHECK_EQ(resumed(host).connections, 0);
    CHECK(!resumed(host).unknown_version);
    peer_expect_end(&p);
    own_all(host);
    peer_close(&p);
    peer_join(&p, host, 7); /* and it connects again */
    peer_close(&p);
    HOST_UNTIL(host, counters.connections == 0);
    end(host);
}

static void a_state_of_an_unknown_version_is_said_to_be_one(void) {
    cscp_config config = host_config();
    cscp_book_head *head;
    cscp *host;
    peer p;

    leave_one(&p);
    head = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, keeper_fd(&lot, "cscp.book"), 0);
    CHECK(head != MAP_FAILED);
    head->version++;
    munmap(head, 4096);
    host = open_host_with(&config);
    CHECK(resumed(host).unknown_version);
    CHECK_EQ(resumed(host).stateless, 1);
    peer_expect_end(&p);
    CHECK_EQ(keeper_count(&lot, "cscp.book"), 1); /* ours instead */
    peer_close(&p);
    end(host);
}

static void state_without_sockets_is_counted(void) {
    cscp_config config = host_config();
    cscp *host;
    peer p;

    leave_one(&p);
    drop_all("cscp.lot");
    peer_expect_end(&p);
    host = open_host_with(&config);
    CHECK_EQ(resumed(host).socketless, 1);
    CHECK_EQ(resumed(host).connections, 0);
    peer_close(&p);
    end(host);
}

/* What a process leaves that is killed in send(): of a command's `n` bytes `sent` are sent, and which
 * of them, its ticket does not know. There is one connection, and no host. */
static void be_killed_sending(size_t n_body, size_t sent) {
    uint8_t frame[CSCP_FRAME_MAX], body[CSCP_COMMAND_BODY_MAX];
    cscp_command_frame command = {.owner_epoch = 1, .code = 1, .n_body = (uint16_t)n_body,
                                  .body = body};
    cscp_book_head *head;
    cscp_ticket *ticket;
    int fds[CSCP_ROW_BATCH], book_fd = keeper_fd(&lot, "cscp.book"), n = 0;
    size_t n_frame;
    bool cut;

    memset(body, 0xAB, sizeof(body));
    n_frame = cscp_write_command(frame, &command);
    if (sent > n_frame)
        sent = n_frame;
    for (unsigned i = 0; i < lot.n && n == 0; i++) {
        cscp_row *row;

        if (strncmp(lot.names[i], "cscp.lot", 8) != 0)
            continue;
        CHECK_EQ(cscp_row_adopt(fcntl(lot.fds[i], F_DUPFD_CLOEXEC, 0), "it", &row), 0);
        CHECK_EQ(cscp_row_look(row), 0);
        n = cscp_row_next(row, fds, &cut);
        cscp_row_free(row);
    }
    CHECK_EQ(n, 1);
    CHECK_EQ(send(fds[0], frame, sent, MSG_NOSIGNAL), (ssize_t)sent);
    close(fds[0]);
    head = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, book_fd, 0);
    CHECK(head != MAP_FAILED);
    ticket = (cscp_ticket *)(void *)((uint8_t *)head + head->tickets_at);
    CHECK(ticket->cookie != 0);
    ticket->unsent = (uint32_t)n_frame;
    munmap(head, 8192);
}

static void a_frame_that_was_broken_off(size_t n_body, size_t sent, bool arrives) {
    cscp *host = begin();
    cscp_frame frame;
    peer p;

    peer_join(&p, host, 7);
    parked(host, 1);
    cscp_free(host);
    be_killed_sending(n_body, sent);
    host = open_host();
    /* Whatever was begun is over before WELCOME, which would lie inside it otherwise. */
    CHECK_EQ(peer_read(&p, &frame, PATIENCE_MS), 1);
    if (arrives) {
        CHECK_EQ(frame.type, CSCP_COMMAND);
        CHECK_EQ(peer_read(&p, &frame, PATIENCE_MS), 1);
    }
    CHECK_EQ(frame.type, CSCP_WELCOME);
    CHECK(p.decoder.resyncs <= 1);
    p.next = 1;
    peer_event(&p);
    CHECK_EQ(host_wait(host, CSCP_MSG_EVENT).seq, 1);
    peer_close(&p);
    end(host);
}

static void a_broken_off_frame_is_filled_up_before_welcome(void) {
    a_frame_that_was_broken_off(4000, 2, false);
    a_frame_that_was_broken_off(4000, 100, false);
    a_frame_that_was_broken_off(4000, 4000, false);
    a_frame_that_was_broken_off(100, 30, false);
    /* And when none of it was sent, or all. */
    a_frame_that_was_broken_off(4000, 0, false);
    a_frame_that_was_broken_off(4000, SIZE_MAX, true);
}

static void of_two_connections_of_a_serial_the_newer_goes_on(void) {
    cscp_config config = host_config();
    peer older, newer;
    cscp *host;

    keeper_init(&lot);
    config.n_io_threads = 3;
    host = open_host_with(&config); /* owns nothing, so neither is welcomed, and both are there */
    peer_connect(&older, host);
    peer_hello(&older, 8);
    HOST_UNTIL(host, counters.frames_in == 1);
    peer_connect(&newer, host);
    parked(host, 2);
    cscp_free(host);
    host = open_host_with(&config);
    own_all(host);
    peer_expect_welcome(&older);
    peer_hello(&newer, 8);
    peer_expect(&older, CSCP_SUPERSEDED);
    peer_expect_welcome(&newer);
    peer_close(&older);
    peer_close(&newer);
    end(host);
}

static void many_come_and_go_and_the_lot_stays_as_large_as_what_is_in_it(void) {
    enum { N = 600, ROUNDS = 6 };
    static peer stays[N], goes[N];
    cscp *host = begin();

    for (unsigned i = 0; i < N; i++)
        peer_join(&stays[i], host, 1000 + i);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < N; i++)
            peer_join(&goes[i], host, 5000 + i);
        parked(host, 2 * N);
        for (unsigned i = 0; i < N; i++)
            peer_close(&goes[i]);
        parked(host, N);
    }
    /* Closed ones, were they still there, would take as many rows as rounds. */
    HOST_UNTIL(host, counters.rows_swept > 0 && keeper_count(&lot, "cscp.lot") <= 4);
    cscp_free(host);
    host = open_host();
    CHECK_EQ(resumed(host).connections, N);
    for (unsigned i = 0; i < N; i++) {
        peer_expect_welcome(&stays[i]);
        peer_close(&stays[i]);
    }
    HOST_UNTIL(host, counters.connections == 0);
    end(host);
}

static void many_hosts_one_after_the_other_leave_no_rows_behind(void) {
    cscp_config config = host_config();
    cscp *host = begin();
    peer peers[12];

    for (unsigned i = 0; i < 12; i++) {
        peer_join(&peers[i], host, 100 + i);
        parked(host, i + 1);
        cscp_free(host);
        config.n_io_threads = 1 + i % 4;
        host = open_host_with(&config);
        own_all(host);
        CHECK_EQ(resumed(host).connections, i + 1);
        for (unsigned j = 0; j <= i; j++)
            peer_expect_welcome(&peers[j]);
    }
    CHECK_EQ(keeper_count(&lot, "cscp.book"), 1);
    CHECK(keeper_count(&lot, "cscp.listen") <= 4);
    /* A row for each of those that brought somebody, at most, and what the threads have ready. */
    CHECK(keeper_count(&lot, "cscp.lot") <= 12 + 8);
    for (unsigned i = 0; i < 12; i++)
        peer_close(&peers[i]);
    HOST_UNTIL(host, counters.parked == 0 && keeper_count(&lot, "cscp.lot") <= 8);
    end(host);
}

static void without_a_keeper_nothing_is_inherited(void) {
    cscp_config config = host_config();
    cscp_inherited one = {.name = "cscp.book.1.0", .fd = -1};
    const char *why;
    cscp *host;

    config.inherited = &one;
    config.n_inherited = 1;
    CHECK_EQ(cscp_config_check(&config, &why), -EINVAL);
    CHECK(strstr(why, "keeper"));
    keeper_init(&lot);
    lot.error = -ENOSPC;
    config.n_inherited = 0;
    config.keeper = &lot.as_keeper;
    CHECK_EQ(cscp_new(&config, &host), -ENOSPC);
    keeper_done(&lot);
}

int main(void) {
    RUN(a_controller_does_not_notice_that_its_host_is_another_one);
    RUN(listeners_are_gone_on_with_if_they_listen_where_they_are_to);
    RUN(who_stops_accepting_leaves_nobody_in_the_queue_of_a_kept_listener);
    RUN(records_under_way_from_before_are_not_held_against_it);
    RUN(one_that_has_not_said_hello_says_it_to_the_next_host);
    RUN(one_that_waits_for_its_welcome_gets_it_from_the_next_host);
    RUN(what_ended_ends);
    RUN(sockets_without_state_are_closed_and_counted);
    RUN(a_state_of_an_unknown_version_is_said_to_be_one);
    RUN(state_without_sockets_is_counted);
    RUN(a_broken_off_frame_is_filled_up_before_welcome);
    RUN(of_two_connections_of_a_serial_the_newer_goes_on);
    RUN(many_come_and_go_and_the_lot_stays_as_large_as_what_is_in_it);
    RUN(many_hosts_one_after_the_other_leave_no_rows_behind);
    RUN(without_a_keeper_nothing_is_inherited);
    return 0;
}
