#include "session.h"

#include <errno.h>
#include <string.h>

#include "session_order.h"

/* What a frame is to the machine. */
typedef enum input {
    IN_HELLO,
    IN_STALE,
    IN_EVENT,
    IN_GAP,
    IN_RESET,
    IN_RESULT,
    IN_PING,
    IN_PONG,
    IN_HOSTS, /* known, but only a host may send it */
    IN_SKIP,  /* unknown, may be skipped */
    IN_UNKNOWN,
    INPUTS,
} input;

static input classify(uint8_t type) {
    switch (type) {
    case CSCP_HELLO:
        return IN_HELLO;
    case CSCP_STALE:
        return IN_STALE;
    case CSCP_EVENT:
        return IN_EVENT;
    case CSCP_LOG_GAP:
        return IN_GAP;
    case CSCP_LOG_RESET:
        return IN_RESET;
    case CSCP_RESULT:
        return IN_RESULT;
    case CSCP_PING:
        return IN_PING;
    case CSCP_PONG:
        return IN_PONG;
    case CSCP_WELCOME:
    case CSCP_BUSY:
    case CSCP_REDIRECT:
    case CSCP_REJECT:
    case CSCP_GOAWAY:
    case CSCP_SUPERSEDED:
    case CSCP_EVENT_ACK:
    case CSCP_COMMAND:
    case CSCP_TIME:
        return IN_HOSTS;
    default:
        return type & CSCP_TYPE_SKIPPABLE ? IN_SKIP : IN_UNKNOWN;
    }
}

/* Fills in the action; only its kind is preset (CSCP_ACT_NONE). */
typedef void handler(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                     const cscp_now *now, cscp_action *ret);

static void end(cscp_action *ret, cscp_reason reason) {
    ret->kind = CSCP_ACT_CLOSE;
    ret->reason = reason;
}

static void on_out_of_turn(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                           const cscp_now *now, cscp_action *ret) {
    (void)s, (void)config, (void)frame, (void)now;
    end(ret, CSCP_REASON_OUT_OF_TURN);
}

static void on_unknown(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                       const cscp_now *now, cscp_action *ret) {
    (void)s, (void)config, (void)frame, (void)now;
    end(ret, CSCP_REASON_UNKNOWN_TYPE);
}

static void on_skip(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                    const cscp_now *now, cscp_action *ret) {
    (void)s, (void)config, (void)frame, (void)now, (void)ret;
}

static bool serial_is_bad(const cscp_frame *frame) {
    uint64_t serial;

    if (cscp_parse_u64(frame->payload, frame->n_payload, &serial) < 0)
        return false;
    return serial == 0 || serial == UINT64_MAX;
}

static cscp_reason check_hello(const cscp_hello *hello) {
    if (hello->serial == 0 || hello->serial == UINT64_MAX)
        return CSCP_REASON_BAD_SERIAL;
    if (hello->version_min > CSCP_VERSION || hello->version_max < CSCP_VERSION)
        return CSCP_REASON_UNSUPPORTED_VERSION;
    if (hello->capacity == 0 || hello->last_seq == UINT64_MAX || hello->oldest_seq == 0 ||
        hello->oldest_seq > hello->last_seq + 1 || hello->acked_seq > hello->last_seq)
        return CSCP_REASON_BAD_HELLO;
    return CSCP_REASON_NONE;
}

static void on_hello(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                     const cscp_now *now, cscp_action *ret) {
    cscp_hello *hello = &ret->hello;
    cscp_reason reason;

    (void)config;
    if (cscp_parse_hello(frame->payload, frame->n_payload, hello) < 0) {
        end(ret, serial_is_bad(frame) ? CSCP_REASON_BAD_SERIAL : CSCP_REASON_BAD_HELLO);
        return;
    }
    reason = check_hello(hello);
    if (reason != CSCP_REASON_NONE) {
        end(ret, reason);
        return;
    }
    s->serial = hello->serial;
    s->epoch_seen = hello->owner_epoch_seen;
    s->capacity = hello->capacity;
    s->oldest_seq = hello->oldest_seq;
    s->last_seq = hello->last_seq;
    cscp_order_begin(s, hello->log_epoch, hello->acked_seq);
    s->state = CSCP_AWAIT_WELCOME;
    s->since_ms = now->boot_ms;
    ret->kind = CSCP_ACT_HELLO;
}

