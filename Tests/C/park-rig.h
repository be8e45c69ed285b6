/* Real processes that are killed: the parent plays the service manager (it keeps descriptors and
 * starts the next process with them) and the vendor app's disk (memory that is shared); its children
 * are hosts, this very program started with "host". The fleet of controllers runs in the parent. */
#ifndef PARK_RIG_H
#define PARK_RIG_H

#include "host.h"
#include "keeper.h"

#include "fleet.h"

#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

enum {
    RIG_FIRST = 100000,
    RIG_CONTROLLERS_MAX = 20000,
    RIG_DISK_FD = 3,
    RIG_TALK_FD = 4,
    RIG_FDS = 10, /* the first that is inherited */
    RIG_MESSAGES = 512,
};

/* One controller's log as it is stored. A transaction writes the other copy, then turns to it: a
 * process killed in between has committed nothing. */
typedef struct rig_log {
    fleet_audit copies[2];
    _Atomic uint32_t newest;
} rig_log;

typedef struct rig_disk {
    _Atomic uint32_t connections, sessions, parked, resumed, dropped, ready, n_generations;
    _Atomic uint64_t park_failures, commands;
    _Atomic uint32_t ended[CSCP_REASON_MAX + 1]; /* sessions and connections, by reason */
    _Atomic uint64_t port;
    uint32_t n_threads;
    bool with_commands;
    rig_log logs[RIG_CONTROLLERS_MAX];
} rig_disk;

/* --- The host */

/* Says a word to the parent, with a descriptor or without, and waits for its answer. */
static int rig_ask(char kind, const char *name, int fd) {
    char text[KEPT_NAME + 1];
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec body = {.iov_base = text};
    struct msghdr message = {.msg_iov = &body, .msg_iovlen = 1};
    char answer;

    body.iov_len = (size_t)snprintf(text, sizeof(text), "%c%s", kind, name);
    if (fd >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        control.align = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                                         .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
    }
    if (sendmsg(RIG_TALK_FD, &message, MSG_NOSIGNAL) < 0)
        return -errno;
    return recv(RIG_TALK_FD, &answer, 1, 0) == 1 ? 0 : -EPIPE;
}

static int rig_keep(void *context, const char *name, int fd) {
    (void)context;
    return rig_ask('+', name, fd);
}

static int rig_drop(void *context, const char *name) {
    (void)context;
    return rig_ask('-', name, -1);
}

/* Stores a record. It is known already, or it is the next one, or some are missing in between. */
static void rig_commit(rig_log *log, const cscp_message *m) {
    uint32_t newest = log->newest;
    fleet_audit *next = &log->copies[newest ^ 1];
    bool is_gap = m->kind == CSCP_MSG_LOG_GAP;
    cscp_event event = {
        .log_epoch = m->log_epoch, .flags = m->flags, .family = m->family, .code = m->code,
        .seq = m->seq, .occurred_at_ms = m->occurred_at_ms, .source_type = m->source_type,
        .source_number = m->source_number, .n_body = (uint16_t)m->n_body,
        .body = m->body ? m->body : (const uint8_t *)"",
    };
    uint64_t to = is_gap ? m->through_seq : m->seq;

    *next = log->copies[newest];
    if (to <= next->last_seq)
        return;
    next->serial = m->serial;
    next->log_epoch = m->log_epoch;
    if (next->first_seq == 0)
        next->first_seq = m->seq;
    if (m->seq > next->last_seq + 1)
        next->holes += m->seq - next->last_seq - 1;
    if (is_gap)
        next->gap_records += to - (m->seq > next->last_seq ? m->seq : next->last_seq + 1) + 1;
    else if (m->kind == CSCP_MSG_EVENT)
        next->fingerprint_sum += cscp_event_fingerprint(m->serial, &event);
    next->last_seq = to;
    log->newest = newest ^ 1;
}

static void rig_command(cscp *host, rig_disk *disk, uint64_t serial) {
    cscp_command command = {.serial = serial, .code = 6, .lane = CSCP_LANE_NORMAL};
    uint64_t number = ++disk->commands;

    memcpy(command.id, &number, sizeof(number));
    cscp_config_command(host, &command); /* when it cannot take it, so be it */
}

