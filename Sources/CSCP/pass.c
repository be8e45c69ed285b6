/* Passing frames on, both ways. See link.h. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "link.h"
#include "thread.h"

/* The frames of what was read that are to be passed on, moved together at the front of it. */
typedef struct run {
    uint8_t *bytes;
    size_t n, n_frames;
} run;

static void add(run *r, const uint8_t *frame, size_t n) {
    if (frame != r->bytes + r->n)
        memmove(r->bytes + r->n, frame, n);
    r->n += n;
    r->n_frames++;
}

static void wake(cscp_thread *t, cscp_link *link) {
    if (!cscp_list_is_linked(&link->ready))
        cscp_list_append(&t->links, &link->ready);
}

void cscp_link_owner_event(cscp_thread *t, cscp_conn *c, uint32_t events) {
    cscp_link *link = c->link;

    /* A hint only, perhaps about the socket before this one. */
    if (!link || link->fd < 0)
        return;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        link->hup = true;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        link->readable = true;
    if (events & EPOLLOUT)
        link->blocked = false;
    wake(t, link);
}

void cscp_link_heard(cscp_thread *t, cscp_conn *c) {
    c->link->heard = true;
    wake(t, c->link);
}

void cscp_link_drained(cscp_thread *t, cscp_conn *c) {
    cscp_link *link = c->link;

    if (link->ending)
        cscp_conn_end(t, c, (cscp_reason)link->end_reason, link->end_spread_ms);
    else if (link->readable)
        wake(t, link);
}

/* --- From the owner */

/* False when the connection has ended. */
static bool to_controller(cscp_thread *t, cscp_conn *c, const run *r) {
    ssize_t n;

    if (r->n == 0)
        return true;
    CSCP_COUNT(t, relay_frames_down, r->n_frames);
    CSCP_COUNT(t, relay_bytes_down, r->n);
    cscp_ticket_sending(t, c, r->n);
    n = send(c->fd, r->bytes, r->n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
        cscp_conn_end(t, c, CSCP_REASON_CONNECTION_ERROR, 0);
        return false;
    }
    if (n < 0)
        n = 0;
    if ((size_t)n == r->n) {
        cscp_ticket_sent(t, c);
        return true;
    }
    c->progress_ms = t->now.boot_ms;
    c->rest = cscp_pool_keep(&t->pool, r->bytes + n, r->n - (size_t)n);
    c->rest_fenced = false;
    c->rest_passed = true;
    if (!c->rest) {
        cscp_conn_end(t, c, CSCP_REASON_CONNECTION_ERROR, 0);
        return false;
    }
    cscp_ticket_sent(t, c);
    cscp_block(t, c);
    cscp_rearm(t, c);
    return true;
}

/* The session is the owner's from here on. */
static void welcomed(cscp_thread *t, cscp_conn *c, const cscp_welcome *welcome) {
    cscp_link *link = c->link;
    bool was_relayed = c->session.state == CSCP_RELAYED;

    cscp_session_relay(&c->session, welcome, &t->now);
    if (was_relayed)
        return;
    CSCP_COUNT(t, relay_attaches, 1);
    link->attaches++;
    link->since_utc_ms = t->now.utc_ms;
    c->outside = false;
    link->heard = cscp_list_is_linked(&c->ready);
    cscp_list_remove(&c->ready);
}

static size_t take_owners_frames(cscp_thread *t, cscp_conn *c, uint8_t *bytes, size_t n, run *run,
                                 cscp_relay_action *last) {
    size_t used = 0, consumed;

    while (cscp_relay_read(&c->link->relay, t->config, c->session.epoch_seen, bytes + used,
                           n - used, &t->now, last, &consumed) == 1) {
        used += consumed;
        switch ((cscp_relay_act)last->kind) {
        case CSCP_RELAY_END:
        case CSCP_RELAY_LOSE:
            return used;
        case CSCP_RELAY_DROP:
            continue;
        case CSCP_RELAY_WELCOME:
            welcomed(t, c, &last->welcome);
            break;
        case CSCP_RELAY_ACK:
            cscp_session_relayed_ack(&c->session, last->ack.log_epoch, last->ack.seq);
            break;
        case CSCP_RELAY_PASS:
            break;
        }
        add(run, bytes + used - last->size, last->size);
    }
    used += consumed;
    last->kind = CSCP_RELAY_DROP;
    return used;
}

