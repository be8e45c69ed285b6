#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} socket_address;

static int address_parse(const char *text, uint16_t port, socket_address *ret,
                         socklen_t *ret_size) {
    memset(ret, 0, sizeof(*ret));
    if (inet_pton(AF_INET, text, &ret->v4.sin_addr) == 1) {
        ret->v4.sin_family = AF_INET;
        ret->v4.sin_port = htons(port);
        *ret_size = sizeof(ret->v4);
        return 0;
    }
    if (inet_pton(AF_INET6, text, &ret->v6.sin6_addr) == 1) {
        ret->v6.sin6_family = AF_INET6;
        ret->v6.sin6_port = htons(port);
        *ret_size = sizeof(ret->v6);
        return 0;
    }
    return -EINVAL;
}

static int listener_prepare(int fd, const socket_address *address, socklen_t size,
                            uint16_t *ret_port) {
    socket_address bound;
    socklen_t n_bound = sizeof(bound);
    int one = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0)
        return -errno;
    if (bind(fd, &address->any, size) < 0)
        return -errno;
    if (listen(fd, 128) < 0)
        return -errno;
    if (getsockname(fd, &bound.any, &n_bound) < 0)
        return -errno;
    *ret_port = ntohs(address->any.sa_family == AF_INET ? bound.v4.sin_port : bound.v6.sin6_port);
    return 0;
}

int metrics_http_listen(const char *address, uint16_t port, uint16_t *ret_port) {
    socket_address parsed;
    socklen_t size;
    int fd, r;

    r = address_parse(address, port, &parsed, &size);
    if (r < 0)
        return r;
    fd = socket(parsed.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    r = listener_prepare(fd, &parsed, size, ret_port);
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}
