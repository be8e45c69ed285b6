#include "datagram.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

int datagram_socket(void) {
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

int datagram_send(int fd, const csys_address *to, struct iovec *pieces, size_t n_pieces,
                  const int *fds, size_t n_fds) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * DATAGRAM_FDS_MAX)];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {
        .msg_name = (void *)&to->storage,
        .msg_namelen = to->length,
        .msg_iov = pieces,
        .msg_iovlen = n_pieces,
    };
    ssize_t r;

    if (n_fds > DATAGRAM_FDS_MAX)
        return -E2BIG;
    if (n_fds > 0) {
        struct cmsghdr *header;

        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * n_fds);
    }
    do {
        r = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}