/* The beginning of a frame waits in *in for the rest. False: no memory. */
static bool keep(cscp_thread *t, cscp_buffer **in, const uint8_t *bytes, size_t n) {
    *in = cscp_pool_give_back(&t->pool, *in);
    if (n > 0)
        *in = cscp_pool_keep(&t->pool, bytes, n);
    return n == 0 || *in;
}

/* The session is to end, as soon as the controller has all that comes before. */
static void end(cscp_thread *t, cscp_conn *c, const cscp_relay_action *last) {
    cscp_link *link = c->link;

    if (!c->rest) {
        cscp_conn_end(t, c, last->reason, last->spread_ms);
        return;
    }
    link->ending = true;
    link->end_reason = (uint8_t)last->reason;
    link->end_spread_ms = last->spread_ms;
}

static void read_owner(cscp_thread *t, cscp_conn *c) {
    cscp_link *link = c->link;
    uint8_t *bytes = t->read_buffer;
    size_t n_in = link->in ? link->in->end : 0;
    size_t most = t->config->relay_buffer - n_in, used;
    ssize_t n = recv(link->fd, bytes + n_in, most, 0);
    cscp_relay_action last;
    run r = {.bytes = bytes};

    if (n <= 0) {
        if (n < 0 && errno == EAGAIN)
            link->readable = false;
        else if (n == 0 || errno != EINTR)
            cscp_link_lose(t, c, CSCP_LOST_CLOSED);
        return;
    }
    if ((size_t)n < most && !link->hup)
        link->readable = false;
    if (n_in > 0)
        memcpy(bytes, link->in->bytes, n_in);
    n_in += (size_t)n;
    used = take_owners_frames(t, c, bytes, n_in, &r, &last);
    /* Before the front of the buffer is written over: what is left lies behind it. */
    if (!keep(t, &link->in, bytes + used, n_in - used)) {
        last.kind = CSCP_RELAY_LOSE;
        last.lost = CSCP_LOST_CLOSED;
    }
    if (!to_controller(t, c, &r))
        return;
    if (last.kind == CSCP_RELAY_END)
        end(t, c, &last);
    else if (last.kind == CSCP_RELAY_LOSE)
        cscp_link_lose(t, c, (cscp_lost)last.lost);
}

/* --- From the controller */

/* False when the owner is lost, or the connection has ended. */
static bool to_owner(cscp_thread *t, cscp_conn *c, const run *r) {
    cscp_link *link = c->link;
    ssize_t n;

    if (r->n == 0)
        return true;
    CSCP_COUNT(t, relay_frames_up, r->n_frames);
    CSCP_COUNT(t, relay_bytes_up, r->n);
    cscp_link_sent(t, c);
    n = send(link->fd, r->bytes, r->n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
        cscp_link_lose(t, c, CSCP_LOST_CLOSED);
        return false;
    }
    if (n < 0)
        n = 0;
    if ((size_t)n == r->n)
        return true;
    link->blocked = true;
    link->rest = cscp_pool_keep(&t->pool, r->bytes + n, r->n - (size_t)n);
    if (!link->rest) {
        cscp_link_lose(t, c, CSCP_LOST_CLOSED);
        return false;
    }
    return true;
}

/* False when the owner is lost. */
static bool flush(cscp_thread *t, cscp_conn *c) {
    cscp_link *link = c->link;
    cscp_buffer *rest = link->rest;
    ssize_t n;

    if (!rest || link->blocked)
        return true;
    n = send(link->fd, rest->bytes + rest->begin, (size_t)(rest->end - rest->begin),
             MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
        cscp_link_lose(t, c, CSCP_LOST_CLOSED);
        return false;
    }
    if (n > 0)
        rest->begin = (uint16_t)(rest->begin + n);
    if (rest->begin == rest->end)
        link->rest = cscp_pool_give_back(&t->pool, rest);
    else
        link->blocked = true;
    return true;
}

