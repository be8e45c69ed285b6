/* The parking lot: rows of sockets that stay open while no process has them. A row is a pair of
 * AF_UNIX sockets: what is sent into one end with SCM_RIGHTS lies in the other until it is received,
 * and looking (MSG_PEEK) takes nothing out. The keeper (the service manager) has the end they lie
 * in; so storing a thousand sockets costs it one entry. A row only ever grows, and goes as a
 * whole. */
#ifndef CSCP_LOT_H
#define CSCP_LOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CSCP_ROW_BATCH = 253,              /* sockets in a message: the kernel's limit */
    CSCP_ROW_MAX = 4 * CSCP_ROW_BATCH, /* sockets in a row */
    CSCP_ROW_NAME = 48,
};

typedef struct cscp_row {
    struct cscp_row *next;
    int in_fd;       /* -1: nothing more goes in */
    int out_fd;
    uint32_t n;      /* sockets put in */
    uint32_t n_live; /* of them in use */
    bool swept;      /* those in use are on their way to another row */
    char name[CSCP_ROW_NAME]; /* by which the keeper knows it */
} cscp_row;

/* -errno */
int cscp_row_new(cscp_row **ret);
/* One that another process filled: takes fd. -ENOMEM */
int cscp_row_adopt(int fd, const char *name, cscp_row **ret);
/* NULL is fine. Returns NULL. */
cscp_row *cscp_row_free(cscp_row *row);

/* Puts copies of n <= CSCP_ROW_BATCH sockets in. 0; -EAGAIN: it is full; -ETOOMANYREFS: this user
 * may have no more under way (RLIMIT_NOFILE); else another negative errno. */
int cscp_row_put(cscp_row *row, const int *fds, size_t n);
/* No more of them. */
void cscp_row_seal(cscp_row *row);

/* Looking begins at the first again. 0, -errno: it is no row. */
int cscp_row_look(const cscp_row *row);
/* Copies of the next sockets in it; their number, 0 at the end, -errno. *ret_cut: there were more in
 * this message, but no descriptors for them. */
int cscp_row_next(const cscp_row *row, int ret_fds[CSCP_ROW_BATCH], bool *ret_cut);

/* Is so much of it out of use that it is worth replacing? */
static inline bool cscp_row_is_thin(const cscp_row *row) {
    return (uint64_t)row->n_live * 4 <= (uint64_t)row->n * 3;
}

#endif
