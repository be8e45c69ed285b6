/* Non-blocking stream sockets. */
#include "CSystem.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int option_set(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

static int socket_new(const csys_address *address) {
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

static int address_connect(int fd, const csys_address *address) {
    int r;

    do {
        r = connect(fd, (const struct sockaddr *)&address->storage, address->length);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int address_bind(int fd, const csys_address *address) {
    return bind(fd, (const struct sockaddr *)&address->storage, address->length) < 0 ? -errno : 0;
}

int csys_socket_connect(const csys_address *address) {
    int fd, r;

    fd = socket_new(address);
    if (fd < 0)
        return fd;
    if (address->storage.ss_family != AF_UNIX)
        (void)option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    r = address_connect(fd, address);
    if (r < 0 && r != -EINPROGRESS && r != -EALREADY) {
        (void)close(fd);
        return r;
    }
    return fd;
}

/* Whether a socket file is a corpse: there, and nobody listens on it. */
static bool corpse_is(const csys_address *address, const char *path) {
    struct stat st;
    int fd, r;

    if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    fd = socket_new(address);
    if (fd < 0)
        return false;
    r = address_connect(fd, address);
    (void)close(fd);
    return r == -ECONNREFUSED;
}

static int unix_bind(int fd, const csys_address *address, mode_t mode) {
    const char *path = ((const struct sockaddr_un *)&address->storage)->sun_path;
    int r;

    if (path[0] == '\0')
        return address_bind(fd, address);
    /* Before bind(), so that the file is never wider open than `mode`; after it, because bind()
     * applies the umask. */
    if (fchmod(fd, mode) < 0)
        return -errno;
    r = address_bind(fd, address);
    if (r == -EADDRINUSE && corpse_is(address, path)) {
        if (unlink(path) < 0 && errno != ENOENT)
            return -errno;
        r = address_bind(fd, address);
    }
    if (r < 0)
        return r;
    return chmod(path, mode) < 0 ? -errno : 0;
}

int csys_socket_listen(const csys_address *address, int backlog, mode_t mode) {
    int fd, r;

    fd = socket_new(address);
    if (fd < 0)
        return fd;
    if (address->storage.ss_family == AF_UNIX) {
        r = unix_bind(fd, address, mode);
    } else {
        r = option_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
        if (r == 0)
            r = address_bind(fd, address);
    }
    if (r == 0 && listen(fd, backlog) < 0)
        r = -errno;
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    return fd;
}

int csys_socket_accept(int listener, csys_address *ret_peer) {
    csys_address peer = {.length = sizeof peer.storage};
    int fd;

    do {
        fd = accept4(listener, (struct sockaddr *)&peer.storage, &peer.length,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0)
        return -errno;
    if (peer.storage.ss_family != AF_UNIX)
        (void)option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (ret_peer)
        *ret_peer = peer;
    return fd;
}

int csys_socket_error(int fd) {
    int error = 0;
    socklen_t n = sizeof error;

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
        return -errno;
    return -error;
}

int csys_socket_port(int fd) {
    csys_address address = {.length = sizeof address.storage};

    if (getsockname(fd, (struct sockaddr *)&address.storage, &address.length) < 0)
        return -errno;
    switch (address.storage.ss_family) {
    case AF_INET:
        return ntohs(((struct sockaddr_in *)&address.storage)->sin_port);
    case AF_INET6:
        return ntohs(((struct sockaddr_in6 *)&address.storage)->sin6_port);
    default:
        return -EAFNOSUPPORT;
    }
}

int csys_socket_keepalive(int fd, int idle_s, int interval_s, int n_probes) {
    int r;

    r = option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (r == 0)
        r = option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
    if (r == 0)
        r = option_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s);
    if (r == 0)
        r = option_set(fd, IPPROTO_TCP, TCP_KEEPCNT, n_probes);
    return r;
}

int csys_socket_user_timeout(int fd, unsigned int timeout_ms) {
    if (setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms) < 0)
        return -errno;
    return 0;
}

int csys_socket_discard(int fd) {
    struct linger none = {.l_onoff = 1};

    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none) < 0 ? -errno : 0;
}

ssize_t csys_socket_send(int fd, const void *bytes, size_t n) {
    ssize_t r;

    do {
        r = send(fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

ssize_t csys_socket_receive(int fd, void *ret_bytes, size_t n) {
    ssize_t r;

    do {
        r = recv(fd, ret_bytes, n, MSG_DONTWAIT);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

int csys_fd_close(int fd) {
    /* Linux has closed it even when it says EINTR. */
    if (fd >= 0)
        (void)close(fd);
    return -1;
}
