/* Going on with the connections of a process that is gone: sockets out of the rows, joined to their
 * tickets by SO_COOKIE, become connections of threads that do not run yet. See ADR 0015. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "attendant.h"
#include "thread.h"

/* A ticket and, once it is found, its socket. */
typedef struct heir {
    cscp_ticket ticket;
    char name[CSCP_TLS_NAME_MAX + 1];
    int fd; /* -1: not found */
    cscp_row *row;
} heir;

typedef struct heirs {
    heir *items;
    size_t n, n_max;
    uint32_t *places; /* by cookie: open addressing; 0 = none, else number + 1 */
    size_t n_places;  /* a power of two */
} heirs;

static int read_book(const cscp_book *book, heirs *h, uint32_t *ret_unsound) {
    cscp_book_cursor cursor = {0};
    heir next = {.fd = -1};

    while (book->bytes && cscp_book_next(book, &cursor, &next.ticket, next.name, ret_unsound)) {
        if (h->n == h->n_max) {
            size_t n_max = h->n_max ? h->n_max * 2 : 256;
            heir *more = realloc(h->items, n_max * sizeof(*more));

            if (!more)
                return -ENOMEM;
            h->items = more;
            h->n_max = n_max;
        }
        h->items[h->n++] = next;
    }
    for (h->n_places = 16; h->n_places < h->n * 2; h->n_places *= 2)
        ;
    h->places = calloc(h->n_places, sizeof(*h->places));
    return h->places ? 0 : -ENOMEM;
}

static uint32_t *place_of(heirs *h, uint64_t cookie) {
    size_t i = (cookie * 0x9e3779b97f4a7c15u) >> 32 & (h->n_places - 1);

    while (h->places[i] != 0 && h->items[h->places[i] - 1].ticket.cookie != cookie)
        i = (i + 1) & (h->n_places - 1);
    return &h->places[i];
}

static void index_them(heirs *h) {
    for (size_t i = 0; i < h->n; i++)
        *place_of(h, h->items[i].ticket.cookie) = (uint32_t)i + 1;
}

static void free_heirs(heirs *h) {
    for (size_t i = 0; i < h->n; i++)
        if (h->items[i].fd >= 0)
            close(h->items[i].fd);
    free(h->items);
    free(h->places);
}

/* Is anything to be expected of it? What the peer sent before its FIN is read first. */
static bool is_alive(int fd) {
    struct tcp_info info;
    socklen_t size = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return false;
    return info.tcpi_state == TCP_ESTABLISHED || info.tcpi_state == TCP_CLOSE_WAIT;
}

/* The copies in the lot go with their row. */
static void close_for_good(int fd) {
    shutdown(fd, SHUT_RDWR);
    close(fd);
}

static void find_heir(struct cscp *cscp, heirs *h, cscp_row *row, int fd, bool has_book) {
    uint64_t cookie = 0;
    socklen_t size = sizeof(cookie);
    uint32_t place;
    heir *found;

    row->n++;
    if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) < 0 ||
        (place = *place_of(h, cookie)) == 0) {
        /* With a book, its ticket was torn up: it had ended, and its end may not have been said. */
        if (has_book)
            cscp->resumption.ended++;
        else
            cscp->resumption.stateless++;
        close_for_good(fd);
        return;
    }
    found = &h->items[place - 1];
    if (found->fd >= 0) { /* it was on its way from one row to another */
        close(fd);
        return;
    }
    found->row = row;
    if (is_alive(fd)) {
        found->fd = fd;
        return;
    }
    cscp->resumption.ended++;
    close_for_good(fd);
}

static int look_through(struct cscp *cscp, heirs *h, cscp_row *row, bool has_book) {
    int fds[CSCP_ROW_BATCH], n;
    bool cut = false;

    while ((n = cscp_row_next(row, fds, &cut)) > 0 || cut) {
        for (int i = 0; i < n; i++)
            find_heir(cscp, h, row, fds[i], has_book);
        if (cut) { /* and the row must stay, for another process that has more descriptors */
            cscp->resumption.undescribed++;
            row->n++;
            row->n_live++;
            cut = false;
        }
    }
    return n;
}

static int by_order(const void *a, const void *b) {
    uint64_t x = ((const heir *)a)->ticket.order, y = ((const heir *)b)->ticket.order;

    return (x > y) - (x < y);
}

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

