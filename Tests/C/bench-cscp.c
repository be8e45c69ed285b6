/* What the layer costs: N connections that send events as fast as they are acknowledged, or at a
 * rate, in a child process; the taker here acknowledges everything it takes.
 *
 *   bench-cscp [connections [seconds [events/s in all, 0 = as fast as it goes [I/O threads]]]]
 *   bench-cscp idle [connections]
 *   bench-cscp relay [connections [seconds [events/s in all]]]
 *
 * Prints events/s, CPU per event of the I/O threads (user, system) and of the taker, memory when
 * idle, and how long it takes everybody to be welcomed. `relay` does it twice, directly and through
 * an entry node in the same process, and prints what the way costs as a ratio. */
#include "relay-rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* --- The controllers: one thread, epoll, no more state than they need */

typedef struct controller {
    int fd;
    uint64_t next, acked;
    uint32_t n;
    bool welcomed;
    cscp_decoder decoder;
    uint8_t in[512];
} controller;

static size_t write_events(const controller *c, uint64_t n, uint8_t *out) {
    size_t size = 0;
    for (uint64_t i = 0; i < n; i++) {
        cscp_event event = {
            .log_epoch = 1, .family = 2, .code = 1, .seq = c->next + i, .occurred_at_ms = 1,
            .source_type = 2, .source_number = 1, .n_body = 12,
            .body = (const uint8_t *)"card, door, ",
        };
        size += cscp_write_event(out + size, &event);
    }
    return size;
}

