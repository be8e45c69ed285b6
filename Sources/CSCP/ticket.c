/* The tickets of connections: see book.h for the order in which they are written. */
#include <string.h>

#include "thread.h"

/* Where it changes anything: a line that is not written need not be fetched for it. */
#define KEEP(field, value)                                                                         \
    do {                                                                                           \
        if (atomic_load_explicit(&(field), memory_order_relaxed) != (value))                       \
            atomic_store_explicit(&(field), (value), memory_order_release);                        \
    } while (0)

void cscp_ticket_draw(cscp_thread *t, const cscp_conn *c) {
    cscp_ticket *ticket = cscp_ticket_of(t, c);

    cscp_book_use(&t->cscp->book, t->index, c->slot);
    KEEP(ticket->cookie, 0);
    KEEP(ticket->stage, CSCP_STAGE_NEW);
    KEEP(ticket->unsent, 0);
    ticket->flags = 0;
    ticket->n_model = ticket->n_firmware = 0;
}

void cscp_ticket_tear(cscp_thread *t, const cscp_conn *c) {
    KEEP(cscp_ticket_of(t, c)->cookie, 0);
}

void cscp_ticket_hello(cscp_thread *t, const cscp_conn *c, const cscp_hello *hello) {
    cscp_ticket *ticket = cscp_ticket_of(t, c);
    const cscp_session *s = &c->session;
    char *name = t->names + (size_t)c->slot * CSCP_TLS_NAME_MAX;

    ticket->flags = (c->relayed ? CSCP_TICKET_RELAYED : 0u) | (s->again ? CSCP_TICKET_AGAIN : 0u) |
                    (hello->clock_ms != 0 ? CSCP_TICKET_HAS_CLOCK : 0u);
    ticket->serial = s->serial;
    ticket->order = atomic_fetch_add_explicit(&t->cscp->orders, 1, memory_order_relaxed);
    ticket->connected_at_ms = t->now.utc_ms;
    ticket->boot_id = hello->boot_id;
    ticket->clock_ahead_ms = hello->clock_ms - t->now.utc_ms;
    ticket->oldest_seq = hello->oldest_seq;
    ticket->last_seq = hello->last_seq;
    ticket->capacity = hello->capacity;
    ticket->capabilities = hello->capabilities;
    memcpy(ticket->digest, hello->digest, sizeof(ticket->digest));
    ticket->peer = c->peer;
    ticket->peer_port = c->peer_port;
    ticket->n_model = hello->n_model;
    ticket->n_firmware = hello->n_firmware;
    memcpy(ticket->model, hello->model, hello->n_model);
    memcpy(ticket->firmware, hello->firmware, hello->n_firmware);
    /* Most have none, and their names' pages stay untouched. */
    if (c->tls_name || name[0] != 0) {
        memset(name, 0, CSCP_TLS_NAME_MAX);
        if (c->tls_name)
            memcpy(name, c->tls_name, strlen(c->tls_name));
    }
    KEEP(ticket->acked, s->acked);
    KEEP(ticket->log_epoch, s->log_epoch);
    KEEP(ticket->epoch_seen, s->epoch_seen);
    KEEP(ticket->session_id, s->session_id);
    atomic_store_explicit(&ticket->stage, CSCP_STAGE_HELLO, memory_order_release);
}

void cscp_ticket_sending(cscp_thread *t, const cscp_conn *c, size_t n) {
    cscp_ticket *ticket = cscp_ticket_of(t, c);
    const cscp_session *s = &c->session;

    if (cscp_session_is_welcomed(s)) {
        /* Nothing of the new log is acknowledged before it is known to be the log. */
        if (atomic_load_explicit(&ticket->log_epoch, memory_order_relaxed) != s->log_epoch) {
            KEEP(ticket->acked, 0);
            KEEP(ticket->log_epoch, s->log_epoch);
        }
        KEEP(ticket->acked, s->acked);
        KEEP(ticket->epoch_seen, s->epoch_seen);
        KEEP(ticket->session_id, s->session_id);
        KEEP(ticket->stage, CSCP_STAGE_WELCOMED);
    }
    KEEP(ticket->unsent, (uint32_t)n);
}

void cscp_ticket_sent(cscp_thread *t, const cscp_conn *c) {
    const cscp_buffer *rest = c->rest;

    KEEP(cscp_ticket_of(t, c)->unsent, rest ? (uint32_t)(rest->end - rest->begin) : 0);
}
