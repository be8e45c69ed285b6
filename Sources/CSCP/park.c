#include "park.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "attendant.h"
#include "thread.h"

void cscp_park_done(cscp_park *park) {
    while (park->rows) {
        cscp_row *row = park->rows;

        park->rows = row->next;
        cscp_row_free(row);
    }
    free(park->waiting);
    *park = (cscp_park){0};
}

static bool make_room(cscp_park *park) {
    uint32_t n = park->n_waiting_max > 0 ? park->n_waiting_max * 2 : CSCP_ROW_BATCH;
    uint32_t *more;

    if (park->n_waiting < park->n_waiting_max)
        return true;
    more = realloc(park->waiting, n * sizeof(*more));
    if (!more)
        return false;
    park->waiting = more;
    park->n_waiting_max = n;
    return true;
}

static void wait_in(cscp_thread *t, cscp_conn *c, uint64_t ms) {
    cscp_park *park = &t->park;
    uint64_t due_ms = t->now.boot_ms + ms;

    if (!t->cscp->attendant)
        return;
    if (!c->parking) { /* the slot's former holder may be on the list yet */
        if (!make_room(park)) {
            CSCP_COUNT(t, park_failures, 1);
            return;
        }
        park->waiting[park->n_waiting++] = c->slot;
        c->parking = true;
    }
    if (park->due_ms == 0 || due_ms < park->due_ms)
        park->due_ms = due_ms;
}

void cscp_park_want(cscp_thread *t, cscp_conn *c) {
    wait_in(t, c, t->park.n_waiting + 1 < CSCP_ROW_BATCH ? CSCP_PARK_MS : 0);
}

void cscp_park_found(cscp_thread *t, cscp_conn *c, cscp_row *row) {
    c->row = row;
    row->n_live++;
    CSCP_COUNT(t, parked, 1);
}

/* One less of the row's is in use. */
static void thin_out(cscp_thread *t, cscp_row *row) {
    row->n_live--;
    if (cscp_row_is_thin(row))
        t->park.thinned = true;
}

void cscp_park_leave(cscp_thread *t, cscp_conn *c) {
    if (!c->row)
        return;
    shutdown(c->fd, SHUT_RDWR);
    thin_out(t, c->row);
    c->row = NULL;
    CSCP_COUNT(t, parked, -1);
}

static cscp_row *row_to_fill(cscp_thread *t) {
    cscp_park *park = &t->park;

    if (park->row)
        return park->row;
    park->row = cscp_attendant_take(t->cscp->attendant, t->index);
    if (park->row) {
        park->row->next = park->rows;
        park->rows = park->row;
    }
    return park->row;
}

static void seal(cscp_park *park) {
    cscp_row_seal(park->row);
    park->row = NULL;
    park->thinned = true;
}

/* The socket is known by this number in every process. */
static bool identify(cscp_thread *t, const cscp_conn *c) {
    cscp_ticket *ticket = cscp_ticket_of(t, c);
    uint64_t cookie;
    socklen_t size = sizeof(cookie);

    if (atomic_load_explicit(&ticket->cookie, memory_order_relaxed) != 0)
        return true;
    if (getsockopt(c->fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) < 0)
        return false;
    atomic_store_explicit(&ticket->cookie, cookie, memory_order_release);
    return true;
}

/* The last of those that wait; as many as go into a message. */
static size_t choose(cscp_thread *t, cscp_conn *ret[CSCP_ROW_BATCH], int fds[CSCP_ROW_BATCH]) {
    cscp_park *park = &t->park;
    size_t n = 0;

    while (park->n_waiting > 0 && n < CSCP_ROW_BATCH) {
        cscp_conn *c = cscp_table_slot(&t->table, park->waiting[--park->n_waiting]);

        c->parking = false;
        if (c->fd < 0 || c->session.state == CSCP_CLOSED || (c->row && !c->row->swept))
            continue; /* gone, or its successor in the slot is parked */
        if (!identify(t, c)) {
            CSCP_COUNT(t, park_failures, 1);
            continue;
        }
        fds[n] = c->fd;
        ret[n++] = c;
    }
    return n;
}

static void parked(cscp_thread *t, cscp_conn *const *conns, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (conns[i]->row)
            thin_out(t, conns[i]->row);
        else
            CSCP_COUNT(t, parked, 1);
        conns[i]->row = t->park.row;
    }
    CSCP_COUNT(t, park_batches, 1);
}

/* False when it cannot go on now. */
static bool park_batch(cscp_thread *t) {
    cscp_park *park = &t->park;
    cscp_conn *conns[CSCP_ROW_BATCH];
    int fds[CSCP_ROW_BATCH];
    size_t n;
    int r;

    if (!row_to_fill(t)) {
        park->due_ms = t->now.boot_ms + CSCP_PARK_RETRY_MS;
        return false;
    }
    n = choose(t, conns, fds);
    if (n == 0)
        return true;
    r = cscp_row_put(park->row, fds, n);
    if (r == 0) {
        parked(t, conns, n);
        return true;
    }
    for (size_t i = 0; i < n; i++)
        wait_in(t, conns[i], 0);
    if (r == -EAGAIN) {
        seal(park);
        return true;
    }
    CSCP_COUNT(t, park_failures, 1);
    park->due_ms = t->now.boot_ms + CSCP_PARK_TROUBLE_MS;
    return false;
}

static void park_the_waiting(cscp_thread *t) {
    cscp_park *park = &t->park;

    while (park->n_waiting > 0)
        if (!park_batch(t))
            return;
    park->due_ms = 0;
}

static void sweep(cscp_thread *t, cscp_row *row) {
    uint32_t n_slots = cscp_table_n_slots(&t->table);

    row->swept = true;
    for (uint32_t i = 0; i < n_slots; i++) {
        cscp_conn *c = cscp_table_slot(&t->table, i);

        if (c->row == row)
            wait_in(t, c, 0);
    }
    CSCP_COUNT(t, rows_swept, 1);
}

static void sweep_the_thin(cscp_thread *t) {
    cscp_park *park = &t->park;
    cscp_row **at = &park->rows, *row;

    park->thinned = false;
    if (park->row && park->row->n >= CSCP_ROW_BATCH && cscp_row_is_thin(park->row))
        seal(park);
    while ((row = *at)) {
        if (row != park->row && row->n_live == 0) {
            *at = row->next;
            cscp_attendant_retire(t->cscp->attendant, row);
            continue;
        }
        if (row != park->row && !row->swept && cscp_row_is_thin(row))
            sweep(t, row);
        at = &row->next;
    }
}

void cscp_park_turn(cscp_thread *t) {
    cscp_park *park = &t->park;

    if (park->thinned)
        sweep_the_thin(t);
    if (park->due_ms != 0 && t->now.boot_ms >= park->due_ms)
        park_the_waiting(t);
}

void cscp_park_last(cscp_thread *t) {
    if (t->park.n_waiting > 0)
        park_the_waiting(t);
}
