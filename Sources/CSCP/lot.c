#include "lot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef union control {
    struct cmsghdr align;
    uint8_t bytes[CMSG_SPACE(CSCP_ROW_BATCH * sizeof(int))];
} control;

int cscp_row_new(cscp_row **ret) {
    cscp_row *row = malloc(sizeof(*row));
    int fds[2], r;

    if (!row)
        return -ENOMEM;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0) {
        r = -errno;
        free(row);
        return r;
    }
    *row = (cscp_row){.in_fd = fds[0], .out_fd = fds[1]};
    *ret = row;
    return 0;
}

int cscp_row_adopt(int fd, const char *name, cscp_row **ret) {
    cscp_row *row = malloc(sizeof(*row));

    if (!row)
        return -ENOMEM;
    *row = (cscp_row){.in_fd = -1, .out_fd = fd};
    snprintf(row->name, sizeof(row->name), "%s", name);
    *ret = row;
    return 0;
}

cscp_row *cscp_row_free(cscp_row *row) {
    if (!row)
        return NULL;
    cscp_row_seal(row);
    close(row->out_fd);
    free(row);
    return NULL;
}

void cscp_row_seal(cscp_row *row) {
    if (row->in_fd >= 0)
        close(row->in_fd);
    row->in_fd = -1;
}

int cscp_row_put(cscp_row *row, const int *fds, size_t n) {
    control control;
    uint8_t one = 1;
    struct iovec body = {.iov_base = &one, .iov_len = sizeof(one)};
    struct msghdr message = {
        .msg_iov = &body,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = CMSG_SPACE(n * sizeof(int)),
    };

    if (row->in_fd < 0 || row->n + n > CSCP_ROW_MAX)
        return -EAGAIN;
    control.align = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET,
        .cmsg_type = SCM_RIGHTS,
        .cmsg_len = CMSG_LEN(n * sizeof(int)),
    };
    memcpy(CMSG_DATA(&control.align), fds, n * sizeof(int));
    while (sendmsg(row->in_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        if (errno != EINTR)
            return -errno;
    row->n += (uint32_t)n;
    row->n_live += (uint32_t)n;
    return 0;
}

int cscp_row_look(const cscp_row *row) {
    int type = 0, first = 0;
    socklen_t size = sizeof(type);

    if (getsockopt(row->out_fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return -errno;
    if (type != SOCK_SEQPACKET)
        return -EPROTOTYPE;
    return setsockopt(row->out_fd, SOL_SOCKET, SO_PEEK_OFF, &first, sizeof(first)) < 0 ? -errno : 0;
}

/* A peeked message's descriptors are copies; how many there were room for, the kernel says. */
static int take(struct msghdr *message, int *ret_fds) {
    int n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        size_t size = c->cmsg_len - CMSG_LEN(0);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        memcpy(ret_fds + n, CMSG_DATA(c), size);
        n += (int)(size / sizeof(int));
    }
    return n;
}

int cscp_row_next(const cscp_row *row, int ret_fds[CSCP_ROW_BATCH], bool *ret_cut) {
    control control;
    uint8_t one;
    struct iovec body = {.iov_base = &one, .iov_len = sizeof(one)};

    for (;;) {
        struct msghdr message = {
            .msg_iov = &body,
            .msg_iovlen = 1,
            .msg_control = control.bytes,
            .msg_controllen = sizeof(control.bytes),
        };
        ssize_t n = recvmsg(row->out_fd, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        int n_fds;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == ENOTCONN || errno == ECONNRESET ? 0 : -errno;
        if (n == 0)
            return 0;
        n_fds = take(&message, ret_fds);
        *ret_cut = (message.msg_flags & MSG_CTRUNC) != 0;
        if (n_fds > 0 || *ret_cut)
            return n_fds;
    }
}
