/* Connections are taken over by all I/O threads at once: in whatever order they come to be, nothing is
 * sent or received before the keeper has the new book, and what follows is the same. */
#include "host.h"
#include "keeper.h"

#include <sys/resource.h>

enum { N = 400 };

static keeper lot;
static peer peers[N];

/* Everybody has nothing from the host, and is still connected. */
static void nothing_was_sent(void) {
    struct pollfd fds[N];

    for (unsigned i = 0; i < N; i++)
        fds[i] = (struct pollfd){.fd = peers[i].fd, .events = POLLIN | POLLRDHUP};
    CHECK_EQ(poll(fds, N, 0), 0);
}

static int refuse_book, n_books;

/* By then all threads have settled. */
static int keep(void *context, const char *name, int fd) {
    if (strncmp(name, "cscp.book.", 10) == 0 && n_books++ > 0) {
        usleep(20000);
        nothing_was_sent();
        if (refuse_book)
            return -EBUSY;
    }
    return keeper_keep(context, name, fd);
}

static cscp *open_host(uint32_t n_threads) {
    static cscp_inherited inherited[KEPT_MAX];
    static char names[KEPT_MAX][KEPT_NAME];
    cscp_keeper as_keeper = {.keep = keep, .drop = keeper_drop, .context = &lot};
    cscp_config config = host_config();
    cscp *host;
    int r;

    config.n_io_threads = n_threads;
    config.keeper = &as_keeper;
    config.inherited = inherited;
    config.n_inherited = keeper_hand_out(&lot, inherited, names);
    r = cscp_new(&config, &host);
    CHECK_EQ(r, refuse_book ? -EBUSY : 0);
    return r == 0 ? host : NULL;
}

static void own_all(cscp *host) {
    cscp_range all = {.first = 1, .last = UINT64_MAX - 1, .epoch = 1};

    cscp_set_valid_until(host, UINT64_MAX);
    CHECK_EQ(cscp_set_ranges(host, &all, 1), 0);
}

static cscp *begin(uint32_t n_threads) {
    keeper_init(&lot);
    n_books = refuse_book = 0;
    return open_host(n_threads);
}

static void end(cscp *host) {
    for (unsigned i = 0; i < N; i++)
        peer_close(&peers[i]);
    HOST_UNTIL(host, counters.connections == 0);
    cscp_free(host);
    keeper_done(&lot);
}

static uint32_t resumed(const cscp *host) {
    cscp_resumption r;

    cscp_get_resumption(host, &r);
    CHECK_EQ(r.ended + r.stateless + r.socketless + r.unsound + r.undescribed, 0);
    return r.connections;
}

/* All but the last have said HELLO and are welcomed; and all are parked. */
static void join(cscp *host) {
    own_all(host);
    for (unsigned i = 0; i < N - 1; i++)
        peer_join(&peers[i], host, 1000 + i);
    peer_connect(&peers[N - 1], host);
    HOST_UNTIL(host, counters.parked == N);
}

static void a_host_whose_book_is_not_kept_has_read_nothing_and_said_nothing(void) {
    cscp *host = begin(4);

    join(host);
    cscp_free(host);
    for (unsigned i = 0; i < N - 1; i++)
        peer_event(&peers[i]);
    peer_hello(&peers[N - 1], 999);
    refuse_book = 1;
    for (unsigned i = 0; i < 3; i++)
        open_host(4);
    nothing_was_sent();
    refuse_book = 0;
    CHECK_EQ(keeper_count(&lot, "cscp.book"), 1);
    host = open_host(2);
    CHECK_EQ(resumed(host), N);
    own_all(host);
    for (unsigned i = 0; i < N - 1; i++)
        CHECK_EQ(peer_expect_welcome(&peers[i]).resume_from, 1);
    CHECK_EQ(peer_expect_welcome(&peers[N - 1]).flags, 0);
    end(host);
}

