/* What controllers send. A connection is read into the thread's one buffer, behind the part of a
 * frame it had in hand, and no more than the ring has room for: so a frame that was read can always
 * be handed up, and a connection that cannot be served is simply not read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy.h"
#include "thread.h"

static void on_result(cscp_thread *t, cscp_conn *c, const cscp_result *result) {
    cscp_pending *command = c->lanes ? cscp_lanes_take_awaited(c->lanes, result->id) : NULL;

    if (!command) {
        CSCP_COUNT(t, results_unknown, 1);
        if (cscp_session_unknown_result(&c->session, t->config))
            cscp_conn_end(t, c, CSCP_REASON_UNKNOWN_RESULT, 0);
        return;
    }
    CSCP_COUNT(t, results, 1);
    cscp_directory_unreserve(t->cscp->directory, c->session.serial, command->handle, 0, 1);
    cscp_up_result(t, c, result);
    free(command);
    if (c->lanes->n_waiting > 0)
        cscp_want_output(t, c); /* the bulk window may have opened */
    else if (cscp_lanes_are_empty(c->lanes))
        c->lanes = cscp_lanes_free(c->lanes);
}

static void act(cscp_thread *t, cscp_conn *c, const cscp_action *action) {
    switch ((cscp_action_kind)action->kind) {
    case CSCP_ACT_NONE:
    case CSCP_ACT_PASS: /* of relayed ones, which are read in pass.c */
        break;
    case CSCP_ACT_HELLO:
        cscp_hello_received(t, c, &action->hello);
        break;
    case CSCP_ACT_EVENT:
        if (action->event.flags & CSCP_EVENT_ADVISORY)
            CSCP_COUNT(t, advisories, 1);
        else
            CSCP_COUNT(t, events, 1);
        cscp_up_event(t, c, &action->event);
        break;
    case CSCP_ACT_GAP:
        CSCP_COUNT(t, gaps, 1);
        cscp_up_gap(t, c, &action->gap);
        break;
    case CSCP_ACT_RESET:
        CSCP_COUNT(t, resets, 1);
        cscp_up_reset(t, c, &action->reset);
        break;
    case CSCP_ACT_RESULT:
        on_result(t, c, &action->result);
        break;
    case CSCP_ACT_BEHIND:
        cscp_suspend(t, c, CSCP_REASON_NOT_OWNER);
        break;
    case CSCP_ACT_CLOSE:
        cscp_conn_end(t, c, action->reason, t->config->busy_jitter_ms);
        break;
    }
}

/* Takes the frames out of bytes[0..n). Returns how much of it is used up. */
static size_t take_frames(cscp_thread *t, cscp_conn *c, const uint8_t *bytes, size_t n) {
    cscp_session *s = &c->session;
    uint64_t unacked = cscp_session_unacked(s);
    size_t used = 0, n_frames = 0;

    while (s->state != CSCP_CLOSED) {
        cscp_decoder before = s->decoder;
        cscp_action action;
        size_t consumed;
        int r = cscp_session_read(s, t->config, bytes + used, n - used, &t->now, &action,
                                  &consumed);

        used += consumed;
        /* Counted before it is acted on: ending or suspending the session takes off again what is
         * unacknowledged, and the slot may be another's afterwards. */
        if (s->decoder.skipped != before.skipped || s->decoder.resyncs != before.resyncs) {
            CSCP_COUNT(t, resyncs, s->decoder.resyncs - before.resyncs);
            CSCP_COUNT(t, bytes_skipped, s->decoder.skipped - before.skipped);
        }
        if (r == 0)
            break;
        n_frames += action.type != 0;
        if (c->connected) {
            uint64_t after = cscp_session_unacked(s);

            CSCP_COUNT(t, unacked, after - unacked);
            unacked = after;
        }
        act(t, c, &action);
    }
    CSCP_COUNT(t, frames_in, n_frames);
    return used;
}

/* What a load balancer, or a node that relays, says ahead of the controller. c->fresh stays true
 * while more of it may come; then c->n_preface of bytes[0..n) are it. */
static void take_preface(cscp_thread *t, cscp_conn *c, const uint8_t *bytes, size_t n) {
    const cscp_config *config = t->config;
    cscp_proxy proxy;
    size_t used = 0;
    int r = cscp_proxy_read(bytes, n, &proxy, &used);

    if (r != -ENOMSG && n >= CSCP_PROXY_SIGNATURE &&
        !cscp_networks_hold(config->trusted, config->n_trusted, &c->peer)) {
        CSCP_COUNT(t, proxies_refused, 1);
        cscp_conn_end(t, c, CSCP_REASON_PROXY_REFUSED, 0);
        return;
    }
    if (r == -EBADMSG) {
        CSCP_COUNT(t, proxies_refused, 1);
        cscp_conn_end(t, c, CSCP_REASON_PROXY_MALFORMED, 0);
        return;
    }
    if (r == 0)
        return;
    c->fresh = false;
    if (r == -ENOMSG)
        return;
    c->n_preface = (uint16_t)used;
    CSCP_COUNT(t, proxies_taken, 1);
    if (proxy.has_source) {
        c->peer = proxy.source;
        c->peer_port = proxy.source_port;
    }
    c->relayed = proxy.relayed;
    c->session.again = proxy.relayed && proxy.again;
    if (proxy.n_tls_name > 0)
        c->tls_name = strndup(proxy.tls_name, proxy.n_tls_name);
}

