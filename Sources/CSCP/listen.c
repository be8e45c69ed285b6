/* Listening and accepting. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "thread.h"

static int parse_address(const char *text, uint16_t port, struct sockaddr_storage *ret,
                         socklen_t *ret_size) {
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)ret;
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)ret;

    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        *ret_size = sizeof(*in6);
        return 0;
    }
    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        *ret_size = sizeof(*in);
        return 0;
    }
    return -EINVAL;
}

static int set(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* Accepted sockets inherit all of these, so that accepting costs no more calls. */
static int set_options(int fd, const cscp_config *config, int family) {
    int r = set(fd, SOL_SOCKET, SO_REUSEADDR, 1);

    if (r == 0 && family == AF_INET6)
        r = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (r == 0)
        r = set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (r == 0)
        r = set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (r == 0)
        r = set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)(config->t1_ms + config->t3_ms));
    if (r == 0)
        r = set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, CSCP_NOTSENT_MAX);
    return r;
}

static int bound_socket(const cscp_config *config, uint16_t port, bool shared, int *ret_fd) {
    struct sockaddr_storage address;
    socklen_t size;
    int r = parse_address(config->bind_address, port, &address, &size);
    int fd;

    if (r < 0)
        return r;
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 && errno == EAFNOSUPPORT && strcmp(config->bind_address, "::") == 0) {
        /* Both families, where there is only one. */
        parse_address("0.0.0.0", port, &address, &size);
        fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    }
    if (fd < 0)
        return -errno;
    r = set_options(fd, config, address.ss_family);
    if (r == 0 && shared)
        r = set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (r == 0 && bind(fd, (const struct sockaddr *)&address, size) < 0)
        r = -errno;
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int cscp_probe_port(const cscp_config *config) {
    int fd, r;

    if (config->port == 0)
        return 0;
    r = bound_socket(config, config->port, false, &fd);
    if (r == 0)
        close(fd);
    return r;
}

int cscp_listen(const cscp_config *config, uint16_t port, int *ret_fd, uint16_t *ret_port) {
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    int fd;
    int r = bound_socket(config, port, true, &fd);

    if (r < 0)
        return r;
    if (listen(fd, (int)config->backlog) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    /* The port lies at the same place in both families. */
    *ret_port = ntohs(((const struct sockaddr_in *)(const void *)&address)->sin_port);
    return 0;
}

bool cscp_listens_there(const cscp_config *config, int fd, uint16_t *ret_port) {
    struct sockaddr_storage wanted, found = {0};
    socklen_t size, n_wanted;
    int listens = 0;

    size = sizeof(listens);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens)
        return false;
    size = sizeof(found);
    if (parse_address(config->bind_address, config->port, &wanted, &n_wanted) < 0 ||
        getsockname(fd, (struct sockaddr *)&found, &size) < 0)
        return false;
    /* "::" where there is only IPv4. */
    if (found.ss_family == AF_INET && strcmp(config->bind_address, "::") == 0)
        parse_address("0.0.0.0", config->port, &wanted, &n_wanted);
    *ret_port = ntohs(((const struct sockaddr_in *)(const void *)&found)->sin_port);
    if (config->port == 0) /* any port was wanted, and this is the one it became */
        ((struct sockaddr_in *)(void *)&wanted)->sin_port = htons(*ret_port);
    /* IPV6_V6ONLY is as it was bound, and cannot be set any more. */
    return size == n_wanted && memcmp(&found, &wanted, size) == 0 &&
           set_options(fd, config, AF_INET) == 0 && listen(fd, (int)config->backlog) == 0;
}

static void watch(cscp_thread *t, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = NULL};

    epoll_ctl(t->epoll_fd, EPOLL_CTL_MOD, t->listen_fd, &event);
}

/* Out of descriptors or memory: the listener would stay readable, and the loop would spin on it. */
static void pause_accepting(cscp_thread *t) {
    t->accept_resume_ms = t->now.boot_ms + CSCP_ACCEPT_PAUSE_MS;
    watch(t, 0);
    CSCP_COUNT(t, accept_pauses, 1);
    if (!t->accept_trouble)
        cscp_up_notice(t, NULL, CSCP_REASON_TOO_MANY_CONNECTIONS);
    t->accept_trouble = true;
}

void cscp_accept_again(cscp_thread *t) {
    t->accept_resume_ms = 0;
    if (t->listen_fd >= 0)
        watch(t, EPOLLIN);
}

void cscp_files_share(struct cscp *cscp) {
    struct rlimit limit;
    rlim_t eighth;

    cscp->fds_end = cscp->fds_busy = INT_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT_MAX)
        return;
    eighth = limit.rlim_cur / 8;
    cscp->fds_end = (int)(limit.rlim_cur - (eighth < CSCP_FDS_SPARE ? eighth : CSCP_FDS_SPARE));
    cscp->fds_busy = cscp->fds_end - (int)(eighth < CSCP_FDS_BUSY ? eighth : CSCP_FDS_BUSY);
}

static void accepted(cscp_thread *t, int fd, const struct sockaddr_storage *address) {
    struct cscp *cscp = t->cscp;
    uint64_t n = atomic_fetch_add_explicit(&cscp->n_connections, 1, memory_order_relaxed);
    bool over = n >= cscp->config.connections_max || fd >= cscp->fds_busy;
    cscp_conn *c = NULL;

    CSCP_COUNT(t, accepted, 1);
    if (!over || t->n_lingering < CSCP_LINGERING_MAX)
        c = cscp_conn_open(t, fd, address);
    if (c) {
        if (over)
            cscp_conn_end(t, c, CSCP_REASON_TOO_MANY_CONNECTIONS, 0);
        else
            cscp_park_want(t, c);
        return;
    }
    close(fd);
    atomic_fetch_sub_explicit(&cscp->n_connections, 1, memory_order_relaxed);
    CSCP_COUNT(t, refused_limit, 1);
    CSCP_COUNT_CLOSED(t, CSCP_REASON_TOO_MANY_CONNECTIONS);
}

void cscp_accept(cscp_thread *t) {
    if (t->listen_fd < 0 || t->accept_resume_ms != 0)
        return;
    for (int i = 0; i < CSCP_ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);
        int fd = accept4(t->listen_fd, (struct sockaddr *)&address, &size,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= t->cscp->fds_end) {
            close(fd);
            pause_accepting(t);
            return;
        }
        if (fd >= 0) {
            t->accept_trouble = false;
            accepted(t, fd, &address);
            continue;
        }
        switch (errno) {
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
            pause_accepting(t);
            return;
        case EAGAIN:
            return;
        default:
            break; /* of the one connection, which is gone: ECONNABORTED and the network's errors */
        }
    }
}