static void settle(cscp_action *ret, cscp_order order, cscp_action_kind kind) {
    switch (order) {
    case CSCP_ORDER_PASS:
        ret->kind = (uint8_t)kind;
        return;
    case CSCP_ORDER_DROP:
        return;
    case CSCP_ORDER_BAD:
        end(ret, CSCP_REASON_BAD_ORDER);
        return;
    case CSCP_ORDER_EXCEEDED:
        end(ret, CSCP_REASON_WINDOW_EXCEEDED);
        return;
    }
}

static void on_event(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                     const cscp_now *now, cscp_action *ret) {
    cscp_event *event = &ret->event;
    cscp_order order;

    if (cscp_parse_event(frame->payload, frame->n_payload, event) < 0) {
        end(ret, CSCP_REASON_BAD_PAYLOAD);
        return;
    }
    if (event->flags & CSCP_EVENT_ADVISORY) {
        ret->kind = CSCP_ACT_EVENT;
        return;
    }
    order = cscp_order_record(s, config, event->log_epoch, event->seq, event->seq);
    settle(ret, order, CSCP_ACT_EVENT);
    if (s->ack_due_ms != 0)
        cscp_order_consider_ack(s, config, now);
}

static void on_gap(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                   const cscp_now *now, cscp_action *ret) {
    cscp_log_gap *gap = &ret->gap;

    (void)now;
    if (cscp_parse_log_gap(frame->payload, frame->n_payload, gap) < 0) {
        end(ret, CSCP_REASON_BAD_PAYLOAD);
        return;
    }
    settle(ret, cscp_order_record(s, config, gap->log_epoch, gap->from, gap->to), CSCP_ACT_GAP);
}

static void on_reset(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                     const cscp_now *now, cscp_action *ret) {
    cscp_log_reset *reset = &ret->reset;

    (void)now;
    if (cscp_parse_log_reset(frame->payload, frame->n_payload, reset) < 0 ||
        reset->new_epoch <= reset->old_epoch) {
        end(ret, CSCP_REASON_BAD_PAYLOAD);
        return;
    }
    settle(ret, cscp_order_reset(s, config, reset->new_epoch, reset->seq), CSCP_ACT_RESET);
}

static void on_result(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                      const cscp_now *now, cscp_action *ret) {
    (void)s, (void)config, (void)now;
    if (cscp_parse_result(frame->payload, frame->n_payload, &ret->result) < 0)
        end(ret, CSCP_REASON_BAD_PAYLOAD);
    else
        ret->kind = CSCP_ACT_RESULT;
}

static void on_stale(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                     const cscp_now *now, cscp_action *ret) {
    uint64_t epoch;

    (void)config, (void)now;
    if (cscp_parse_u64(frame->payload, frame->n_payload, &epoch) < 0) {
        end(ret, CSCP_REASON_BAD_PAYLOAD);
        return;
    }
    /* One answers every frame that was too low: all but the highest are old news. */
    if (epoch <= s->owner_epoch || epoch <= s->epoch_seen)
        return;
    s->epoch_seen = epoch;
    if (s->state == CSCP_OPEN)
        ret->kind = CSCP_ACT_BEHIND;
}

static void on_ping(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                    const cscp_now *now, cscp_action *ret) {
    uint64_t token;

    (void)config, (void)now;
    if (cscp_parse_u64(frame->payload, frame->n_payload, &token) < 0) {
        end(ret, CSCP_REASON_BAD_PAYLOAD);
        return;
    }
    s->pong_token = token;
    s->owe |= CSCP_OWE_PONG;
}