static void whatever_the_number_of_threads_everybody_is_gone_on_with(void) {
    cscp *host = begin(1);

    join(host);
    for (uint32_t n = 1; n <= 9; n += 2) {
        cscp_free(host);
        host = open_host(n % 8 + 1);
        CHECK_EQ(resumed(host), N);
        own_all(host);
        for (unsigned i = 0; i < N - 1; i++)
            CHECK_EQ(peer_expect_welcome(&peers[i]).flags, CSCP_WELCOME_RESUMED);
        HOST_UNTIL(host, counters.parked == N);
    }
    end(host);
}

/* N connections, of N / 4 serials; nobody is welcomed yet, so all are there. */
static void of_several_connections_of_a_serial_the_newest_goes_on(void) {
    cscp *host = begin(4);

    for (unsigned i = 0; i < N; i++) {
        peer_connect(&peers[i], host);
        peer_hello(&peers[i], 1000 + i % (N / 4));
        HOST_UNTIL(host, counters.frames_in == i + 1);
    }
    HOST_UNTIL(host, counters.parked == N);
    cscp_free(host);
    host = open_host(3);
    CHECK_EQ(resumed(host), N);
    HOST_UNTIL(host, counters.superseded == N - N / 4);
    own_all(host);
    for (unsigned i = 0; i < N; i++)
        if (i < N - N / 4)
            peer_expect(&peers[i], CSCP_SUPERSEDED);
        else
            peer_expect_welcome(&peers[i]);
    end(host);
}

static void who_speaks_is_welcomed_before_those_who_are_silent(void) {
    cscp *host = begin(1);
    uint64_t speaker = 1000 + N - 2, serial = 0;
    unsigned n = 0;

    join(host);
    cscp_free(host);
    peer_event(&peers[N - 2]);
    host = open_host(1);
    own_all(host);
    while (serial != speaker) {
        serial = host_wait(host, CSCP_MSG_CONNECTED).serial;
        n++;
    }
    CHECK(n <= 130);
    /* Whether the event was read before it was known whose it is, or after. */
    for (unsigned i = 0; i < N - 1; i++)
        peer_expect_welcome(&peers[i]);
    cscp_free(host);
    peer_event_at(&peers[N - 2], 1);
    host = open_host(1);
    HOST_UNTIL(host, counters.bytes_in > 0);
    own_all(host);
    for (n = 0, serial = 0; serial != speaker; n++)
        serial = host_wait(host, CSCP_MSG_CONNECTED).serial;
    CHECK(n <= 130);
    end(host);
}

static uint64_t files_table(void) {
    FILE *status = fopen("/proc/self/status", "re");
    unsigned long n = 0;
    char line[256];

    while (fgets(line, sizeof(line), status))
        if (sscanf(line, "FDSize: %lu", &n) == 1)
            break;
    fclose(status);
    return n;
}

static void there_is_room_for_what_is_inherited_before_it_comes(void) {
    cscp_inherited rows[9];
    uint64_t before = files_table();
    struct rlimit limit;

    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (before > 4096 || limit.rlim_cur <= 9 * 1012)
        return;
    for (unsigned i = 0; i < 9; i++)
        rows[i] = (cscp_inherited){.name = i == 0 ? "cscp.book.1.0" : "cscp.lot.1.1", .fd = 1};
    cscp_make_room(NULL, 0);
    cscp_make_room(rows, 1);
    CHECK_EQ(files_table(), before);
    cscp_make_room(rows, 9);
    CHECK(files_table() >= 8 * 1012);
}

int main(void) {
    RUN(there_is_room_for_what_is_inherited_before_it_comes);
    RUN(a_host_whose_book_is_not_kept_has_read_nothing_and_said_nothing);
    RUN(whatever_the_number_of_threads_everybody_is_gone_on_with);
    RUN(of_several_connections_of_a_serial_the_newest_goes_on);
    RUN(who_speaks_is_welcomed_before_those_who_are_silent);
    return 0;
}