static void rig_handle(cscp *host, rig_disk *disk, cscp_message *messages, int n) {
    cscp_ack acks[RIG_MESSAGES];
    size_t n_acks = 0;

    for (int i = 0; i < n; i++) {
        const cscp_message *m = &messages[i];

        if (m->kind == CSCP_MSG_EVENT && m->flags & CSCP_EVENT_ADVISORY)
            continue; /* not stored: the record follows in its place */
        switch (m->kind) {
        case CSCP_MSG_EVENT:
        case CSCP_MSG_LOG_GAP:
        case CSCP_MSG_LOG_RESET:
            CHECK(m->serial >= RIG_FIRST && m->serial < RIG_FIRST + RIG_CONTROLLERS_MAX);
            rig_commit(&disk->logs[m->serial - RIG_FIRST], m);
            acks[n_acks++] = (cscp_ack){m->connection, m->log_epoch,
                                        m->kind == CSCP_MSG_LOG_GAP ? m->through_seq : m->seq};
            if (disk->with_commands && m->seq % 8 == 0)
                rig_command(host, disk, m->serial);
            break;
        case CSCP_MSG_DISCONNECTED:
        case CSCP_MSG_NOTICE:
            disk->ended[m->reason]++;
            break;
        default:
            break;
        }
    }
    if (n_acks > 0)
        CHECK_EQ(cscp_event_ack(host, acks, n_acks), 0);
}

static void rig_tell(cscp *host, rig_disk *disk) {
    cscp_counters counters = host_counters(host);

    disk->connections = (uint32_t)counters.connections;
    disk->sessions = (uint32_t)counters.sessions;
    disk->parked = (uint32_t)counters.parked;
    disk->park_failures = counters.park_failures;
}

/* "host" port, then the names of what begins at RIG_FDS. */
static int rig_host(int argc, char **argv) {
    static cscp_message messages[RIG_MESSAGES];
    static cscp_inherited inherited[KEPT_MAX];
    cscp_keeper keeper = {.keep = rig_keep, .drop = rig_drop};
    cscp_range all = {.first = 1, .last = UINT64_MAX - 1, .epoch = 1};
    cscp_config config = host_config();
    cscp_resumption resumption;
    rig_disk *disk = mmap(NULL, sizeof(*disk), PROT_READ | PROT_WRITE, MAP_SHARED, RIG_DISK_FD, 0);
    cscp *host;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CHECK(disk != MAP_FAILED);
    for (int i = 3; i < argc; i++)
        inherited[i - 3] = (cscp_inherited){.name = argv[i], .fd = RIG_FDS + i - 3};
    config.port = (uint16_t)atoi(argv[2]);
    config.n_io_threads = disk->n_threads;
    config.handshakes_per_second = config.handshake_burst = 1000000;
    config.keeper = &keeper;
    config.inherited = inherited;
    config.n_inherited = (uint32_t)(argc - 3);
    CHECK_EQ(cscp_new(&config, &host), 0);
    cscp_get_resumption(host, &resumption);
    disk->resumed = resumption.connections;
    disk->dropped = resumption.stateless + resumption.undescribed + resumption.unsound;
    cscp_set_valid_until(host, UINT64_MAX);
    CHECK_EQ(cscp_set_ranges(host, &all, 1), 0);
    disk->port = cscp_port(host);
    disk->ready++;
    for (;;) {
        int n = cscp_get_messages(host, messages, RIG_MESSAGES, 5);

        CHECK(n >= 0);
        rig_handle(host, disk, messages, n);
        rig_tell(host, disk);
    }
}

/* --- The service manager */

typedef struct rig_manager {
    keeper keeper;
    rig_disk *disk;
    int disk_fd;
    pid_t pid;
    int talk_fd;
    pthread_t thread;
} rig_manager;

/* Hears what the host wants kept or dropped, until it is dead and has been heard out. */
static void *rig_attend(void *argument) {
    rig_manager *self = argument;
    char text[KEPT_NAME + 1];
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec body = {.iov_base = text, .iov_len = KEPT_NAME};

    for (;;) {
        struct msghdr message = {.msg_iov = &body, .msg_iovlen = 1, .msg_control = control.bytes,
                                 .msg_controllen = sizeof(control.bytes)};
        ssize_t n = recvmsg(self->talk_fd, &message, MSG_CMSG_CLOEXEC);
        struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
        int fd;

        if (n <= 0)
            return NULL;
        text[n] = 0;
        if (text[0] == '+') {
            CHECK(c);
            memcpy(&fd, CMSG_DATA(c), sizeof(fd));
            keeper_keep(&self->keeper, text + 1, fd);
            close(fd);
        } else {
            keeper_drop(&self->keeper, text + 1);
        }
        send(self->talk_fd, "!", 1, MSG_NOSIGNAL);
    }
}

