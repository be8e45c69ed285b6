/* The takeover, as it is led: see takeover.h. */
#include <errno.h>
#include <stdlib.h>

#include "attendant.h"
#include "thread.h"

enum { FILES_BESIDE = 256 };

static int list_rows(struct cscp *cscp, const cscp_estate *estate) {
    cscp_takeover *self = &cscp->takeover;
    uint32_t n = 0;

    for (const cscp_row *row = estate->rows; row; row = row->next)
        n++;
    if (n == 0)
        return 0;
    self->finds = calloc(n, sizeof(*self->finds));
    if (!self->finds)
        return -ENOMEM;
    for (cscp_row *row = estate->rows; row; row = row->next)
        self->finds[self->n_finds++].row = row;
    return 0;
}

int cscp_inherit_read(struct cscp *cscp, const cscp_estate *estate) {
    cscp_takeover *self = &cscp->takeover;
    int r = cscp_heirs_read(&estate->book, &self->heirs);

    if (r == 0)
        r = list_rows(cscp, estate);
    self->has_book = estate->book.bytes != NULL;
    cscp->resumption.unsound = self->heirs.unsound;
    if (self->heirs.orders >= cscp->orders)
        cscp->orders = self->heirs.orders + 1;
    /* All at once, and before there are more threads: see cscp_make_room(). */
    if (r == 0 && self->heirs.n > 0)
        cscp_files_reserve(cscp->book.fd, self->heirs.n + FILES_BESIDE);
    return r;
}

/* Rows are shared out whole: a thread puts into its own ones only. */
static void share_out(struct cscp *cscp, cscp_estate *estate) {
    cscp_takeover *self = &cscp->takeover;
    uint64_t n_of[CSCP_BOOK_SHARES_MAX] = {0};

    for (uint32_t i = 0; i < self->n_finds; i++) {
        cscp_find *find = &self->finds[i];
        cscp_park *park;

        for (uint32_t j = 1; j < cscp->n_threads; j++)
            if (n_of[j] < n_of[find->thread])
                find->thread = j;
        n_of[find->thread] += find->n;
        park = &cscp->threads[find->thread]->park;
        find->row->next = park->rows;
        park->rows = find->row;
        park->thinned = true;
    }
    estate->rows = NULL;
}

static void sum_up(struct cscp *cscp) {
    cscp_takeover *self = &cscp->takeover;
    cscp_resumption *sum = &cscp->resumption;

    for (uint32_t i = 0; i < self->n_finds; i++) {
        const cscp_find *find = &self->finds[i];

        sum->connections += find->connections;
        sum->welcomed += find->welcomed;
        sum->ended += find->ended;
        sum->stateless += find->stateless;
        sum->undescribed += find->undescribed;
    }
    sum->socketless = cscp_heirs_left(&self->heirs);
}

int cscp_inherit_settle(struct cscp *cscp, cscp_estate *estate) {
    cscp_takeover *self = &cscp->takeover;
    int r;

    if (self->n_finds > 0) {
        cscp_takeover_order(self, CSCP_STEP_LOOK);
        r = cscp_takeover_wait(self);
        if (r < 0)
            return r;
        share_out(cscp, estate);
        cscp_takeover_order(self, CSCP_STEP_SETTLE);
    }
    return 0;
}

typedef struct rival {
    uint64_t order, handle;
} rival;

static int by_order(const void *a, const void *b) {
    uint64_t x = ((const rival *)a)->order, y = ((const rival *)b)->order;

    return (x > y) - (x < y);
}

static cscp_thread *thread_of(const struct cscp *cscp, uint64_t handle) {
    return cscp->threads[cscp_handle_thread(handle)];
}

static cscp_conn *conn_of(const struct cscp *cscp, uint64_t handle) {
    return cscp_table_slot(&thread_of(cscp, handle)->table, cscp_handle_slot(handle));
}

static int claim_again(struct cscp *cscp, const rival *rivals, size_t n) {
    for (size_t i = 0; i < n; i++) {
        cscp_conn *c = conn_of(cscp, rivals[i].handle);

        cscp_directory_release(cscp->directory, c->session.serial, rivals[i].handle);
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t handle = rivals[i].handle, older;
        cscp_conn *c = conn_of(cscp, handle);
        int r;

        if (i > 0 && handle == rivals[i - 1].handle)
            continue; /* it is in two disputes */
        r = cscp_directory_claim(cscp->directory, c->session.serial, handle, &older);
        if (r < 0)
            return r;
        if (older != 0)
            cscp_summon(thread_of(cscp, handle), c, older);
    }
    return 0;
}

/* All that say one serial claim it again, the oldest first. No thread is at work. */
static int settle_disputes(struct cscp *cscp) {
    cscp_takeover *self = &cscp->takeover;
    size_t n = 2 * self->n_disputes;
    rival *rivals;
    int r;

    if (n == 0)
        return 0;
    rivals = malloc(n * sizeof(*rivals));
    if (!rivals)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        uint64_t handle = self->disputes[i / 2].handles[i % 2];
        const cscp_conn *c = conn_of(cscp, handle);

        rivals[i] = (rival){cscp_ticket_of(thread_of(cscp, handle), c)->order, handle};
    }
    qsort(rivals, n, sizeof(*rivals), by_order);
    r = claim_again(cscp, rivals, n);
    free(rivals);
    return r;
}

int cscp_inherit_wait(struct cscp *cscp) {
    int r = cscp_takeover_wait(&cscp->takeover);

    if (r == 0)
        sum_up(cscp);
    return r;
}

int cscp_inherit_serve(struct cscp *cscp) {
    int r = settle_disputes(cscp);

    if (r < 0)
        return r;
    cscp_takeover_clear(&cscp->takeover);
    cscp_takeover_order(&cscp->takeover, CSCP_STEP_SERVE);
    return 0;
}
