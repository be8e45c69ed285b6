/* One session per serial, over threads, in any order of events: the taker sees CONNECTED and
 * DISCONNECTED of a serial's sessions strictly in turn, and nothing of an older session after the
 * newer one's CONNECTED. */
#include "host.h"

#include <fcntl.h>
#include <pthread.h>

static void the_newer_connection_supersedes_the_older(void) {
    cscp_config config = host_config();
    config.n_io_threads = 2;
    cscp *host = host_new(&config);
    for (int i = 0; i < 20; i++) { /* by the luck of the port: the same thread or another */
        uint64_t serial = 100 + (uint64_t)i, session_id;
        peer a, b;
        peer_connect(&a, host);
        peer_hello(&a, serial);
        cscp_welcome welcome = peer_expect_welcome(&a);
        peer_event(&a);
        uint64_t older = host_next(host, CSCP_MSG_CONNECTED).connection;
        host_next(host, CSCP_MSG_EVENT);
        peer_join(&b, host, serial);
        cscp_frame frame = peer_expect(&a, CSCP_SUPERSEDED);
        CHECK_EQ(cscp_parse_u64(frame.payload, frame.n_payload, &session_id), 0);
        CHECK(session_id == welcome.session_id);
        peer_expect_end(&a);
        cscp_message gone = host_next(host, CSCP_MSG_DISCONNECTED);
        CHECK_EQ(gone.connection, older);
        CHECK_EQ(gone.reason, CSCP_REASON_SUPERSEDED);
        CHECK(host_next(host, CSCP_MSG_CONNECTED).connection != older);
        peer_close(&a);
        peer_close(&b);
        host_next(host, CSCP_MSG_DISCONNECTED);
    }
    CHECK_EQ(host_counters(host).superseded, 20);
    CHECK_EQ(host_counters(host).sessions, 0);
    cscp_free(host);
}

enum { N_CLIENTS = 3, N_SERIALS = 4, N_ROUNDS = 1500 };

static cscp *the_host;
static atomic_int n_running;

/* Connects and connects again, for few serials, without regard for anybody. */
static void *reconnect(void *argument) {
    unsigned seed = (unsigned)(uintptr_t)argument;
    for (int round = 0; round < N_ROUNDS; round++) {
        static _Thread_local peer peers[3];
        uint8_t bytes[CSCP_FRAME_MAX * 8];
        unsigned n = 1 + (unsigned)rand_r(&seed) % 3;
        uint64_t serial = 1 + (unsigned)rand_r(&seed) % N_SERIALS;
        for (unsigned i = 0; i < n; i++) {
            peer_connect(&peers[i], the_host);
            peer_hello(&peers[i], serial);
        }
        for (unsigned i = 0; i < n; i++) {
            cscp_frame frame;
            if (rand_r(&seed) % 4 != 0 && peer_read(&peers[i], &frame, PATIENCE_MS) == 1 &&
                frame.type == CSCP_WELCOME) {
                size_t n_bytes = 0;
                for (uint64_t seq = 1; seq <= 5; seq++)
                    n_bytes += peer_make_event(&peers[i], seq, bytes + n_bytes);
                /* It may be superseded at any moment. */
                ssize_t written = send(peers[i].fd, bytes, n_bytes, MSG_NOSIGNAL);
                (void)written;
            }
        }
        for (unsigned i = 0; i < n; i++) peer_close(&peers[i]);
    }
    atomic_fetch_sub(&n_running, 1);
    return NULL;
}

