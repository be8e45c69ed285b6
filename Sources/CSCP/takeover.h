/* How a process takes over what another one had: step by step, each done by all I/O threads at once
 * and led by the thread that makes the layer.
 *
 *   look    rows are looked through by whoever is free; their sockets are joined to their tickets
 *   settle  each thread makes connections of its share, with tickets in its part of the new book
 *   serve   once the keeper has the new book; never before is anything received or sent
 *
 * Killed before the keeper has it, the process leaves the former book, in which nothing was changed;
 * killed after that, the new one, in which everything is. */
#ifndef CSCP_TAKEOVER_H
#define CSCP_TAKEOVER_H

#include <pthread.h>

#include "heirs.h"
#include "lot.h"

typedef struct cscp_thread cscp_thread;

typedef enum cscp_step {
    CSCP_STEP_NONE,
    CSCP_STEP_LOOK,
    CSCP_STEP_SETTLE,
    CSCP_STEP_SERVE,
    CSCP_STEP_QUIT,
} cscp_step;

/* A row, and what was found in it. */
typedef struct cscp_find {
    cscp_row *row;
    struct {
        cscp_heir *heir;
        int fd; /* -1: it is a connection's */
    } *sockets;
    uint32_t n, n_max;
    uint32_t thread; /* whose it becomes */
    uint32_t ended, stateless, undescribed, connections, welcomed;
} cscp_find;

/* Two connections that say the same serial. */
typedef struct cscp_dispute {
    uint64_t handles[2];
} cscp_dispute;

typedef struct cscp_takeover {
    cscp_heirs heirs;
    bool has_book;
    cscp_find *finds;
    uint32_t n_finds;
    _Atomic uint32_t n_looked; /* of them, or being looked through */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    cscp_step step;
    uint32_t n_threads, n_busy;
    int error;
    cscp_dispute *disputes;
    size_t n_disputes;
} cscp_takeover;

/* --- takeover.c */
void cscp_takeover_init(cscp_takeover *self);
/* Another thread takes part. */
void cscp_takeover_join(cscp_takeover *self);
/* Has all threads take this step, and begin it at once. */
void cscp_takeover_order(cscp_takeover *self, cscp_step step);
/* Waits until all have. 0, -errno of one of them. */
int cscp_takeover_wait(cscp_takeover *self);
/* Of a thread: takes steps as they are ordered. False: it is not to serve. */
bool cscp_takeover_follow(cscp_takeover *self, cscp_thread *t);
/* Of a thread that settles. 0, -ENOMEM. */
int cscp_takeover_dispute(cscp_takeover *self, uint64_t handle, uint64_t older);
/* Lets go of all but the steps. */
void cscp_takeover_clear(cscp_takeover *self);
void cscp_takeover_done(cscp_takeover *self);

/* --- resume.c */
/* The steps. 0, -errno. */
int cscp_look(cscp_takeover *self, cscp_thread *t);
int cscp_settle(cscp_takeover *self, cscp_thread *t);

#endif