static void on_pong(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                    const cscp_now *now, cscp_action *ret) {
    uint64_t token;

    (void)config;
    if (cscp_parse_u64(frame->payload, frame->n_payload, &token) < 0) {
        end(ret, CSCP_REASON_BAD_PAYLOAD);
        return;
    }
    if (token == 0 || token != s->ping_at_us || now->boot_us < token)
        return; /* late or invented; having heard it counts all the same */
    s->rtt_us = now->boot_us - token < UINT32_MAX ? (uint32_t)(now->boot_us - token) : UINT32_MAX;
    s->rtt_token = (uint32_t)token;
    s->ping_at_us = 0;
    s->owe |= CSCP_OWE_TIME;
}

/* A log that was lost meanwhile is the one thing worth knowing while nothing is taken. */
static void on_suspended_reset(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                               const cscp_now *now, cscp_action *ret) {
    cscp_log_reset reset;

    (void)config, (void)now;
    if (cscp_parse_log_reset(frame->payload, frame->n_payload, &reset) < 0)
        end(ret, CSCP_REASON_BAD_PAYLOAD);
    else
        cscp_order_skip(s, reset.new_epoch);
}

/* --- Relayed: what passes, and what is remembered of it */

static void pass(cscp_session *s, uint32_t log_epoch, uint64_t seq, cscp_action *ret) {
    if (log_epoch == s->log_epoch && seq > s->last_seq && seq != UINT64_MAX)
        s->last_seq = seq;
    ret->kind = CSCP_ACT_PASS;
}

static void on_relayed(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                       const cscp_now *now, cscp_action *ret) {
    (void)s, (void)config, (void)frame, (void)now;
    ret->kind = CSCP_ACT_PASS;
}

static void on_relayed_event(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                             const cscp_now *now, cscp_action *ret) {
    cscp_event event;

    (void)config, (void)now;
    if (cscp_parse_event(frame->payload, frame->n_payload, &event) < 0)
        end(ret, CSCP_REASON_BAD_PAYLOAD);
    else
        pass(s, event.log_epoch, event.flags & CSCP_EVENT_ADVISORY ? 0 : event.seq, ret);
}

static void on_relayed_gap(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                           const cscp_now *now, cscp_action *ret) {
    cscp_log_gap gap;

    (void)config, (void)now;
    if (cscp_parse_log_gap(frame->payload, frame->n_payload, &gap) < 0)
        end(ret, CSCP_REASON_BAD_PAYLOAD);
    else
        pass(s, gap.log_epoch, gap.to, ret);
}

static void on_relayed_reset(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                             const cscp_now *now, cscp_action *ret) {
    on_suspended_reset(s, config, frame, now, ret);
    if (ret->kind == CSCP_ACT_NONE)
        ret->kind = CSCP_ACT_PASS;
}

static void on_relayed_stale(cscp_session *s, const cscp_config *config, const cscp_frame *frame,
                             const cscp_now *now, cscp_action *ret) {
    uint64_t epoch;

    (void)config, (void)now;
    if (cscp_parse_u64(frame->payload, frame->n_payload, &epoch) < 0) {
        end(ret, CSCP_REASON_BAD_PAYLOAD);
        return;
    }
    if (epoch > s->epoch_seen)
        s->epoch_seen = epoch;
    ret->kind = CSCP_ACT_PASS;
}