static void send_events(controller *c, uint64_t n) {
    static uint8_t bytes[64 * 128];
    if (n > 64 - (c->next - 1 - c->acked)) n = 64 - (c->next - 1 - c->acked);
    if (n == 0) return;
    size_t size = write_events(c, n, bytes);
    CHECK_EQ(send(c->fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
    c->next += n;
}

static void on_frame(controller *c, const cscp_frame *frame, unsigned *n_welcomed) {
    cscp_event_ack_frame ack;
    uint8_t bytes[CSCP_U64_FRAME];
    uint64_t token;
    if (frame->type == CSCP_WELCOME) {
        c->welcomed = true;
        (*n_welcomed)++;
    } else if (frame->type == CSCP_EVENT_ACK) {
        CHECK_EQ(cscp_parse_event_ack(frame->payload, frame->n_payload, &ack), 0);
        CHECK(ack.seq < c->next && ack.seq > c->acked);
        c->acked = ack.seq;
    } else if (frame->type == CSCP_PING) {
        CHECK_EQ(cscp_parse_u64(frame->payload, frame->n_payload, &token), 0);
        size_t n = cscp_write_u64(bytes, CSCP_PONG, token);
        CHECK_EQ(send(c->fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
    }
}

static void on_input(controller *c, unsigned *n_welcomed) {
    ssize_t got = recv(c->fd, c->in + c->n, sizeof(c->in) - c->n, MSG_DONTWAIT);
    CHECK(got > 0 || (got < 0 && errno == EAGAIN));
    if (got < 0) return;
    c->n += (uint32_t)got;
    size_t used = 0, consumed;
    cscp_frame frame;
    while (cscp_decode(&c->decoder, c->in + used, c->n - used, &frame, &consumed) == 1) {
        on_frame(c, &frame, n_welcomed);
        used += consumed;
    }
    memmove(c->in, c->in + used, c->n - used);
    c->n -= (uint32_t)used;
}

static uint64_t now_us(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void fleet(uint16_t port, unsigned n, bool events, uint64_t rate, int report_fd) {
    controller *controllers = calloc(n, sizeof(*controllers));
    int epoll_fd = epoll_create1(0);
    unsigned n_welcomed = 0, turn = 0;
    uint8_t bytes[CSCP_FRAME_MAX];
    struct epoll_event ready[256];
    uint64_t begin = now_us(), welcomed_us = 0, sent = 0, started = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (unsigned i = 0; i < n; i++) {
        controller *c = &controllers[i];
        /* A source address for every 20,000, lest the ports run out. */
        struct sockaddr_in from = {
            .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + i / 20000)};
        struct sockaddr_in to = {
            .sin_family = AF_INET, .sin_port = htons(port),
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        cscp_hello hello = peer_hello_fields(1000 + i);
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        c->next = 1;
        /* The port is then chosen by connect(), among all that are free towards this host. */
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &(int){1}, sizeof(int));
        CHECK_EQ(bind(c->fd, (struct sockaddr *)&from, sizeof(from)), 0);
        CHECK_EQ(connect(c->fd, (struct sockaddr *)&to, sizeof(to)), 0);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        CHECK_EQ(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event), 0);
        size_t size = cscp_write_hello(bytes, &hello);
        CHECK_EQ(send(c->fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
    }
    for (;;) {
        int r = epoll_wait(epoll_fd, ready, 256, events && n_welcomed == n && rate ? 1 : 100);
        for (int i = 0; i < r; i++) {
            controller *c = ready[i].data.ptr;
            on_input(c, &n_welcomed);
            if (events && c->welcomed && rate == 0) send_events(c, 64);
        }
        if (n_welcomed == n && welcomed_us == 0) {
            welcomed_us = now_us() - begin;
            CHECK_EQ(write(report_fd, &welcomed_us, sizeof(welcomed_us)), sizeof(welcomed_us));
            started = now_us();
        }
        if (events && rate && started) /* one at a time, round about */
            for (uint64_t due = (now_us() - started) * rate / 1000000; sent < due; sent++)
                send_events(&controllers[turn++ % n], 1);
    }
}

/* --- The host */

typedef struct cpu {
    uint64_t user_us, system_us;
} cpu;

/* Of the threads of this process whose name begins so. */
static cpu cpu_of(const char *name) {
    cpu sum = {0};
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    uint64_t tick_us = 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
    while ((entry = readdir(dir))) {
        char path[300], text[1024];
        snprintf(path, sizeof(path), "/proc/self/task/%s/stat", entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        if (!file) continue;
        text[fread(text, 1, sizeof(text) - 1, file)] = 0;
        fclose(file);
        unsigned long user, system;
        char *at = strchr(text, '(');
        if (!at || strncmp(at + 1, name, strlen(name)) != 0) continue;
        at = strrchr(text, ')');
        CHECK_EQ(sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                        &system), 2);
        sum.user_us += user * tick_us;
        sum.system_us += system * tick_us;
    }
    closedir(dir);
    return sum;
}

static uint64_t rss_kb(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK_EQ(fscanf(file, "%*u %lu", &pages), 1);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

static cscp_message messages[1024];
static cscp_ack acks[1024];

static pid_t start_fleet(uint16_t port, unsigned n, bool events, uint64_t rate, int fds[2]) {
    CHECK_EQ(pipe2(fds, O_NONBLOCK), 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) fleet(port, n, events, rate, fds[1]);
    return child;
}

static void end_fleet(pid_t child, int fds[2]) {
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(fds[0]);
    close(fds[1]);
}

static uint64_t pump(cscp *host, uint64_t until_us) {
    uint64_t n_events = 0;
    while (now_us() < until_us) {
        int n = cscp_get_messages(host, messages, 1024, 50);
        size_t n_acks = 0;
        CHECK(n >= 0);
        for (int i = 0; i < n; i++)
            if (messages[i].kind == CSCP_MSG_EVENT)
                acks[n_acks++] =
                    (cscp_ack){messages[i].connection, messages[i].log_epoch, messages[i].seq};
            else
                CHECK(messages[i].kind == CSCP_MSG_CONNECTED ||
                      messages[i].kind == CSCP_MSG_DISCONNECTED);
        n_events += n_acks;
        if (n_acks > 0) CHECK_EQ(cscp_event_ack(host, acks, n_acks), 0);
    }
    return n_events;
}

/* CPU of all I/O threads an event, in us. */
static double cost(cscp *owner, uint16_t port, unsigned n, uint64_t seconds, uint64_t rate,
                   const char *what) {
    int fds[2];
    pid_t child = start_fleet(port, n, true, rate, fds);
    uint64_t welcomed_us;
    while (read(fds[0], &welcomed_us, sizeof(welcomed_us)) < 0) pump(owner, now_us() + 10000);
    pump(owner, now_us() + 1000000);
    cpu before = cpu_of("cscp-");
    uint64_t begin = now_us();
    double events = (double)pump(owner, begin + seconds * 1000000);
    double elapsed = (double)(now_us() - begin) / 1e6;
    cpu after = cpu_of("cscp-");
    double user = (double)(after.user_us - before.user_us) / events;
    double system = (double)(after.system_us - before.system_us) / events;
    printf("%-8s welcomed in %.3f s, %.0f events/s; I/O threads %.3f us user + %.3f us system an "
           "event\n", what, (double)welcomed_us / 1e6, events / elapsed, user, system);
    end_fleet(child, fds);
    cscp_message message;
    while (host_counters(owner).connections > 0) cscp_get_message(owner, &message, 10);
    return user + system;
}

static void bench_relay(unsigned n, uint64_t seconds, uint64_t rate) {
    cscp_config config = node_config();
    config.window_w = 16;
    config.handshakes_per_second = 1000000;
    config.handshake_burst = 1000000;
    cscp *owner = node_new(&config), *entry = node_new(&config);
    node_owns(owner, 3);
    node_relays(entry, cscp_port(owner), 3);
    double direct = cost(owner, cscp_port(owner), n, seconds, rate, "direct");
    uint64_t base_kb = rss_kb();
    double relayed = cost(owner, cscp_port(entry), n, seconds, rate, "relayed");
    printf("a relayed event costs %.2f times a direct one, both nodes together; %.0f bytes a "
           "relayed connection\n", relayed / direct,
           (double)(rss_kb() - base_kb) * 1024 / n);
    cscp_free(entry);
    cscp_free(owner);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "relay") == 0) {
        bench_relay(argc > 2 ? (unsigned)atoi(argv[2]) : 100,
                    argc > 3 ? (uint64_t)atoi(argv[3]) : 5, argc > 4 ? (uint64_t)atoll(argv[4]) : 0);
        return 0;
    }
    bool idle = argc > 1 && strcmp(argv[1], "idle") == 0;
    const char *count = idle ? (argc > 2 ? argv[2] : "10000") : argc > 1 ? argv[1] : "100";
    unsigned n = (unsigned)atoi(count);
    uint64_t seconds = !idle && argc > 2 ? (uint64_t)atoi(argv[2]) : 5;
    uint64_t rate = !idle && argc > 3 ? (uint64_t)atoll(argv[3]) : 0;
    cscp_config config = host_config();
    config.n_io_threads = !idle && argc > 4 ? (uint32_t)atoi(argv[4]) : 1;
    config.handshakes_per_second = 1000000;
    config.handshake_burst = 1000000;
    cscp *host = host_new(&config);
    uint64_t base_kb = rss_kb(), welcomed_us;
    int fds[2];
    pid_t child = start_fleet(cscp_port(host), n, !idle, rate, fds);
    while (read(fds[0], &welcomed_us, sizeof(welcomed_us)) < 0) pump(host, now_us() + 10000);
    printf("%u connections welcomed in %.3f s\n", n, (double)welcomed_us / 1e6);
    pump(host, now_us() + 1000000);
    if (idle) {
        cpu before = cpu_of("cscp-");
        uint64_t kb = rss_kb();
        pump(host, now_us() + 5000000);
        cpu after = cpu_of("cscp-");
        printf("rss %" PRIu64 " kB, %" PRIu64 " kB before: %.0f bytes a connection; "
               "%.2f ms of CPU a second\n",
               kb, base_kb, (double)(kb - base_kb) * 1024 / n,
               (double)(after.user_us + after.system_us - before.user_us - before.system_us) / 5e3);
    } else {
        cpu io = cpu_of("cscp-"), taker = cpu_of("bench-");
        cscp_counters before = host_counters(host);
        uint64_t begin = now_us();
        uint64_t n_events = pump(host, begin + seconds * 1000000);
        double elapsed = (double)(now_us() - begin) / 1e6, events = (double)n_events;
        cpu io_after = cpu_of("cscp-"), taker_after = cpu_of("bench-");
        cscp_counters after = host_counters(host);
        printf("%.0f events/s; I/O threads %.3f us user + %.3f us system an event, taker %.3f us; "
               "%.1f events an ack frame, %.2f wakeups a 1,000 events, rss %" PRIu64 " kB\n",
               events / elapsed, (double)(io_after.user_us - io.user_us) / events,
               (double)(io_after.system_us - io.system_us) / events,
               (double)(taker_after.user_us + taker_after.system_us - taker.user_us -
                        taker.system_us) / events,
               events / (double)(after.acks_out - before.acks_out),
               (double)(after.wakeups - before.wakeups) * 1000 / events, rss_kb());
    }
    end_fleet(child, fds);
    cscp_free(host);
    return 0;
}