static void rig_open(rig_manager *self, uint32_t n_threads, bool with_commands) {
    struct rlimit no_core = {0, 0};

    CHECK_EQ(setrlimit(RLIMIT_CORE, &no_core), 0);
    *self = (rig_manager){.disk_fd = memfd_create("disk", MFD_CLOEXEC)};
    keeper_init(&self->keeper);
    CHECK_EQ(ftruncate(self->disk_fd, sizeof(rig_disk)), 0);
    self->disk =
        mmap(NULL, sizeof(rig_disk), PROT_READ | PROT_WRITE, MAP_SHARED, self->disk_fd, 0);
    CHECK(self->disk != MAP_FAILED);
    self->disk->n_threads = n_threads;
    self->disk->with_commands = with_commands;
}

static void rig_start(rig_manager *self) {
    char *arguments[KEPT_MAX + 4] = {"park-host", "host"}, port[16];
    posix_spawn_file_actions_t actions;
    int pair[2], theirs, n = 3;

    snprintf(port, sizeof(port), "%u", (unsigned)self->disk->port);
    arguments[2] = port;
    self->disk->sessions = self->disk->parked = 0;
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    self->talk_fd = pair[0];
    posix_spawn_file_actions_init(&actions);
    /* Ours are far above: the fleet's sockets and whatever was kept came first. */
    theirs = fcntl(pair[1], F_DUPFD_CLOEXEC, RIG_FDS + KEPT_MAX);
    close(pair[1]);
    posix_spawn_file_actions_adddup2(&actions, self->disk_fd, RIG_DISK_FD);
    posix_spawn_file_actions_adddup2(&actions, theirs, RIG_TALK_FD);
    for (unsigned i = 0; i < self->keeper.n; i++, n++) {
        arguments[n] = self->keeper.names[i];
        posix_spawn_file_actions_adddup2(&actions, self->keeper.fds[i], RIG_FDS + (int)i);
    }
    CHECK_EQ(posix_spawn(&self->pid, "/proc/self/exe", &actions, NULL, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(theirs);
    CHECK_EQ(pthread_create(&self->thread, NULL, rig_attend, self), 0);
}

/* What it had said before is heard, as a service manager hears it. The dead are left unburied until
 * this process ends: while others look through /proc, that can take the kernel seconds. */
static void rig_kill(rig_manager *self, int signal) {
    siginfo_t info;

    CHECK_EQ(kill(self->pid, signal), 0);
    CHECK_EQ(waitid(P_PID, (id_t)self->pid, &info, WEXITED | WNOWAIT), 0);
    CHECK(info.si_code == CLD_KILLED && info.si_status == signal); /* and did not fail by itself */
    pthread_join(self->thread, NULL);
    close(self->talk_fd);
}

/* Why hosts ended sessions, if they did. */
static inline uint32_t rig_endings(const rig_manager *self) {
    uint32_t n = 0;

    for (unsigned i = 0; i <= CSCP_REASON_MAX; i++) {
        n += self->disk->ended[i];
        if (self->disk->ended[i] > 0)
            printf("ended %u times: %s\n", (unsigned)self->disk->ended[i],
                   cscp_reason_name((cscp_reason)i));
    }
    return n;
}

#define RIG_UNTIL(manager, condition)                                                              \
    do {                                                                                           \
        uint64_t until_ms = now_ms() + PATIENCE_MS;                                                \
        while (!(condition)) {                                                                     \
            if (now_ms() > until_ms) {                                                             \
                fprintf(stderr, "%s:%d: never came true: %s (%u sessions, %u parked of %u)\n",     \
                        __FILE__, __LINE__, #condition, (unsigned)(manager)->disk->sessions,       \
                        (unsigned)(manager)->disk->parked, (unsigned)(manager)->disk->connections); \
                exit(1);                                                                           \
            }                                                                                      \
            usleep(500);                                                                           \
        }                                                                                          \
    } while (0)

#endif