static handler *const handlers[CSCP_CLOSED][INPUTS] = {
    /* clang-format off */
    [CSCP_AWAIT_HELLO] = {
        [IN_HELLO] = on_hello,        [IN_STALE] = on_out_of_turn,  [IN_EVENT] = on_out_of_turn,
        [IN_GAP] = on_out_of_turn,    [IN_RESET] = on_out_of_turn,  [IN_RESULT] = on_out_of_turn,
        [IN_PING] = on_out_of_turn,   [IN_PONG] = on_out_of_turn,   [IN_HOSTS] = on_out_of_turn,
        [IN_SKIP] = on_skip,          [IN_UNKNOWN] = on_unknown,
    },
    [CSCP_AWAIT_WELCOME] = {
        [IN_HELLO] = on_out_of_turn,  [IN_STALE] = on_out_of_turn,  [IN_EVENT] = on_out_of_turn,
        [IN_GAP] = on_out_of_turn,    [IN_RESET] = on_out_of_turn,  [IN_RESULT] = on_out_of_turn,
        [IN_PING] = on_out_of_turn,   [IN_PONG] = on_out_of_turn,   [IN_HOSTS] = on_out_of_turn,
        [IN_SKIP] = on_skip,          [IN_UNKNOWN] = on_unknown,
    },
    [CSCP_OPEN] = {
        [IN_HELLO] = on_out_of_turn,  [IN_STALE] = on_stale,        [IN_EVENT] = on_event,
        [IN_GAP] = on_gap,            [IN_RESET] = on_reset,        [IN_RESULT] = on_result,
        [IN_PING] = on_ping,          [IN_PONG] = on_pong,          [IN_HOSTS] = on_out_of_turn,
        [IN_SKIP] = on_skip,          [IN_UNKNOWN] = on_unknown,
    },
    [CSCP_SUSPENDED] = {
        [IN_HELLO] = on_out_of_turn,  [IN_STALE] = on_stale,        [IN_EVENT] = on_skip,
        [IN_GAP] = on_skip,           [IN_RESET] = on_suspended_reset, [IN_RESULT] = on_skip,
        [IN_PING] = on_ping,          [IN_PONG] = on_pong,          [IN_HOSTS] = on_out_of_turn,
        [IN_SKIP] = on_skip,          [IN_UNKNOWN] = on_unknown,
    },
    [CSCP_RELAYED] = {
        [IN_HELLO] = on_out_of_turn,  [IN_STALE] = on_relayed_stale, [IN_EVENT] = on_relayed_event,
        [IN_GAP] = on_relayed_gap,    [IN_RESET] = on_relayed_reset, [IN_RESULT] = on_relayed,
        [IN_PING] = on_relayed,       [IN_PONG] = on_relayed,       [IN_HOSTS] = on_out_of_turn,
        [IN_SKIP] = on_relayed,       [IN_UNKNOWN] = on_unknown,
    },
    /* clang-format on */
};

int cscp_session_read(cscp_session *s, const cscp_config *config, const uint8_t *buf, size_t n,
                      const cscp_now *now, cscp_action *ret_action, size_t *ret_consumed) {
    bool welcomed = cscp_session_is_welcomed(s);
    cscp_frame frame;
    int r;

    ret_action->kind = CSCP_ACT_NONE;
    ret_action->type = 0;
    ret_action->size = 0;
    ret_action->reason = CSCP_REASON_NONE;
    if (s->state == CSCP_CLOSED) {
        *ret_consumed = n;
        return 0;
    }
    r = cscp_decode(&s->decoder, buf, n, &frame, ret_consumed);
    if (s->decoder.resyncs > (welcomed ? config->resyncs_max : 0))
        end(ret_action, CSCP_REASON_OUT_OF_SYNC);
    else if (r == -EPROTONOSUPPORT)
        end(ret_action, CSCP_REASON_UNSUPPORTED_VERSION);
    else if (r < 0)
        end(ret_action, CSCP_REASON_FRAME_TOO_LARGE);
    else if (r == 0)
        return 0;
    else {
        s->heard_at_ms = now->boot_ms;
        ret_action->type = frame.type;
        ret_action->size = (uint16_t)(CSCP_HEADER_SIZE + frame.n_payload +
                                      (frame.n_payload > 0 ? CSCP_TRAILER_SIZE : 0));
        handlers[s->state][classify(frame.type)](s, config, &frame, now, ret_action);
    }
    return 1;
}

