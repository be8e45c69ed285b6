/* A taker who does not take: controllers are held back, nothing is lost, nobody is timed out. */
#include "host.h"

enum { N_PEERS = 40, K = 64 };

static void answer_pings(peer *p) {
    cscp_frame frame;
    uint8_t bytes[CSCP_U64_FRAME];
    uint64_t token;
    int r;
    while ((r = peer_read(p, &frame, 0)) == 1)
        if (frame.type == CSCP_PING) {
            CHECK_EQ(cscp_parse_u64(frame.payload, frame.n_payload, &token), 0);
            peer_write(p, bytes, cscp_write_u64(bytes, CSCP_PONG, token));
        }
    CHECK_EQ(r, -1); /* not closed */
}

static void a_full_ring_holds_controllers_back_and_loses_nothing(void) {
    static peer peers[N_PEERS];
    uint64_t handles[N_PEERS + 1] = {0}, next[N_PEERS + 1];
    cscp_config config = host_config();
    config.ring_bytes = 65536; /* a quarter of what they will send */
    config.t1_ms = 200;
    config.t2_ms = 100;
    config.t3_ms = 200;
    cscp *host = host_new(&config);
    for (unsigned i = 0; i < N_PEERS; i++) {
        peer_join(&peers[i], host, i + 1);
        cscp_message connected = host_next(host, CSCP_MSG_CONNECTED);
        handles[connected.serial] = connected.connection;
        next[connected.serial] = 1;
    }
    for (unsigned i = 0; i < N_PEERS; i++)
        for (unsigned seq = 1; seq <= K; seq++) peer_event(&peers[i]);
    HOST_UNTIL(host, counters.ring_full >= 1);
    CHECK(host_counters(host).events < N_PEERS * K);
    /* Much longer than t1 + t3; those who are not read are sent pings all the same. */
    for (uint64_t until = now_ms() + 1500; now_ms() < until; usleep(20000))
        for (unsigned i = 0; i < N_PEERS; i++) answer_pings(&peers[i]);
    CHECK_EQ(host_counters(host).sessions, N_PEERS);
    CHECK_EQ(host_counters(host).ping_timeouts, 0);
    for (unsigned n = 0; n < N_PEERS * K;) {
        cscp_message messages[7];
        int got = cscp_get_messages(host, messages, 7, PATIENCE_MS);
        CHECK(got > 0);
        for (int i = 0; i < got; i++) {
            CHECK_EQ(messages[i].kind, CSCP_MSG_EVENT);
            CHECK_EQ(messages[i].connection, handles[messages[i].serial]);
            CHECK_EQ(messages[i].seq, next[messages[i].serial]++);
            CHECK_EQ(messages[i].occurred_at_ms, 1000 + messages[i].seq);
            CHECK(memcmp(messages[i].body, "body", 4) == 0);
            n++;
        }
    }
    for (unsigned i = 0; i < N_PEERS; i++) peer_close(&peers[i]);
    for (unsigned i = 0; i < N_PEERS; i++) host_next(host, CSCP_MSG_DISCONNECTED);
    CHECK_EQ(host_counters(host).unacked, 0);
    cscp_free(host);
}

/* Connections and commands end while there is no room to say so. */
static void what_is_owed_is_handed_up_when_there_is_room(void) {
    enum { N = 900 };
    static peer peers[N];
    static unsigned n_connected[N + 1], n_disconnected[N + 1];
    cscp_config config = host_config();
    config.ring_bytes = 65536;
    cscp *host = host_new(&config);
    unsigned n_commands = 0, n_outcomes = 0, n_open = 0;
    uint64_t until = now_ms() + PATIENCE_MS;
    cscp_message message;
    for (unsigned i = 0; i < N; i++) {
        peer_connect(&peers[i], host);
        peer_hello(&peers[i], i + 1);
    }
    HOST_UNTIL(host, counters.ring_full >= 1);
    for (unsigned i = 0; i < N; i++)
        for (unsigned j = 0; j < 3; j++) {
            cscp_command command = {.serial = i + 1, .id = {(uint8_t)j}};
            n_commands += cscp_config_command(host, &command) == 0;
        }
    CHECK(n_commands > 0);
    HOST_UNTIL(host, counters.commands_sent == n_commands);
    /* All welcomed are sent away, those not yet welcomed close by themselves. */
    CHECK_EQ(cscp_set_ranges(host, NULL, 0), 0);
    for (unsigned i = 0; i < N; i++) peer_close(&peers[i]);
    do {
        CHECK(now_ms() < until);
        if (cscp_get_message(host, &message, 50) != 1) continue;
        n_outcomes += message.kind == CSCP_MSG_COMMAND;
        if (message.kind == CSCP_MSG_CONNECTED) {
            CHECK_EQ(n_connected[message.serial]++, 0);
            n_open++;
        }
        if (message.kind == CSCP_MSG_DISCONNECTED) {
            CHECK_EQ(n_connected[message.serial], 1);
            CHECK_EQ(n_disconnected[message.serial]++, 0);
            n_open--;
        }
    } while (n_open > 0 || n_outcomes < n_commands || host_counters(host).connections > 0);
    CHECK_EQ(n_outcomes, n_commands);
    CHECK_EQ(host_counters(host).sessions, 0);
    CHECK_EQ(cscp_get_message(host, &message, 0), 0);
    cscp_free(host);
}

int main(void) {
    RUN(a_full_ring_holds_controllers_back_and_loses_nothing);
    RUN(what_is_owed_is_handed_up_when_there_is_room);
    return 0;
}
