#include "chttp2/link.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static ssize_t plain_receive(CH2Link *link, void *into, size_t n) {
    ssize_t got;
    do
        got = recv(link->fd, into, n, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t plain_send(CH2Link *link, const void *from, size_t n) {
    ssize_t sent;
    do
        sent = send(link->fd, from, n, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

static uint32_t plain_interest(const CH2Link *link) {
    (void) link;
    return 0;
}

static void plain_free(CH2Link *link) {
    close(link->fd);
    free(link);
}

static const CH2LinkOperations plain = {
    .receive = plain_receive,
    .send = plain_send,
    .interest = plain_interest,
    .free = plain_free,
};

int ch2_link_new_plain(CH2Link **ret, int fd) {
    CH2Link *link = malloc(sizeof *link);
    if (!link) {
        close(fd);
        return -ENOMEM;
    }
    *link = (CH2Link){.operations = &plain, .fd = fd};
    *ret = link;
    return 0;
}

CH2Link *ch2_link_free(CH2Link *link) {
    if (link)
        link->operations->free(link);
    return NULL;
}