void cscp_session_init(cscp_session *s, const cscp_now *now) {
    *s = (cscp_session){
        .state = CSCP_AWAIT_HELLO,
        .since_ms = now->boot_ms,
        .heard_at_ms = now->boot_ms,
    };
}

void cscp_session_resume(cscp_session *s, bool welcomed, uint32_t log_epoch, uint64_t acked,
                         const cscp_now *now) {
    cscp_order_begin(s, log_epoch, acked);
    if (welcomed) {
        s->again = s->resumed = true;
        s->decoder.searching = true;
        s->owner_epoch = s->epoch_seen;
    }
    s->state = welcomed ? CSCP_SUSPENDED : CSCP_AWAIT_WELCOME;
    s->since_ms = now->boot_ms;
    s->heard_at_ms = now->boot_ms;
}

void cscp_session_welcome(cscp_session *s, const cscp_config *config, uint64_t owner_epoch,
                          const cscp_now *now) {
    bool first = s->state == CSCP_AWAIT_WELCOME && !s->again;

    s->owner_epoch = owner_epoch;
    if (owner_epoch > s->epoch_seen)
        s->epoch_seen = owner_epoch;
    cscp_order_restart(s, config, first);
    s->state = CSCP_OPEN;
    s->since_ms = now->boot_ms;
    s->owe |= CSCP_OWE_WELCOME | (s->resumed ? 0 : CSCP_OWE_PING);
    s->time_due_ms = now->boot_ms + (s->resumed ? CSCP_TIME_RESUMED_MS : CSCP_TIME_INTERVAL_MS);
    s->resumed = false;
    /* WELCOME says where to go on, not that the room may be used again. What the controller was told
     * before another WELCOME may have been lost on the way, or spoilt; a window that it takes for
     * full would never open. */
    if (s->acked > s->ack_sent || (!first && s->acked > 0))
        s->owe |= CSCP_OWE_ACK;
}

void cscp_session_relay(cscp_session *s, const cscp_welcome *welcome, const cscp_now *now) {
    s->again = true;
    s->session_id = welcome->session_id;
    s->owner_epoch = welcome->owner_epoch;
    if (welcome->owner_epoch > s->epoch_seen)
        s->epoch_seen = welcome->owner_epoch;
    /* What was received here and not acknowledged is the other host's to receive. */
    cscp_order_begin(s, s->log_epoch, s->ack_sent);
    s->ping_at_us = 0;
    s->owe &= (uint8_t)~CSCP_OWE_PING;
    s->state = CSCP_RELAYED;
    s->since_ms = now->boot_ms;
}

void cscp_session_relayed_ack(cscp_session *s, uint32_t log_epoch, uint64_t seq) {
    if (log_epoch == s->log_epoch && seq > s->acked)
        cscp_order_begin(s, log_epoch, seq);
}

void cscp_session_suspend(cscp_session *s, const cscp_now *now) {
    if (s->state != CSCP_OPEN && s->state != CSCP_RELAYED)
        return;
    s->ask = s->state == CSCP_RELAYED;
    s->state = CSCP_SUSPENDED;
    s->since_ms = now->boot_ms;
    s->ack_due_ms = 0;
    s->owe &= (uint8_t)~CSCP_OWE_FENCED;
}

void cscp_session_close(cscp_session *s) {
    s->state = CSCP_CLOSED;
    s->owe = 0;
    s->ack_due_ms = 0;
}

bool cscp_session_unknown_result(cscp_session *s, const cscp_config *config) {
    uint32_t most = CSCP_UNKNOWN_RESULTS_MAX;

    if (s->again)
        most += config->commands_max;
    return ++s->unknown_results > most;
}

void cscp_session_goaway(cscp_session *s, cscp_reason reason) {
    if (!cscp_session_is_welcomed(s))
        return;
    s->goaway_reason = (uint8_t)reason;
    s->owe |= CSCP_OWE_GOAWAY;
}
