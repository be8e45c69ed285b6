/* A session machine under watch: whatever is done to it, what must always hold is checked. Used
 * with every short sequence of inputs and with the fuzzer's. */
#ifndef SESSION_WATCH_H
#define SESSION_WATCH_H

#include "check.h"
#include "../../Sources/CSCP/session.h"

typedef struct watch {
    cscp_session s;
    cscp_config config;
    cscp_now now;
    uint32_t log_epoch;   /* of what was handed up */
    uint64_t passed;      /* highest seq handed up since the newest welcome */
    uint64_t told;        /* highest acknowledged to the controller, of log_epoch */
    uint64_t epoch_told;  /* owner epoch of the newest WELCOME */
    unsigned n_hellos, n_welcomes;
    bool welcome_due;     /* before anything else */
    bool closed;
    bool gap_passed;      /* then the window may be a little wider */
    bool repeated;        /* the newest record came once more */
} watch;

static inline void watch_init(watch *w) {
    *w = (watch){.now = {.boot_us = 1000000000, .boot_ms = 1000000, .utc_ms = 1700000000000}};
    cscp_config_init(&w->config);
    w->config.window_k = 4;
    w->config.window_w = 2;
    cscp_session_init(&w->s, &w->now);
}

static inline void watch_holds(const watch *w) {
    const cscp_session *s = &w->s;
    CHECK(s->ack_sent <= s->acked && s->acked <= s->received);
    CHECK(s->next <= s->received + 1);
    CHECK(s->state < CSCP_SESSION_STATES);
    CHECK(!w->closed || (s->state == CSCP_CLOSED && s->owe == 0));
    CHECK(!(s->owe & CSCP_OWE_FENCED) || s->state == CSCP_OPEN);
    CHECK(s->ack_due_ms == 0 || s->state == CSCP_OPEN);
    if (s->state == CSCP_OPEN) {
        CHECK(cscp_session_unacked(s) <= w->config.window_k || w->gap_passed);
        CHECK(s->owner_epoch >= s->epoch_seen);
        CHECK(s->serial != 0 && s->serial != UINT64_MAX);
    }
    /* Something will happen, unless nothing more can. */
    CHECK((s->state == CSCP_CLOSED || s->state == CSCP_RELAYED) ==
          (cscp_session_deadline(s, &w->config, &w->now, false) == UINT64_MAX));
}

static inline void watch_close(watch *w) {
    cscp_session_close(&w->s);
    w->closed = true;
    watch_holds(w);
}

static inline void watch_record(watch *w, uint32_t log_epoch, uint64_t from, uint64_t to) {
    CHECK_EQ(w->s.state, CSCP_OPEN);
    CHECK_EQ(log_epoch, w->log_epoch);
    CHECK(from <= w->passed + 1 && to > w->passed); /* no hole, and nothing twice */
    w->passed = to;
}

static inline void watch_action(watch *w, const cscp_action *action) {
    switch ((cscp_action_kind)action->kind) {
    case CSCP_ACT_HELLO:
        CHECK_EQ(++w->n_hellos, 1);
        CHECK_EQ(w->s.state, CSCP_AWAIT_WELCOME);
        w->s.session_id = 1; /* the I/O thread gives it */
        w->log_epoch = w->s.log_epoch;
        w->passed = w->told = w->s.acked;
        break;
    case CSCP_ACT_EVENT:
        if (!(action->event.flags & CSCP_EVENT_ADVISORY))
            watch_record(w, action->event.log_epoch, action->event.seq, action->event.seq);
        break;
    case CSCP_ACT_GAP:
        w->gap_passed = true;
        watch_record(w, action->gap.log_epoch, action->gap.from, action->gap.to);
        break;
    case CSCP_ACT_RESET:
        if (action->reset.new_epoch != w->log_epoch) {
            CHECK(action->reset.new_epoch > w->log_epoch);
            w->log_epoch = action->reset.new_epoch;
            w->passed = w->told = 0;
        }
        watch_record(w, action->reset.new_epoch, 1, 1);
        break;
    case CSCP_ACT_RESULT:
        CHECK_EQ(w->s.state, CSCP_OPEN);
        if (cscp_session_unknown_result(&w->s, &w->config)) watch_close(w);
        break;
    case CSCP_ACT_BEHIND:
        CHECK_EQ(w->s.state, CSCP_OPEN);
        CHECK(w->s.epoch_seen > w->s.owner_epoch);
        cscp_session_suspend(&w->s, &w->now);
        break;
    case CSCP_ACT_CLOSE:
        CHECK(action->reason != CSCP_REASON_NONE && action->reason <= CSCP_REASON_MAX);
        watch_close(w);
        break;
    case CSCP_ACT_PASS:
        CHECK_EQ(w->s.state, CSCP_RELAYED);
        CHECK(action->size >= CSCP_HEADER_SIZE);
        break;
    case CSCP_ACT_NONE:
        if (w->s.state == CSCP_OPEN && w->s.next == w->s.received + 1 &&
            (action->type == CSCP_EVENT || action->type == CSCP_LOG_GAP ||
             action->type == CSCP_LOG_RESET))
            w->repeated = true;
        break;
    }
    /* A log that was lost while suspended, or relayed. */
    if ((w->s.state == CSCP_SUSPENDED || w->s.state == CSCP_RELAYED) &&
        w->s.log_epoch != w->log_epoch) {
        CHECK(w->s.log_epoch > w->log_epoch);
        w->log_epoch = w->s.log_epoch;
        w->passed = w->told = 0;
    }
}

