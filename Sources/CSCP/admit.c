/* From HELLO to WELCOME, and back when ownership is lost. */
#include <errno.h>
#include <string.h>

#include "thread.h"

/* A token bucket in one word: the instant at which the next handshake would be due at the full
 * rate. It may lie ahead of now by the burst. */
static bool take_handshake(struct cscp *cscp, const cscp_now *now) {
    uint64_t each_ns = 1000000000u / cscp->config.handshakes_per_second;
    uint64_t burst_ns = each_ns * cscp->config.handshake_burst;
    uint64_t now_ns = now->boot_us * 1000;
    uint64_t at = atomic_load_explicit(&cscp->handshake_at_ns, memory_order_relaxed);
    uint64_t next;

    do {
        next = (at > now_ns ? at : now_ns) + each_ns;
        if (next > now_ns + burst_ns)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&cscp->handshake_at_ns, &at, next,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void cscp_hello_received(cscp_thread *t, cscp_conn *c, const cscp_hello *hello) {
    if (t->stopping) {
        cscp_conn_end(t, c, CSCP_REASON_STOPPING, 0);
        return;
    }
    if (!take_handshake(t->cscp, &t->now)) {
        cscp_conn_end(t, c, CSCP_REASON_BUSY, 0);
        return;
    }
    /* Thread and number in the low bits over a random beginning: unique here, and never 0. */
    t->session_ids += 1u << 6;
    if ((t->session_ids | t->index) == 0)
        t->session_ids += 1u << 6;
    c->session.session_id = t->session_ids | t->index;
    cscp_ticket_hello(t, c, hello);
    cscp_want_output(t, c);
}

static void tell_behind(cscp_thread *t, cscp_conn *c, const cscp_range *range) {
    if (c->behind_told == range->epoch + 1)
        return;
    if (!cscp_up_has_room(t)) {
        cscp_stall(t, c);
        return;
    }
    c->behind_told = range->epoch + 1;
    cscp_up_session(t, c, CSCP_MSG_EPOCH_BEHIND, range->epoch);
}

/* True when no older session is in the way. */
static bool claim(cscp_thread *t, cscp_conn *c) {
    if (!c->claimed) {
        uint64_t older;
        int r = cscp_directory_claim(t->cscp->directory, c->session.serial,
                                     cscp_conn_handle(c, t->index), &older);

        if (r < 0) {
            cscp_conn_end(t, c, CSCP_REASON_BUSY, 0);
            return false;
        }
        c->claimed = true;
        if (older != 0)
            cscp_summon(t, c, older);
    }
    return !c->summoned;
}

static void welcome(cscp_thread *t, cscp_conn *c, const cscp_range *range) {
    uint64_t handle = cscp_conn_handle(c, t->index);

    if (cscp_directory_publish(t->cscp->directory, c->session.serial, handle) < 0) {
        cscp_conn_end(t, c, CSCP_REASON_SUPERSEDED, 0);
        return;
    }
    cscp_session_welcome(&c->session, t->config, range->epoch, &t->now);
    c->behind_told = 0;
    c->connected = true;
    c->greeted = true;
    c->connected_at_ms = t->now.utc_ms;
    atomic_store_explicit(&c->handle, handle, memory_order_release);
    CSCP_COUNT(t, handshakes, 1);
    CSCP_COUNT(t, sessions, 1);
    CSCP_COUNT(t, unacked, cscp_session_unacked(&c->session));
    cscp_up_session(t, c, CSCP_MSG_CONNECTED, range->epoch);
    cscp_rearm(t, c);
}

/* Where the serial is served, if that is elsewhere. What another node sent here stays here: two
 * nodes that each take the other for the owner must not send it round in circles. */
static const cscp_way *way_of(const cscp_thread *t, const cscp_conn *c) {
    return c->relayed ? NULL : cscp_ranges_find_way(t->ranges, c->session.serial);
}

void cscp_admit(cscp_thread *t, cscp_conn *c) {
    const cscp_range *range = cscp_ranges_find(t->ranges, c->session.serial);
    const cscp_way *way = range ? NULL : way_of(t, c);

    c->ranges_version = t->ranges_version;
    c->outside = !range && !way && c->session.state == CSCP_AWAIT_WELCOME && cscp_knows_ranges(t);
    if (way) {
        cscp_link_seek(t, c, way);
        return;
    }
    cscp_link_drop(t, c);
    if (c->outside && t->now.boot_ms >= c->session.since_ms + cscp_outside_hold_ms(t, c))
        cscp_conn_end(t, c, CSCP_REASON_NOT_OWNER, 0);
    if (c->session.state == CSCP_CLOSED)
        return;
    if (!range) { /* it may be ours (again) in a moment */
        if (!cscp_knows_ranges(t))
            cscp_await_ranges(t, c);
        return;
    }
    if (range->epoch < c->session.epoch_seen) {
        tell_behind(t, c, range);
        return;
    }
    if (!cscp_fence_is_open(t)) {
        if (!c->counted)
            CSCP_COUNT(t, fenced, 1);
        c->counted = true;
        cscp_stall(t, c);
        return;
    }
    if (!claim(t, c))
        return;
    if (!cscp_up_has_room(t)) {
        cscp_stall(t, c);
        return;
    }
    welcome(t, c, range);
}

/* A fenced frame of which a part has gone out must not become whole any more. */
static void spoil_rest(cscp_conn *c) {
    if (!c->rest || !c->rest_fenced)
        return;
    c->rest->bytes[c->rest->end - 1] ^= 0xff; /* of the payload's CRC */
    c->rest_fenced = false;
}

void cscp_suspend(cscp_thread *t, cscp_conn *c, cscp_reason reason) {
    cscp_session *s = &c->session;
    uint64_t handle = cscp_conn_handle(c, t->index);

    /* From now on under the next generation's handle; unless somebody newer is after it by this
     * one. */
    cscp_conn_next_generation(c);
    if (cscp_directory_retract(t->cscp->directory, s->serial, handle,
                               cscp_conn_handle(c, t->index)) < 0) {
        c->generation = cscp_handle_generation(handle);
        cscp_conn_end(t, c, CSCP_REASON_SUPERSEDED, 0);
        return;
    }
    spoil_rest(c);
    cscp_drop_commands(t, c);
    CSCP_COUNT(t, sessions, -1);
    CSCP_COUNT(t, unacked, -cscp_session_unacked(s));
    c->connected = false;
    atomic_store_explicit(&c->handle, 0, memory_order_release);
    cscp_up_disconnected(t, c, handle, reason);
    cscp_session_suspend(s, &t->now);
    cscp_rearm(t, c);
    cscp_want_output(t, c);
}

/* Without a range or a route it stays where it is: nobody knows better than its owner. */
static void reconsider_relayed(cscp_thread *t, cscp_conn *c) {
    const cscp_way *way;

    if (cscp_ranges_find(t->ranges, c->session.serial)) {
        cscp_link_drop(t, c);
        return;
    }
    way = way_of(t, c);
    /* One that is apart is sought again, and not found. */
    if (way && (cscp_relay_point(&c->link->relay, way, &t->now) || way->apart))
        cscp_link_lose(t, c, CSCP_LOST_MOVED);
}

void cscp_reconsider(cscp_thread *t, cscp_conn *c) {
    const cscp_range *range;

    c->ranges_version = t->ranges_version;
    switch ((cscp_session_state)c->session.state) {
    case CSCP_OPEN:
        range = cscp_ranges_find(t->ranges, c->session.serial);
        if (!range || range->epoch != c->session.owner_epoch)
            cscp_suspend(t, c, CSCP_REASON_NOT_OWNER);
        break;
    case CSCP_AWAIT_WELCOME:
    case CSCP_SUSPENDED:
        cscp_want_output(t, c);
        break;
    case CSCP_RELAYED:
        reconsider_relayed(t, c);
        break;
    default:
        break;
    }
}
