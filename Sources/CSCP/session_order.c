/* Records are taken strictly one after the other; see session.h about the one exception. The window
 * is counted in records, acknowledgements in seqs: a LOG_GAP is one record and many seqs, so the
 * surplus of the gaps inside the window is kept beside it (gap_excess). While such a gap is only
 * partly acknowledged the count is too low by a few; it errs for the controller. */
#include "session_order.h"

void cscp_order_begin(cscp_session *s, uint32_t log_epoch, uint64_t acked) {
    s->log_epoch = log_epoch;
    s->received = acked;
    s->acked = acked;
    s->ack_sent = acked;
    s->next = acked + 1;
    s->resume_from = acked + 1;
    s->gap_to = 0;
    s->gap_excess = 0;
    s->ack_due_ms = 0;
    s->owe &= (uint8_t)~CSCP_OWE_ACK;
}

/* How many records may have been under way when WELCOME was sent (again): another host's window may
 * be wider than ours. */
static uint16_t under_way(const cscp_session *s, const cscp_config *config) {
    return s->again ? CSCP_WINDOW_MAX : config->window_k;
}

void cscp_order_restart(cscp_session *s, const cscp_config *config, bool first) {
    s->received = s->acked;
    s->next = s->acked + 1;
    s->resume_from = s->acked + 1;
    if (s->gap_to > s->acked) {
        s->gap_to = 0;
        s->gap_excess = 0;
    }
    if (!first) {
        if (s->restarts < UINT8_MAX)
            s->restarts++;
        /* The answers to other hosts' WELCOMEs that come in after ours begin where ours is to begin, if nothing was
         * acknowledged in between. */
        if (s->again && s->restarts < CSCP_RESTARTS_AGAIN)
            s->restarts = CSCP_RESTARTS_AGAIN;
        s->strays_left = under_way(s, config);
    }
}

uint64_t cscp_session_unacked(const cscp_session *s) {
    uint64_t n = s->received - s->acked;

    if (s->gap_to <= s->acked)
        return n;
    return n > s->gap_excess ? n - s->gap_excess : 1;
}

/* Records the controller itself must count as unacknowledged, had it sent everything up to seq. */
static uint64_t in_window(const cscp_session *s, uint64_t seq) {
    uint64_t n = seq - s->ack_sent;

    if (s->gap_to <= s->ack_sent)
        return n;
    return n > s->gap_excess ? n - s->gap_excess : 1;
}

static cscp_order advance(cscp_session *s, const cscp_config *config, uint64_t from, uint64_t to) {
    bool is_new = to > s->received;

    if (is_new) {
        uint64_t gap_to = s->gap_to, gap_excess = s->gap_excess;

        if (to > from) {
            s->gap_excess = (gap_to > s->ack_sent ? gap_excess : 0) + (to - from);
            s->gap_to = to;
        }
        if (in_window(s, to) > config->window_k) {
            s->gap_to = gap_to;
            s->gap_excess = gap_excess;
            return CSCP_ORDER_EXCEEDED;
        }
        s->received = to;
    }
    /* Told before the controller had sent it again, that acknowledgement meant nothing to it. */
    if (!is_new && to == s->received && to == s->ack_sent)
        s->owe |= CSCP_OWE_ACK;
    s->next = to + 1;
    /* All that was sent before the newest WELCOME was read lies within a window of its
     * beginning. */
    if (s->restarts > 0 && to >= s->resume_from + under_way(s, config))
        s->restarts = 0;
    return is_new ? CSCP_ORDER_PASS : CSCP_ORDER_DROP;
}

/* Dropped if it may be one that was under way, else it is what it looks like. */
static cscp_order stray(cscp_session *s, cscp_order otherwise) {
    if (s->restarts == 0 || s->strays_left == 0)
        return otherwise;
    s->strays_left--;
    return CSCP_ORDER_DROP;
}

cscp_order cscp_order_record(cscp_session *s, const cscp_config *config, uint32_t log_epoch,
                             uint64_t from, uint64_t to) {
    if (to == UINT64_MAX || from > to)
        return CSCP_ORDER_BAD;
    if (log_epoch == s->log_epoch) {
        if (from == s->next) {
            cscp_order order = advance(s, config, from, to);

            /* Beyond our window, but perhaps not beyond the one it was sent in. */
            return order == CSCP_ORDER_EXCEEDED && s->again ? stray(s, order) : order;
        }
        if (s->restarts > 0 && from == s->resume_from) {
            s->restarts--;
            return advance(s, config, from, to);
        }
    }
    return stray(s, CSCP_ORDER_BAD);
}

cscp_order cscp_order_reset(cscp_session *s, const cscp_config *config, uint32_t new_epoch,
                            uint64_t seq) {
    if (seq != 1)
        return CSCP_ORDER_BAD;
    if (new_epoch == s->log_epoch)
        return cscp_order_record(s, config, new_epoch, 1, 1);
    if (new_epoch < s->log_epoch)
        return stray(s, CSCP_ORDER_BAD);
    cscp_order_skip(s, new_epoch);
    return advance(s, config, 1, 1);
}

void cscp_order_skip(cscp_session *s, uint32_t log_epoch) {
    /* Only a reset can tell us something here: WELCOME must name the newest log. */
    if (log_epoch <= s->log_epoch)
        return;
    cscp_order_begin(s, log_epoch, 0);
    s->oldest_seq = s->last_seq = 1; /* the reset itself */
}

void cscp_order_consider_ack(cscp_session *s, const cscp_config *config, const cscp_now *now) {
    uint64_t n = s->acked - s->ack_sent;
    uint64_t least = config->window_w / 4u;

    if (n == 0)
        return;
    /* The first after a WELCOME says that all is well again: nobody waits for that. */
    if (n >= config->window_w || s->ack_sent < s->resume_from) {
        s->owe |= CSCP_OWE_ACK;
        return;
    }
    /* A full window holds the controller up: tell it early, but never record by record. */
    if (n >= (least > 0 ? least : 1) && in_window(s, s->received) >= config->window_k) {
        s->owe |= CSCP_OWE_ACK;
        return;
    }
    /* t2 counts until the controller has it, so not all of it is spent here. */
    if (s->ack_due_ms == 0)
        s->ack_due_ms = now->boot_ms + config->t2_ms - config->t2_ms / 4;
}

bool cscp_session_ack(cscp_session *s, const cscp_config *config, uint32_t log_epoch, uint64_t seq,
                      const cscp_now *now) {
    if (s->state != CSCP_OPEN)
        return true;
    if (log_epoch != s->log_epoch)
        return log_epoch < s->log_epoch;
    if (seq > s->received)
        return false;
    if (seq <= s->acked)
        return true;
    s->acked = seq;
    cscp_order_consider_ack(s, config, now);
    return true;
}
