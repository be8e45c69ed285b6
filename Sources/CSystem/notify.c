/* The service manager's notification protocol, which is one datagram of lines: no library
 * needed. */
#include "datagram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int csys_notify_send(const char *state, const int *fds, size_t n_fds) {
    const char *path = secure_getenv("NOTIFY_SOCKET");
    struct iovec piece = {.iov_base = (void *)state, .iov_len = strlen(state)};
    csys_address manager;
    int fd, r;

    if (!path || path[0] == '\0')
        return 0;
    if (path[0] != '/' && path[0] != '@')
        return -EAFNOSUPPORT;
    r = csys_address_unix(path, &manager);
    if (r < 0)
        return r;
    fd = datagram_socket();
    if (fd < 0)
        return fd;
    r = datagram_send(fd, &manager, &piece, 1, fds, n_fds);
    (void)csys_fd_close(fd);
    return r < 0 ? r : 1;
}

/* A decimal number and nothing else; 0 if it is anything else. */
static uint64_t number_read(const char *text) {
    unsigned long long value;
    char *end;

    if (!text || text[0] < '0' || text[0] > '9')
        return 0;
    errno = 0;
    value = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' ? value : 0;
}

uint64_t csys_notify_watchdog(void) {
    const char *pid = secure_getenv("WATCHDOG_PID");
    uint64_t usec = number_read(secure_getenv("WATCHDOG_USEC"));

    if (pid && number_read(pid) != (uint64_t)getpid())
        return 0;
    return usec > UINT64_MAX / 1000 ? 0 : usec * 1000;
}
