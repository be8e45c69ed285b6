#include "relay.h"

void cscp_relay_init(cscp_relay *r, const cscp_way *way, const cscp_now *now) {
    *r = (cscp_relay){
        .target = way->target,
        .epoch = way->epoch,
        .alive = way->alive,
        .at_ms = now->boot_ms,
        .since_ms = now->boot_ms,
    };
}

bool cscp_relay_point(cscp_relay *r, const cscp_way *way, const cscp_now *now) {
    bool elsewhere = !cscp_target_is(&r->target, &way->target);

    if (elsewhere || !way->alive)
        r->apart_ms = 0;
    r->alive = way->alive;
    if (!elsewhere && r->epoch == way->epoch)
        return false;
    r->target = way->target;
    r->epoch = way->epoch;
    if (r->state == CSCP_RELAY_IDLE) {
        r->at_ms = now->boot_ms;
        r->tries = 0;
        return false;
    }
    /* The same node under another epoch says WELCOME again by itself. */
    return elsewhere;
}

bool cscp_relay_is_due(const cscp_relay *r, uint64_t heard_at_ms, const cscp_now *now) {
    return r->state == CSCP_RELAY_IDLE && now->boot_ms >= r->at_ms &&
           (!r->silent || heard_at_ms >= r->since_ms);
}

void cscp_relay_connecting(cscp_relay *r, const cscp_config *config, const cscp_now *now) {
    r->state = CSCP_RELAY_CONNECTING;
    r->at_ms = now->boot_ms + config->relay_connect_timeout_ms;
    r->silent = false;
}

void cscp_relay_greeting(cscp_relay *r, bool again) {
    r->state = CSCP_RELAY_GREETING;
    r->apart_ms = 0;
    r->reconsidered = false;
    r->again = again;
    r->decoder = (cscp_decoder){0};
}

/* With jitter, or all that one node served would come to the next at the same moments. */
static uint64_t wait_ms(const cscp_relay *r, cscp_lost why, uint32_t random) {
    uint64_t most = CSCP_RELAY_RETRY_MAX_MS;

    if (r->tries < 6)
        most = (uint64_t)CSCP_RELAY_RETRY_MS << r->tries;
    if (why == CSCP_LOST_BUSY && most < CSCP_RELAY_RETRY_BUSY_MS)
        most = CSCP_RELAY_RETRY_BUSY_MS;
    if (most > CSCP_RELAY_RETRY_MAX_MS)
        most = CSCP_RELAY_RETRY_MAX_MS;
    return most / 2 + random % (most / 2 + 1);
}

void cscp_relay_lost(cscp_relay *r, cscp_lost why, uint64_t heard_at_ms, const cscp_config *config,
                     uint32_t random, const cscp_now *now) {
    bool attached = r->state == CSCP_RELAY_ATTACHED;

    if (attached && now->boot_ms >= r->since_ms + CSCP_RELAY_SETTLED_MS)
        r->tries = 0;
    r->silent = attached && why == CSCP_LOST_CLOSED && now->boot_ms >= heard_at_ms + config->t3_ms;
    r->state = CSCP_RELAY_IDLE;
    r->since_ms = now->boot_ms;
    if (r->alive && r->apart_ms == 0 && (why == CSCP_LOST_TIMEOUT || why == CSCP_LOST_REFUSED))
        r->apart_ms = now->boot_ms;
    if (why == CSCP_LOST_MOVED) {
        r->tries = 0;
        r->at_ms = now->boot_ms;
        return;
    }
    r->at_ms = now->boot_ms + wait_ms(r, why, random);
    if (r->tries < UINT8_MAX)
        r->tries++;
}

bool cscp_relay_is_apart(const cscp_relay *r, const cscp_config *config, const cscp_now *now) {
    return r->apart_ms != 0 && now->boot_ms >= r->apart_ms + config->relay_hold_ms;
}

bool cscp_relay_reconsider(cscp_relay *r, uint64_t reached_ms, const cscp_now *now) {
    if (r->reconsidered || reached_ms <= r->apart_ms)
        return false;
    r->reconsidered = true;
    r->apart_ms = now->boot_ms;
    return true;
}

uint64_t cscp_relay_deadline(const cscp_relay *r, const cscp_config *config) {
    uint64_t at_ms = UINT64_MAX;

    if (r->state == CSCP_RELAY_CONNECTING || (r->state == CSCP_RELAY_IDLE && !r->silent))
        at_ms = r->at_ms;
    if (r->apart_ms != 0 && r->apart_ms + config->relay_hold_ms < at_ms)
        at_ms = r->apart_ms + config->relay_hold_ms;
    return at_ms;
}

static void lose(cscp_relay_action *ret, cscp_lost why) {
    ret->kind = CSCP_RELAY_LOSE;
    ret->lost = (uint8_t)why;
}

static void end(cscp_relay_action *ret, cscp_reason reason, uint32_t spread_ms) {
    ret->kind = CSCP_RELAY_END;
    ret->reason = reason;
    ret->spread_ms = spread_ms;
}