/* The controller has said all it had to say. The owner hears that, and may still answer. */
static void half_close(cscp_thread *t, cscp_conn *c) {
    cscp_link *link = c->link;

    link->heard = false;
    if (link->half_closed)
        return;
    link->half_closed = true;
    link->close_at_ms = t->now.boot_ms + t->config->t1_ms;
    cscp_rearm(t, c);
    if (!link->rest)
        shutdown(link->fd, SHUT_WR);
}

static void on_nothing(cscp_thread *t, cscp_conn *c, ssize_t n) {
    if (n == 0)
        half_close(t, c);
    else if (errno == EAGAIN)
        c->link->heard = false;
    else if (errno != EINTR)
        cscp_conn_end(t, c, CSCP_REASON_CONNECTION_ERROR, 0);
}

static size_t take_controllers_frames(cscp_thread *t, cscp_conn *c, uint8_t *bytes, size_t n,
                                      run *run, cscp_action *last) {
    cscp_session *s = &c->session;
    cscp_decoder before = s->decoder;
    size_t used = 0, consumed;

    while (cscp_session_read(s, t->config, bytes + used, n - used, &t->now, last, &consumed) == 1) {
        used += consumed;
        if (last->kind == CSCP_ACT_CLOSE)
            break;
        if (last->kind == CSCP_ACT_PASS)
            add(run, bytes + used - last->size, last->size);
    }
    if (last->kind != CSCP_ACT_CLOSE)
        used += consumed;
    CSCP_COUNT(t, resyncs, s->decoder.resyncs - before.resyncs);
    CSCP_COUNT(t, bytes_skipped, s->decoder.skipped - before.skipped);
    return used;
}

static void read_controller(cscp_thread *t, cscp_conn *c) {
    uint8_t *bytes = t->read_buffer;
    size_t n_in = c->in ? c->in->end : 0;
    size_t most = t->config->relay_buffer - n_in, used;
    ssize_t n = recv(c->fd, bytes + n_in, most, 0);
    run r = {.bytes = bytes};
    cscp_action last;

    if (n <= 0) {
        on_nothing(t, c, n);
        return;
    }
    if ((size_t)n < most && !c->hup)
        c->link->heard = false;
    if (n_in > 0)
        memcpy(bytes, c->in->bytes, n_in);
    n_in += (size_t)n;
    used = take_controllers_frames(t, c, bytes, n_in, &r, &last);
    if (!keep(t, &c->in, bytes + used, n_in - used)) {
        cscp_conn_end(t, c, CSCP_REASON_CONNECTION_ERROR, 0);
        return;
    }
    if (!to_owner(t, c, &r))
        return;
    if (last.kind == CSCP_ACT_CLOSE)
        cscp_conn_end(t, c, last.reason, t->config->busy_jitter_ms);
}

/* --- Both */

static bool may_read_owner(const cscp_conn *c) {
    return c->link->readable && !c->rest && !c->blocked && !c->link->ending;
}

static bool may_read_controller(const cscp_conn *c) {
    return c->link->heard && !c->link->rest && c->session.state == CSCP_RELAYED &&
           c->link->fd >= 0 && !c->link->ending;
}

void cscp_link_pass(cscp_thread *t, cscp_conn *c) {
    cscp_link *link = c->link;

    if (link->fd >= 0 && link->relay.state == CSCP_RELAY_CONNECTING)
        cscp_link_greet(t, c);
    if (c->link != link || link->fd < 0 || link->relay.state == CSCP_RELAY_CONNECTING)
        return;
    if (link->rest) {
        if (!flush(t, c))
            return;
        if (!link->rest && link->half_closed)
            shutdown(link->fd, SHUT_WR);
    }
    if (may_read_owner(c)) {
        read_owner(t, c);
        if (c->link != link || link->fd < 0)
            return;
    }
    if (may_read_controller(c)) {
        read_controller(t, c);
        if (c->link != link || link->fd < 0)
            return;
    }
    if (may_read_owner(c) || may_read_controller(c))
        wake(t, link);
}
