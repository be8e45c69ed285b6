#include "chttp2/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int ch2_resolve(const char *host, uint16_t port, bool passive, CH2Address **ret, size_t *ret_n) {
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0),
    };
    char service[8];
    snprintf(service, sizeof service, "%u", (unsigned) port);

    struct addrinfo *found = NULL;
    int code = getaddrinfo(*host ? host : NULL, service, &hints, &found);
    if (code == EAI_SYSTEM)
        return -errno;
    if (code != 0)
        return -code; // glibc's codes are negative

    size_t n = 0;
    for (struct addrinfo *a = found; a; a = a->ai_next)
        n++;
    CH2Address *addresses = calloc(n, sizeof *addresses);
    if (!addresses) {
        freeaddrinfo(found);
        return -ENOMEM;
    }
    n = 0;
    for (struct addrinfo *a = found; a; a = a->ai_next) {
        if (a->ai_addrlen > sizeof addresses[n].storage)
            continue;
        memcpy(&addresses[n].storage, a->ai_addr, a->ai_addrlen);
        addresses[n++].length = a->ai_addrlen;
    }
    freeaddrinfo(found);
    *ret = addresses;
    *ret_n = n;
    return 0;
}

const char *ch2_resolve_text(int code) {
    return gai_strerror(-code);
}

int ch2_address_unix(const char *path, CH2Address *ret) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n == 0)
        return -EINVAL;
    if (n >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, n + 1);
    memset(ret, 0, sizeof *ret);
    memcpy(&ret->storage, &address, sizeof address);
    ret->length = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + n + 1);
    return 0;
}

void ch2_address_text(const CH2Address *address, char text[CH2_ADDRESS_TEXT_MAX]) {
    char host[INET6_ADDRSTRLEN] = "";
    switch (address->storage.ss_family) {
    case AF_INET: {
        const struct sockaddr_in *in = (const void *) &address->storage;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, CH2_ADDRESS_TEXT_MAX, "ipv4:%s:%u", host, ntohs(in->sin_port));
        break;
    }
    case AF_INET6: {
        const struct sockaddr_in6 *in6 = (const void *) &address->storage;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(text, CH2_ADDRESS_TEXT_MAX, "ipv6:[%s]:%u", host, ntohs(in6->sin6_port));
        break;
    }
    default: {
        const struct sockaddr_un *un = (const void *) &address->storage;
        size_t head = offsetof(struct sockaddr_un, sun_path);
        size_t n = address->length > head ? address->length - head : 0;
        snprintf(text, CH2_ADDRESS_TEXT_MAX, "unix:%.*s", (int) n, un->sun_path);
    }
    }
}

uint16_t ch2_address_port(const CH2Address *address) {
    if (address->storage.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *) (const void *) &address->storage)->sin_port);
    if (address->storage.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *) (const void *) &address->storage)->sin6_port);
    return 0;
}

static int open_socket(const CH2Address *address) {
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

// True when the file is a socket that refuses connections: its listener is gone.
static bool is_stale(const CH2Address *address) {
    const struct sockaddr_un *un = (const void *) &address->storage;
    struct stat st;
    if (lstat(un->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    int fd = open_socket(address);
    if (fd < 0)
        return false;
    bool refused = connect(fd, (const struct sockaddr *) &address->storage, address->length) < 0
                   && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

int ch2_listen(const CH2Address *address, int backlog, uint32_t unix_mode, int *ret_fd) {
    const struct sockaddr *name = (const void *) &address->storage;
    bool is_unix = address->storage.ss_family == AF_UNIX;
    int fd = open_socket(address);
    if (fd < 0)
        return fd;

    int yes = 1;
    if (!is_unix)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);

    int r = bind(fd, name, address->length) < 0 ? -errno : 0;
    if (r == -EADDRINUSE && is_unix && is_stale(address)) {
        unlink(((const struct sockaddr_un *) (const void *) name)->sun_path);
        r = bind(fd, name, address->length) < 0 ? -errno : 0;
    }
    if (r == 0 && is_unix && unix_mode != 0
        && chmod(((const struct sockaddr_un *) (const void *) name)->sun_path, unix_mode) < 0)
        r = -errno;
    if (r == 0 && listen(fd, backlog) < 0)
        r = -errno;
    if (r < 0) {
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

int ch2_accept(int fd, int *ret_fd, CH2Address *ret_peer) {
    CH2Address peer = {.length = sizeof peer.storage};
    int accepted = accept4(fd, (struct sockaddr *) &peer.storage, &peer.length,
                           SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted < 0)
        return -errno;
    *ret_fd = accepted;
    *ret_peer = peer;
    return 0;
}

int ch2_connect(const CH2Address *address, int *ret_fd) {
    int fd = open_socket(address);
    if (fd < 0)
        return fd;
    int r = connect(fd, (const struct sockaddr *) &address->storage, address->length);
    if (r < 0 && errno != EINPROGRESS) {
        r = -errno;
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return r < 0 ? 1 : 0;
}

int ch2_connect_result(int fd) {
    int error = 0;
    socklen_t n = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0)
        return -errno;
    return -error;
}

int ch2_local_address(int fd, CH2Address *ret) {
    CH2Address address = {.length = sizeof address.storage};
    if (getsockname(fd, (struct sockaddr *) &address.storage, &address.length) < 0)
        return -errno;
    *ret = address;
    return 0;
}

int ch2_socket_tune(int fd, unsigned idle_s, unsigned timeout_s) {
    CH2Address address;
    int r = ch2_local_address(fd, &address);
    if (r < 0 || address.storage.ss_family == AF_UNIX)
        return r;

    int yes = 1;
    int idle = (int) idle_s;
    int probes = 3;
    int interval = timeout_s > 3 ? (int) (timeout_s / 3) : 1;
    unsigned timeout_ms = timeout_s * 1000;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) < 0
        || setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes) < 0
        || setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle) < 0
        || setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval) < 0
        || setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes) < 0
        || setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms) < 0)
        return -errno;
    return 0;
}

unsigned ch2_socket_unanswered_ms(int fd) {
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return 0;
    bool is_sent_again = info.tcpi_unacked > 0 && info.tcpi_retransmits >= 2;
    // Keepalive probes, of a connection on which nothing is under way.
    return is_sent_again || info.tcpi_probes >= 2 ? info.tcpi_last_ack_recv : 0;
}
