/* Going on with the connections of a process that is gone: sockets out of the rows, joined to their
 * tickets by SO_COOKIE, become connections of threads that do not serve yet. See takeover.h for the
 * order of it, and ADR 0015. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "attendant.h"
#include "thread.h"

/* --- Looking through rows */

/* The copies in the lot go with their row. */
static void close_for_good(int fd) {
    shutdown(fd, SHUT_RDWR);
    close(fd);
}

static bool make_room(cscp_find *find, int n) {
    uint32_t n_max = find->n + (uint32_t)n;
    void *more;

    if (n_max <= find->n_max)
        return true;
    n_max = find->n_max > 0 ? n_max * 2 : CSCP_ROW_BATCH;
    more = realloc(find->sockets, n_max * sizeof(*find->sockets));
    if (!more)
        return false;
    find->sockets = more;
    find->n_max = n_max;
    return true;
}

static void look_at(const cscp_takeover *self, cscp_find *find, int fd) {
    uint64_t cookie = 0;
    socklen_t size = sizeof(cookie);
    cscp_heir *heir = NULL;

    if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0)
        heir = cscp_heirs_look(&self->heirs, cookie);
    if (!heir) {
        /* With a book, its ticket was torn up: it had ended, and its end may not have been said. */
        if (self->has_book)
            find->ended++;
        else
            find->stateless++;
        close_for_good(fd);
    } else if (cscp_heir_take(heir)) {
        find->sockets[find->n].heir = heir;
        find->sockets[find->n++].fd = fd;
    } else
        close(fd); /* it was on its way from one row to another */
}

static int look_through(const cscp_takeover *self, cscp_find *find) {
    cscp_row *row = find->row;
    int fds[CSCP_ROW_BATCH], n;
    bool cut = false;

    while ((n = cscp_row_next(row, fds, &cut)) > 0 || cut) {
        if (!make_room(find, n)) {
            while (n > 0)
                close(fds[--n]);
            return -ENOMEM;
        }
        row->n += (uint32_t)n;
        for (int i = 0; i < n; i++)
            look_at(self, find, fds[i]);
        if (cut) { /* and the row must stay, for another process that has more descriptors */
            find->undescribed++;
            row->n++;
            row->n_live++;
            cut = false;
        }
    }
    return n;
}

int cscp_look(cscp_takeover *self, cscp_thread *t) {
    int r = 0;

    (void)t;
    while (r == 0) {
        uint32_t i = atomic_fetch_add_explicit(&self->n_looked, 1, memory_order_relaxed);

        if (i >= self->n_finds)
            break;
        r = look_through(self, &self->finds[i]);
    }
    return r;
}

/* --- Making connections of what was found. One that its peer has reset meanwhile becomes one, too:
 * epoll says so at once, and it ends like any other. */

static void set_peer(cscp_conn *c, const cscp_ticket *from) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);

    if (from->stage != CSCP_STAGE_NEW) {
        c->peer = from->peer;
        c->peer_port = from->peer_port;
    } else if (getpeername(c->fd, (struct sockaddr *)&address, &size) == 0)
        cscp_conn_set_peer(c, &address);
}

/* Whatever was begun is filled up, with as many bytes as a frame can miss. */
static int fill_up(cscp_thread *t, cscp_conn *c, uint32_t unsent) {
    static const uint8_t filler[CSCP_FRAME_MAX];

    if (unsent == 0)
        return 0;
    c->rest = cscp_pool_keep(&t->pool, filler, unsent < CSCP_FRAME_MAX ? unsent : CSCP_FRAME_MAX);
    return c->rest ? 0 : -ENOMEM;
}

static void set_session(cscp_thread *t, cscp_conn *c, const cscp_ticket *from) {
    cscp_session *s = &c->session;

    s->serial = from->serial;
    s->session_id = from->session_id;
    s->epoch_seen = from->epoch_seen;
    s->capacity = from->capacity;
    s->oldest_seq = from->oldest_seq;
    s->last_seq = from->last_seq;
    s->again = (from->flags & CSCP_TICKET_AGAIN) != 0;
    cscp_session_resume(s, from->stage == CSCP_STAGE_WELCOMED, from->log_epoch, from->acked,
                        &t->now);
}

/* HELLO was understood, but not taken off the socket yet. A controller says nothing more before it
 * is welcomed, so what there is to read, is that. */
static bool is_to_say_hello(const cscp_ticket *ticket, int fd) {
    uint8_t byte;

    if (ticket->stage == CSCP_STAGE_HELLO)
        return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
    return ticket->stage == CSCP_STAGE_NEW;
}

/* Of two connections of a serial the newer supersedes the older, as ever: which of them that is, is
 * found out once all are there. */
static int claim(cscp_takeover *self, cscp_thread *t, cscp_conn *c) {
    uint64_t handle = cscp_conn_handle(c, t->index), older;
    int r = cscp_directory_claim(t->cscp->directory, c->session.serial, handle, &older);

    if (r < 0)
        return r;
    c->claimed = true;
    return older != 0 ? cscp_takeover_dispute(self, handle, older) : 0;
}

static int go_on(cscp_takeover *self, cscp_thread *t, cscp_conn *c, const cscp_ticket *from,
                 const char *name) {
    int r;

    c->fresh = false;
    c->relayed = (from->flags & CSCP_TICKET_RELAYED) != 0;
    c->tls_name = name[0] ? strdup(name) : NULL;
    set_session(t, c, from);
    cscp_rearm(t, c);
    r = fill_up(t, c, from->unsent);
    return r < 0 ? r : claim(self, t, c);
}

static int resume(cscp_takeover *self, cscp_thread *t, cscp_find *find, uint32_t i) {
    struct sockaddr_storage none = {.ss_family = AF_INET6};
    char name[CSCP_TLS_NAME_MAX + 1];
    cscp_ticket ticket;
    cscp_conn *c = cscp_conn_open(t, find->sockets[i].fd, &none);

    if (!c)
        return -ENOMEM;
    find->sockets[i].fd = -1;
    cscp_heirs_copy(&self->heirs, find->sockets[i].heir, &ticket, name);
    if (is_to_say_hello(&ticket, c->fd))
        ticket.stage = CSCP_STAGE_NEW;
    atomic_fetch_add_explicit(&t->cscp->n_connections, 1, memory_order_relaxed);
    *cscp_ticket_of(t, c) = ticket;
    if (name[0])
        memcpy(t->names + (size_t)c->slot * CSCP_TLS_NAME_MAX, name, CSCP_TLS_NAME_MAX);
    cscp_park_found(t, c, find->row);
    set_peer(c, &ticket);
    find->connections++;
    if (ticket.stage == CSCP_STAGE_WELCOMED)
        find->welcomed++;
    return ticket.stage == CSCP_STAGE_NEW ? 0 : go_on(self, t, c, &ticket, name);
}

int cscp_settle(cscp_takeover *self, cscp_thread *t) {
    int r = 0;

    cscp_look_at_the_clocks(t);
    for (uint32_t i = 0; i < self->n_finds; i++) {
        cscp_find *find = &self->finds[i];

        for (uint32_t j = 0; find->thread == t->index && j < find->n && r == 0; j++)
            r = resume(self, t, find, j);
    }
    return r;
}