static void sessions_of_a_serial_are_seen_strictly_in_turn(void) {
    cscp_config config = host_config();
    config.n_io_threads = 3;
    config.ring_bytes = 65536; /* small: what is owed has to wait, too */
    config.handshakes_per_second = 1000000;
    config.handshake_burst = 1000000;
    the_host = host_new(&config);
    pthread_t threads[N_CLIENTS];
    uint64_t current[N_SERIALS + 1] = {0}, next_seq[N_SERIALS + 1] = {0};
    uint64_t epoch[N_SERIALS + 1] = {0};
    cscp_message messages[64];
    uint64_t n_connected = 0, n_events = 0, n_commands = 0, n_outcomes = 0;
    unsigned turn = 0;
    atomic_store(&n_running, N_CLIENTS);
    for (uintptr_t i = 0; i < N_CLIENTS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, reconnect, (void *)(i + 1)), 0);
    for (;;) {
        bool last = atomic_load(&n_running) == 0 && host_counters(the_host).connections == 0;
        int n = cscp_get_messages(the_host, messages, 64, 5);
        CHECK(n >= 0);
        if (n == 0 && last) break;
        for (int i = 0; i < n; i++) {
            const cscp_message *m = &messages[i];
            CHECK(m->serial <= N_SERIALS);
            switch (m->kind) {
            case CSCP_MSG_CONNECTED:
                CHECK(current[m->serial] == 0);
                current[m->serial] = m->connection;
                next_seq[m->serial] = 1;
                epoch[m->serial] = m->owner_epoch;
                n_connected++;
                break;
            case CSCP_MSG_EVENT:
                CHECK(current[m->serial] == m->connection);
                CHECK_EQ(m->seq, next_seq[m->serial]++);
                CHECK_EQ(m->owner_epoch, epoch[m->serial]);
                n_events++;
                break;
            case CSCP_MSG_DISCONNECTED:
                CHECK(current[m->serial] == m->connection);
                current[m->serial] = 0;
                break;
            case CSCP_MSG_COMMAND:
                n_outcomes++;
                break;
            default:
                break;
            }
        }
        cscp_command command = {.serial = 1 + turn++ % N_SERIALS, .lane = CSCP_LANE_NORMAL};
        n_commands += cscp_config_command(the_host, &command) == 0;
        if (turn % 8 == 0) { /* now and then all of them lose their owner, and have it again */
            cscp_range all = {1, 100, 1 + turn / 8};
            CHECK_EQ(cscp_set_ranges(the_host, &all, 1), 0);
        }
        if (turn % 16 == 0) {
            cscp_session_info infos[N_SERIALS];
            CHECK(cscp_list_sessions(the_host, 0, infos, N_SERIALS, PATIENCE_MS) >= 0);
        }
    }
    for (int i = 0; i < N_CLIENTS; i++) pthread_join(threads[i], NULL);
    for (int i = 1; i <= N_SERIALS; i++) CHECK(current[i] == 0);
    CHECK(n_connected > N_ROUNDS / 4);
    CHECK_EQ(n_outcomes, n_commands);
    CHECK_EQ(host_counters(the_host).sessions, 0);
    CHECK_EQ(host_counters(the_host).unacked, 0);
    CHECK_EQ(host_counters(the_host).events, n_events);
    printf("# %" PRIu64 " sessions, %" PRIu64 " superseded, %" PRIu64 " events, %" PRIu64
           " commands\n",
           n_connected, host_counters(the_host).superseded, n_events, n_commands);
    cscp_free(the_host);
}

static void freeing_in_the_middle_of_everything_is_clean(void) {
    cscp_config config = host_config();
    config.n_io_threads = 3;
    config.ring_bytes = 65536;
    for (int round = 0; round < 10; round++) {
        static peer peers[60];
        cscp *host = host_new(&config);
        for (unsigned i = 0; i < 60; i++) {
            peer_connect(&peers[i], host);
            peer_hello(&peers[i], 1 + i % 7);
        }
        cscp_command command = {.serial = 3};
        for (int i = 0; i < 20; i++) cscp_config_command(host, &command);
        cscp_free(host);
        for (unsigned i = 0; i < 60; i++) peer_close(&peers[i]);
    }
}

int main(void) {
    RUN(the_newer_connection_supersedes_the_older);
    RUN(sessions_of_a_serial_are_seen_strictly_in_turn);
    RUN(freeing_in_the_middle_of_everything_is_clean);
    return 0;
}
