/* Many at once, and too many: the others are served meanwhile. */
#include "host.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* A pair of event and acknowledgement, soon: it is served. */
static void check_served(cscp *host, peer *p) {
    uint64_t begin = now_ms();
    peer_event(p);
    cscp_message event = host_wait(host, CSCP_MSG_EVENT);
    host_ack(host, &event);
    CHECK_EQ(peer_expect_ack(p), p->next - 1);
    CHECK(now_ms() - begin < 5000);
}

/* Takes all messages there are; the notices among them must be for that reason. */
static unsigned drain_notices(cscp *host, cscp_reason reason, unsigned *ret_suppressed) {
    cscp_message message;
    unsigned n = 0;
    while (cscp_get_message(host, &message, 0) == 1)
        if (message.kind == CSCP_MSG_NOTICE) {
            CHECK_EQ(message.reason, reason);
            *ret_suppressed += message.suppressed;
            n++;
        }
    return n;
}

static uint64_t descriptors_raised(void) {
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_max;
}

/* A process, for descriptors of its own: opens n silent connections to the port it reads, says when
 * it has them, and keeps them until it is ended. */
static pid_t spawn_the_silent(unsigned n, int *ret_fd) {
    int fds[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        uint16_t port;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[0]);
        CHECK_EQ(read(fds[1], &port, sizeof(port)), sizeof(port));
        struct sockaddr_in address = {
            .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        for (unsigned i = 0; i < n; i++) {
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            CHECK(fd >= 0);
            CHECK_EQ(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
        }
        CHECK_EQ(write(fds[1], &n, sizeof(n)), sizeof(n));
        CHECK_EQ(read(fds[1], &port, sizeof(port)), 0);
        _exit(0);
    }
    close(fds[1]);
    *ret_fd = fds[0];
    return pid;
}

/* 20,000, or as many as a process may have here. */
static void thousands_that_never_say_hello_are_closed_and_the_others_served(void) {
    enum { WANTED = 20000, SPARE = 1300 }; /* what the host keeps free, and some */
    uint64_t limit = descriptors_raised();
    unsigned n = limit < WANTED + SPARE ? (unsigned)limit - SPARE : WANTED, opened = 0;
    int fd, status;
    pid_t pid = spawn_the_silent(n, &fd);
    cscp_config config = host_config();
    config.handshake_timeout_ms = 5000;
    config.window_w = 1;
    config.t3_ms = 600000; /* however long all of them take: no PING in between */
    cscp *host = host_new(&config);
    uint16_t port = cscp_port(host);
    peer p;
    CHECK_EQ(write(fd, &port, sizeof(port)), sizeof(port));
    peer_join(&p, host, 7);
    check_served(host, &p);
    CHECK_EQ(read(fd, &opened, sizeof(opened)), sizeof(opened));
    CHECK_EQ(opened, n);
    HOST_UNTIL(host, counters.accepted == n + 1);
    check_served(host, &p);
    HOST_UNTIL(host, counters.handshake_timeouts == n);
    /* A few lines in the log, with the number of those left out. */
    unsigned n_suppressed = 0;
    unsigned n_notices = drain_notices(host, CSCP_REASON_HANDSHAKE_TIMEOUT, &n_suppressed);
    CHECK(n_notices > 0 && n_notices < 300);
    CHECK(n_notices + n_suppressed <= n);
    check_served(host, &p);
    HOST_UNTIL(host, counters.connections == 1); /* lingering is over, too */
    close(fd);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    peer_close(&p);
    cscp_free(host);
}

static void handshakes_are_rationed_with_busy_and_busy_arrives(void) {
    cscp_config config = host_config();
    config.handshakes_per_second = 10;
    config.handshake_burst = 5;
    config.busy_retry_ms = 123;
    config.busy_jitter_ms = 456;
    cscp *host = host_new(&config);
    unsigned n_welcome = 0, n_busy = 0;
    for (unsigned i = 0; i < 50; i++) {
        peer p;
        cscp_frame frame;
        cscp_pair pair;
        peer_connect(&p, host);
        peer_hello(&p, 100 + i);
        uint8_t more[16]; /* unread: closing must not reset */
        peer_write(&p, more, cscp_write_frame(more, 0x80, NULL, 0));
        CHECK_EQ(peer_read(&p, &frame, PATIENCE_MS), 1);
        n_welcome += frame.type == CSCP_WELCOME;
        if (frame.type == CSCP_BUSY) {
            n_busy++;
            CHECK_EQ(cscp_parse_busy(frame.payload, frame.n_payload, &pair), 0);
            CHECK_EQ(pair.a, 123);
            CHECK_EQ(pair.b, 456);
        }
        peer_close(&p);
    }
    CHECK_EQ(n_welcome + n_busy, 50);
    CHECK(n_welcome >= 5 && n_welcome <= 20);
    CHECK_EQ(host_counters(host).refused_busy, n_busy);
    cscp_free(host);
}

static void beyond_the_limit_busy_is_told_and_below_it_there_is_room_again(void) {
    enum { N = 20 };
    static peer peers[N];
    cscp_config config = host_config();
    config.connections_max = N;
    cscp *host = host_new(&config);
    peer p;
    for (unsigned i = 0; i < N; i++) peer_join(&peers[i], host, i + 1);
    peer_connect(&p, host);
    peer_hello(&p, 100);
    peer_expect(&p, CSCP_BUSY);
    peer_expect_end(&p);
    peer_close(&p);
    CHECK_EQ(host_counters(host).refused_limit, 1);
    CHECK_EQ(host_wait(host, CSCP_MSG_NOTICE).reason, CSCP_REASON_TOO_MANY_CONNECTIONS);
    peer_close(&peers[0]);
    HOST_UNTIL(host, counters.connections == N - 1);
    peer_join(&p, host, 100);
    peer_close(&p);
    for (unsigned i = 1; i < N; i++) peer_close(&peers[i]);
    cscp_free(host);
}

static uint64_t cpu_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int run_out_of_descriptors(void) {
    struct rlimit limit = {64, 64};
    int fillers[64], n_fillers = 0, waiting[3];
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cscp_config config = host_config();
    config.window_w = 1;
    cscp *host = host_new(&config);
    peer p, late;
    peer_join(&p, host, 7);
    /* The clients need descriptors of the same process: they are made first. */
    for (int i = 0; i < 3; i++) waiting[i] = socket(AF_INET, SOCK_STREAM, 0);
    while ((fillers[n_fillers] = open("/dev/null", O_RDONLY)) >= 0) n_fillers++;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(cscp_port(host)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    for (int i = 0; i < 3; i++)
        CHECK_EQ(connect(waiting[i], (struct sockaddr *)&address, sizeof(address)), 0);
    HOST_UNTIL(host, counters.accept_pauses >= 2);
    unsigned n_suppressed = 0;
    CHECK_EQ(drain_notices(host, CSCP_REASON_TOO_MANY_CONNECTIONS, &n_suppressed), 1);
    uint64_t before = cpu_ms();
    uint64_t pauses = host_counters(host).accept_pauses;
    check_served(host, &p);
    usleep(500000);
    CHECK(host_counters(host).accept_pauses - pauses <= 8); /* every 100 ms */
    CHECK(cpu_ms() - before < 250);
    /* Room again: those who waited are accepted. */
    for (int i = 0; i < n_fillers; i++) close(fillers[i]);
    late = (peer){.fd = waiting[2], .next = 1, .log_epoch = 1};
    peer_hello(&late, 9);
    peer_expect_welcome(&late);
    cscp_free(host);
    return 0;
}

/* What else a process does with descriptors, it still can. */
static int reach_the_limit(void) {
    struct rlimit limit = {256, 256};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    enum { N = 240 };
    int fd, files[16];
    pid_t pid = spawn_the_silent(N, &fd);
    cscp_config config = host_config();
    config.window_w = 1;
    config.handshake_timeout_ms = 60000;
    cscp *host = host_new(&config);
    uint16_t port = cscp_port(host);
    peer p;
    peer_join(&p, host, 7);
    CHECK_EQ(write(fd, &port, sizeof(port)), sizeof(port));
    HOST_UNTIL(host, counters.refused_limit >= 16 && counters.accept_pauses >= 2);
    for (int i = 0; i < 16; i++) CHECK((files[i] = open("/dev/null", O_RDONLY)) >= 0);
    check_served(host, &p);
    for (int i = 0; i < 16; i++) close(files[i]);
    kill(pid, SIGKILL);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    peer_close(&p);
    cscp_free(host);
    return 0;
}

/* What lowers its limits cannot raise them again. */
static void in_a_process(int (*run)(void)) {
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) _exit(run());
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

static void some_descriptors_are_left_to_the_rest_of_the_process(void) {
    in_a_process(reach_the_limit);
}

static void without_descriptors_accepting_pauses_instead_of_spinning(void) {
    in_a_process(run_out_of_descriptors);
}

int main(void) {
    RUN(without_descriptors_accepting_pauses_instead_of_spinning);
    RUN(some_descriptors_are_left_to_the_rest_of_the_process);
    RUN(thousands_that_never_say_hello_are_closed_and_the_others_served);
    RUN(handshakes_are_rationed_with_busy_and_busy_arrives);
    RUN(beyond_the_limit_busy_is_told_and_below_it_there_is_room_again);
    return 0;
}