/* Keeps what is left of a frame for the next time. */
static void keep(cscp_thread *t, cscp_conn *c, const uint8_t *bytes, size_t n) {
    if (c->in && n <= c->in->size && n > 0) {
        memmove(c->in->bytes, bytes, n);
        c->in->end = (uint16_t)n;
        return;
    }
    c->in = cscp_pool_give_back(&t->pool, c->in);
    if (n == 0)
        return;
    c->in = cscp_pool_keep(&t->pool, bytes, n);
    if (!c->in)
        cscp_conn_end(t, c, CSCP_REASON_CONNECTION_ERROR, 0);
}

static void done_reading(cscp_conn *c) {
    cscp_list_remove(&c->ready);
}

static void read_error(cscp_thread *t, cscp_conn *c, ssize_t n) {
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (errno == EAGAIN)
            done_reading(c);
        return;
    }
    if (c->session.state == CSCP_CLOSED)
        cscp_conn_shut(t, c);
    else
        cscp_conn_end(t, c, n == 0 ? CSCP_REASON_PEER_CLOSED : CSCP_REASON_CONNECTION_ERROR, 0);
}

static void drop_input(cscp_thread *t, cscp_conn *c) {
    ssize_t n = recv(c->fd, t->read_buffer, CSCP_READ_MAX, 0);

    if (n <= 0)
        read_error(t, c, n);
    else if ((size_t)n < CSCP_READ_MAX && !c->hup)
        done_reading(c);
}

/* How much may be read; 0: the ring is full. */
static size_t allowance(cscp_thread *t, size_t n_in) {
    uint64_t needed = CSCP_RECORD_SLACK + (n_in + CSCP_READ_MAX) * CSCP_RECORD_GROWTH;
    uint64_t room = cscp_ring_room(&t->ring, CSCP_RECORD_MAX, needed);
    uint64_t bytes;

    if (room < CSCP_RECORD_SLACK)
        return 0;
    bytes = (room - CSCP_RECORD_SLACK) / CSCP_RECORD_GROWTH;
    if (bytes < n_in + CSCP_READ_MIN)
        return 0;
    return bytes - n_in < CSCP_READ_MAX ? (size_t)(bytes - n_in) : CSCP_READ_MAX;
}

/* HELLO, and what comes before it. It is looked at in the socket, and taken off once the ticket
 * says what it was: until then another process would find it there. */
static void input_hello(cscp_thread *t, cscp_conn *c) {
    size_t most = allowance(t, 0), used;
    ssize_t n;

    if (most == 0 || !cscp_list_is_empty(&t->owed)) {
        cscp_ring_filled(t);
        return;
    }
    n = recv(c->fd, t->read_buffer, most, MSG_PEEK);
    if (n <= 0) {
        read_error(t, c, n);
        return;
    }
    if (c->fresh)
        take_preface(t, c, t->read_buffer, (size_t)n);
    used = c->n_preface;
    if (!c->fresh && c->session.state == CSCP_AWAIT_HELLO) {
        c->session.decoder = (cscp_decoder){0};
        used += take_frames(t, c, t->read_buffer + used, (size_t)n - used);
    }
    if (c->session.state == CSCP_CLOSED)
        return;
    if (c->session.state == CSCP_AWAIT_HELLO) {
        if (c->hup)
            cscp_conn_end(t, c, CSCP_REASON_PEER_CLOSED, 0);
        else if ((size_t)n < most)
            done_reading(c);
        else if (most == CSCP_READ_MAX)
            cscp_conn_end(t, c, CSCP_REASON_OUT_OF_TURN, 0);
        else
            cscp_ring_filled(t);
        return;
    }
    /* What follows HELLO, if anything does, is read the next time. */
    CSCP_COUNT(t, bytes_in, used);
    if (used == (size_t)n && (size_t)n < most && !c->hup)
        done_reading(c);
    if (recv(c->fd, t->read_buffer, used, 0) != (ssize_t)used)
        cscp_conn_end(t, c, CSCP_REASON_CONNECTION_ERROR, 0);
}

void cscp_input(cscp_thread *t, cscp_conn *c) {
    size_t n_in, n_bytes, most, used;
    ssize_t n;

    if (c->session.state == CSCP_CLOSED) {
        drop_input(t, c);
        return;
    }
    if (c->session.state == CSCP_AWAIT_HELLO) {
        input_hello(t, c);
        return;
    }
    if (c->ranges_version != t->ranges_version) {
        cscp_reconsider(t, c);
        if (c->session.state == CSCP_CLOSED)
            return;
    }
    n_in = c->in ? c->in->end : 0;
    most = allowance(t, n_in);
    if (most == 0 || !cscp_list_is_empty(&t->owed)) {
        cscp_ring_filled(t);
        return;
    }
    n = recv(c->fd, t->read_buffer + n_in, most, 0);
    if (n <= 0) {
        read_error(t, c, n);
        return;
    }
    if (n_in > 0)
        memcpy(t->read_buffer, c->in->bytes, n_in);
    CSCP_COUNT(t, bytes_in, n);
    if ((size_t)n < most && !c->hup)
        done_reading(c);
    n_bytes = n_in + (size_t)n;
    used = take_frames(t, c, t->read_buffer, n_bytes);
    if (c->session.state == CSCP_CLOSED)
        return;
    keep(t, c, t->read_buffer + used, n_bytes - used);
    /* A relayed one that is without an owner may have waited for a sign of life; and who speaks is
     * welcomed before those who have nothing to say. */
    if (c->session.owe != 0 || (c->link && c->link->relay.silent) ||
        (c->session.state == CSCP_SUSPENDED && !cscp_knows_ranges(t)))
        cscp_want_output(t, c);
}