/* Returns how much was used up. */
static inline size_t watch_read(watch *w, const uint8_t *bytes, size_t n) {
    size_t used = 0;
    for (;;) {
        cscp_action action;
        size_t consumed = SIZE_MAX;
        int r = cscp_session_read(&w->s, &w->config, bytes + used, n - used, &w->now, &action,
                                  &consumed);
        CHECK(r == 0 || r == 1);
        CHECK(consumed <= n - used);
        CHECK(!w->closed || (r == 0 && consumed == n - used)); /* no life after the end */
        used += consumed;
        if (r == 0) break;
        watch_action(w, &action);
        watch_holds(w);
    }
    CHECK(n - used < CSCP_FRAME_MAX);
    return used;
}

static inline void watch_welcome(watch *w, uint64_t owner_epoch) {
    if (w->s.state == CSCP_AWAIT_HELLO || w->s.state == CSCP_CLOSED) return;
    if (w->s.state == CSCP_OPEN || w->s.state == CSCP_RELAYED) cscp_session_suspend(&w->s, &w->now);
    if (owner_epoch < w->s.epoch_seen) owner_epoch = w->s.epoch_seen;
    cscp_session_welcome(&w->s, &w->config, owner_epoch, &w->now);
    w->n_welcomes++;
    if (w->n_welcomes > 1 || w->s.again) w->repeated = true;
    w->welcome_due = true;
    w->passed = w->s.acked;
    CHECK_EQ(w->s.resume_from, w->s.acked + 1);
    watch_holds(w);
}

static inline void watch_suspend(watch *w) {
    cscp_session_suspend(&w->s, &w->now);
    w->welcome_due = false;
    watch_holds(w);
}

/* Another host welcomes the controller. */
static inline void watch_relay(watch *w, uint64_t owner_epoch) {
    cscp_welcome welcome = {.session_id = 2, .owner_epoch = owner_epoch};
    if (w->s.state == CSCP_AWAIT_HELLO || w->s.state == CSCP_OPEN || w->closed) return;
    if (welcome.owner_epoch < w->s.epoch_seen) welcome.owner_epoch = w->s.epoch_seen;
    w->epoch_told = welcome.owner_epoch;
    w->welcome_due = false;
    cscp_session_relay(&w->s, &welcome, &w->now);
    CHECK(w->s.acked == w->s.ack_sent);
    watch_holds(w);
}

static inline void watch_relayed_ack(watch *w, uint32_t log_epoch, uint64_t seq) {
    uint64_t acked = w->s.acked;
    if (w->s.state != CSCP_RELAYED) return;
    cscp_session_relayed_ack(&w->s, log_epoch, seq);
    CHECK(w->s.acked >= acked);
    if (log_epoch == w->s.log_epoch && seq > w->told) w->told = seq;
    watch_holds(w);
}

static inline void watch_ack(watch *w, uint32_t log_epoch, uint64_t seq) {
    uint64_t acked = w->s.acked;
    bool sound = cscp_session_ack(&w->s, &w->config, log_epoch, seq, &w->now);
    CHECK(w->s.acked >= acked);
    if (w->s.state == CSCP_OPEN && log_epoch == w->s.log_epoch && seq > w->passed) {
        CHECK(!sound);
        CHECK_EQ(w->s.acked, acked);
    }
    watch_holds(w);
}

static inline void watch_tick(watch *w, uint64_t ms, bool unread) {
    w->now.boot_ms += ms;
    w->now.boot_us += ms * 1000;
    w->now.utc_ms += ms;
    if (cscp_session_tick(&w->s, &w->config, &w->now, unread) != CSCP_REASON_NONE) watch_close(w);
    watch_holds(w);
}

/* Writes all that is owed; the fence may be closed. */
static inline void watch_write(watch *w, bool fence) {
    unsigned mask = CSCP_OWE_PLAIN | (fence ? CSCP_OWE_FENCED : 0), owed, n = 0;
    uint8_t out[CSCP_WELCOME_FRAME];
    cscp_decoder decoder = {0};
    cscp_frame frame;
    size_t size, consumed;
    while ((size = cscp_session_write(&w->s, &w->config, mask, &w->now, out, &owed)) > 0) {
        CHECK(++n <= 6); /* bounded */
        CHECK(size <= sizeof(out));
        CHECK_EQ(cscp_decode(&decoder, out, size, &frame, &consumed), 1);
        CHECK_EQ(consumed, size);
        CHECK(!w->closed);
        if (frame.type == CSCP_WELCOME) {
            cscp_welcome welcome;
            CHECK_EQ(cscp_parse_welcome(frame.payload, frame.n_payload, &welcome), 0);
            CHECK(fence && w->welcome_due);
            CHECK_EQ(welcome.log_epoch, w->s.log_epoch);
            CHECK(welcome.owner_epoch >= w->epoch_told);
            w->epoch_told = welcome.owner_epoch;
            w->welcome_due = false;
        }
        if (frame.type == CSCP_EVENT_ACK) {
            cscp_event_ack_frame ack;
            CHECK_EQ(cscp_parse_event_ack(frame.payload, frame.n_payload, &ack), 0);
            CHECK(fence && !w->welcome_due);
            CHECK_EQ(ack.log_epoch, w->log_epoch);
            CHECK(ack.seq <= w->passed); /* never above what was received */
            CHECK(ack.seq >= w->told);
            CHECK(ack.seq > w->told || w->repeated); /* twice only to who sent it twice */
            w->repeated = false;
            w->told = ack.seq;
        }
        cscp_session_written(&w->s, owed, &w->now);
        watch_holds(w);
    }
}

#endif
