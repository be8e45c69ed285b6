/* An I/O thread's part of the parking lot: copies of its connections' sockets go into rows, in
 * batches, within CSCP_PARK_MS of being accepted. Rows much of which is out of use are replaced by
 * new ones with what is left, so closed sockets go, and take no more room than those in use. */
#ifndef CSCP_PARK_H
#define CSCP_PARK_H

#include "conn.h"
#include "lot.h"

typedef struct cscp_thread cscp_thread;

enum {
    CSCP_PARK_MS = 100,
    CSCP_PARK_RETRY_MS = 10,         /* without a row */
    CSCP_PARK_TROUBLE_MS = 1000,     /* the kernel takes no more */
};

typedef struct cscp_park {
    cscp_row *row;  /* being filled; NULL: none */
    cscp_row *rows; /* all that hold something, this one included */
    uint32_t *waiting; /* slots of those to be parked, here or elsewhere */
    uint32_t n_waiting, n_waiting_max;
    uint64_t due_ms; /* 0: nothing waits */
    bool thinned;    /* a row may have become thin */
} cscp_park;

void cscp_park_done(cscp_park *park);
/* It has a socket now, which is to be parked. */
void cscp_park_want(cscp_thread *t, cscp_conn *c);
/* Its socket is parked in that row already. */
void cscp_park_found(cscp_thread *t, cscp_conn *c, cscp_row *row);
/* Its socket is going to be closed: a parked copy must not keep the connection alive. */
void cscp_park_leave(cscp_thread *t, cscp_conn *c);
/* Parks what is due, and sweeps; once a turn. */
void cscp_park_turn(cscp_thread *t);
/* Parks what waits, now: the thread ends. */
void cscp_park_last(cscp_thread *t);

#endif