static void on_welcome(cscp_relay *r, uint64_t epoch_seen, const cscp_frame *frame,
                       const cscp_now *now, cscp_relay_action *ret) {
    cscp_welcome *welcome = &ret->welcome;

    /* An epoch that the controller would refuse, HELLO has told the owner. */
    if (cscp_parse_welcome(frame->payload, frame->n_payload, welcome) < 0 ||
        welcome->owner_epoch < epoch_seen || welcome->owner_epoch == 0 ||
        welcome->resume_from == 0) {
        lose(ret, CSCP_LOST_FAULT);
        return;
    }
    if (r->state != CSCP_RELAY_ATTACHED)
        r->since_ms = now->boot_ms;
    r->state = CSCP_RELAY_ATTACHED;
    r->again = true;
    r->decoder.resyncs = 0;
    r->decoder.skipped = 0;
    ret->kind = CSCP_RELAY_WELCOME;
}

static void on_ack(const cscp_frame *frame, cscp_relay_action *ret) {
    if (cscp_parse_event_ack(frame->payload, frame->n_payload, &ret->ack) < 0)
        lose(ret, CSCP_LOST_FAULT);
    else
        ret->kind = CSCP_RELAY_ACK;
}

/* A reason of a later version says what all of them say: go. */
static cscp_reason known(uint32_t reason, cscp_reason otherwise) {
    return reason != CSCP_REASON_NONE && reason <= CSCP_REASON_MAX ? (cscp_reason)reason
                                                                   : otherwise;
}

static void on_goaway(const cscp_frame *frame, cscp_relay_action *ret) {
    cscp_pair pair;

    if (cscp_parse_goaway(frame->payload, frame->n_payload, &pair) < 0) {
        lose(ret, CSCP_LOST_FAULT);
        return;
    }
    switch (pair.a) {
    case CSCP_REASON_STOPPING:
    case CSCP_REASON_NOT_OWNER:
    case CSCP_REASON_BUSY:
    case CSCP_REASON_TOO_MANY_CONNECTIONS:
        lose(ret, CSCP_LOST_BUSY); /* about the owner */
        return;
    default:
        end(ret, known(pair.a, CSCP_REASON_STOPPING), pair.b);
        return;
    }
}

static void on_reject(const cscp_frame *frame, cscp_relay_action *ret) {
    cscp_reject reject;

    if (cscp_parse_reject(frame->payload, frame->n_payload, &reject) < 0) {
        lose(ret, CSCP_LOST_FAULT);
        return;
    }
    switch (reject.reason) {
    case CSCP_REASON_PROXY_REFUSED:
    case CSCP_REASON_PROXY_MALFORMED:
    case CSCP_REASON_HANDSHAKE_TIMEOUT:
        lose(ret, CSCP_LOST_BUSY); /* between the two nodes */
        return;
    default:
        end(ret, known(reject.reason, CSCP_REASON_BAD_HELLO), 0);
        return;
    }
}

static void judge(cscp_relay *r, uint64_t epoch_seen, const cscp_frame *frame, const cscp_now *now,
                  cscp_relay_action *ret) {
    bool attached = r->state == CSCP_RELAY_ATTACHED;

    ret->kind = CSCP_RELAY_PASS;
    switch (frame->type) {
    case CSCP_WELCOME:
        on_welcome(r, epoch_seen, frame, now, ret);
        return;
    case CSCP_EVENT_ACK:
        if (attached)
            on_ack(frame, ret);
        else
            lose(ret, CSCP_LOST_FAULT);
        return;
    case CSCP_COMMAND:
        if (!attached)
            lose(ret, CSCP_LOST_FAULT);
        return;
    case CSCP_PING:
    case CSCP_PONG:
    case CSCP_TIME:
        if (!attached && !r->again) /* nothing goes ahead of a controller's first WELCOME */
            lose(ret, CSCP_LOST_FAULT);
        return;
    case CSCP_BUSY:
    case CSCP_REDIRECT:
        lose(ret, CSCP_LOST_BUSY);
        return;
    case CSCP_REJECT:
        on_reject(frame, ret);
        return;
    case CSCP_GOAWAY:
        on_goaway(frame, ret);
        return;
    case CSCP_SUPERSEDED:
        end(ret, CSCP_REASON_SUPERSEDED, 0);
        return;
    default:
        if (!(frame->type & CSCP_TYPE_SKIPPABLE))
            lose(ret, CSCP_LOST_FAULT);
        else if (!attached)
            ret->kind = CSCP_RELAY_DROP;
        return;
    }
}

/* A frame broken off by a crash of the owner's process is forgiven, as controllers forgive it;
 * noise without end is not. */
static bool is_noise(const cscp_relay *r, const cscp_config *config) {
    uint32_t most = r->state == CSCP_RELAY_ATTACHED ? config->resyncs_max : 0;

    return r->decoder.resyncs > most || r->decoder.skipped > (uint64_t)most * CSCP_FRAME_MAX;
}

int cscp_relay_read(cscp_relay *r, const cscp_config *config, uint64_t epoch_seen,
                    const uint8_t *buf, size_t n, const cscp_now *now, cscp_relay_action *ret,
                    size_t *ret_consumed) {
    cscp_frame frame;
    int found = cscp_decode(&r->decoder, buf, n, &frame, ret_consumed);

    ret->size = 0;
    if (found < 0 || is_noise(r, config)) {
        lose(ret, CSCP_LOST_FAULT);
        return 1;
    }
    if (found == 0)
        return 0;
    ret->size = (uint16_t)(CSCP_HEADER_SIZE + frame.n_payload +
                           (frame.n_payload > 0 ? CSCP_TRAILER_SIZE : 0));
    judge(r, epoch_seen, &frame, now, ret);
    return 1;
}