/* Of two connections of a serial the newer supersedes the older, as ever. */
static int claim(cscp_thread *t, cscp_conn *c) {
    uint64_t older;
    int r = cscp_directory_claim(t->cscp->directory, c->session.serial,
                                 cscp_conn_handle(c, t->index), &older);

    if (r < 0)
        return r;
    c->claimed = true;
    if (older != 0)
        cscp_summon(t, c, older);
    return 0;
}

static int go_on(cscp_thread *t, cscp_conn *c, const heir *it) {
    const cscp_ticket *from = &it->ticket;
    int r;

    c->fresh = false;
    c->relayed = (from->flags & CSCP_TICKET_RELAYED) != 0;
    c->tls_name = it->name[0] ? strdup(it->name) : NULL;
    set_session(t, c, from);
    cscp_rearm(t, c);
    r = fill_up(t, c, from->unsent);
    return r < 0 ? r : claim(t, c);
}

static int resume(cscp_thread *t, heir *it) {
    struct sockaddr_storage none = {.ss_family = AF_INET6};
    cscp_conn *c = cscp_conn_open(t, it->fd, &none);

    if (!c)
        return -ENOMEM;
    it->fd = -1;
    if (is_to_say_hello(&it->ticket, c->fd))
        it->ticket.stage = CSCP_STAGE_NEW;
    atomic_fetch_add_explicit(&t->cscp->n_connections, 1, memory_order_relaxed);
    *cscp_ticket_of(t, c) = it->ticket;
    if (it->name[0])
        memcpy(t->names + (size_t)c->slot * CSCP_TLS_NAME_MAX, it->name, CSCP_TLS_NAME_MAX);
    cscp_park_found(t, c, it->row);
    set_peer(c, &it->ticket);
    t->cscp->resumption.connections++;
    if (it->ticket.stage == CSCP_STAGE_WELCOMED)
        t->cscp->resumption.welcomed++;
    return it->ticket.stage == CSCP_STAGE_NEW ? 0 : go_on(t, c, it);
}

/* Rows are shared out whole: a thread puts into its own ones only. */
static cscp_thread *thread_for(struct cscp *cscp, const uint64_t *n_of) {
    uint32_t least = 0;

    for (uint32_t i = 1; i < cscp->n_threads; i++)
        if (n_of[i] < n_of[least])
            least = i;
    return cscp->threads[least];
}

static void share_out(struct cscp *cscp, cscp_estate *estate, heirs *h) {
    uint64_t n_of[64] = {0};

    while (estate->rows) {
        cscp_row *row = estate->rows;
        cscp_thread *t = thread_for(cscp, n_of);

        estate->rows = row->next;
        row->next = t->park.rows;
        t->park.rows = row;
        t->park.thinned = true;
        for (size_t i = 0; i < h->n; i++)
            n_of[t->index] += h->items[i].row == row;
    }
}

static cscp_thread *thread_of(struct cscp *cscp, const cscp_row *row) {
    for (uint32_t i = 0; i < cscp->n_threads; i++)
        for (const cscp_row *at = cscp->threads[i]->park.rows; at; at = at->next)
            if (at == row)
                return cscp->threads[i];
    return NULL;
}

/* The oldest first. */
static int settle(struct cscp *cscp, heirs *h) {
    for (size_t i = 0; i < h->n; i++) {
        heir *it = &h->items[i];
        cscp_thread *t;
        int r;

        if (it->ticket.order >= cscp->orders)
            cscp->orders = it->ticket.order + 1;
        if (it->fd < 0) {
            cscp->resumption.socketless += it->row == NULL;
            continue;
        }
        t = thread_of(cscp, it->row);
        r = resume(t, it);
        if (r < 0)
            return r;
    }
    return 0;
}

int cscp_estate_settle(struct cscp *cscp, cscp_estate *estate) {
    bool has_book = estate->book.bytes != NULL;
    heirs h = {0};
    int r = read_book(&estate->book, &h, &cscp->resumption.unsound);

    if (r == 0) {
        index_them(&h);
        for (cscp_row *row = estate->rows; row && r == 0; row = row->next)
            r = look_through(cscp, &h, row, has_book);
    }
    if (r == 0) {
        if (h.n > 0)
            qsort(h.items, h.n, sizeof(*h.items), by_order);
        share_out(cscp, estate, &h);
        r = settle(cscp, &h);
    }
    free_heirs(&h);
    return r;
}
