/* What a session sends, and when: keep-alives, time, WELCOME and acknowledgements. */
#include "session.h"

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* A paused connection hears from us often enough not to lose patience. */
static uint64_t patience_ms(const cscp_config *config) {
    return earlier(config->t1_ms, config->t3_ms) / 2 + 1;
}

static cscp_reason tick_alive(cscp_session *s, const cscp_config *config, const cscp_now *now,
                              bool unread) {
    uint64_t ping_at_ms = s->ping_at_us / 1000;

    if (unread) {
        if (s->ping_at_us == 0 || now->boot_ms >= ping_at_ms + patience_ms(config))
            s->owe |= CSCP_OWE_PING;
        return CSCP_REASON_NONE;
    }
    if (s->ping_at_us != 0 && s->heard_at_ms < ping_at_ms) {
        if (now->boot_ms >= ping_at_ms + config->t1_ms)
            return CSCP_REASON_PING_TIMEOUT;
    } else if (now->boot_ms >= s->heard_at_ms + config->t3_ms)
        s->owe |= CSCP_OWE_PING;
    return CSCP_REASON_NONE;
}

cscp_reason cscp_session_tick(cscp_session *s, const cscp_config *config, const cscp_now *now,
                              bool unread) {
    switch ((cscp_session_state)s->state) {
    case CSCP_AWAIT_HELLO:
        if (!unread && now->boot_ms >= s->since_ms + config->handshake_timeout_ms)
            return CSCP_REASON_HANDSHAKE_TIMEOUT;
        return CSCP_REASON_NONE;
    case CSCP_AWAIT_WELCOME:
        if (now->boot_ms >= s->since_ms + config->hold_ms)
            return CSCP_REASON_NOT_OWNER;
        return CSCP_REASON_NONE;
    case CSCP_SUSPENDED:
        if (now->boot_ms >= s->since_ms + config->hold_ms)
            return CSCP_REASON_NOT_OWNER;
        if (s->ask && now->boot_ms >= s->since_ms + CSCP_ASK_MS) {
            s->ask = false;
            s->owe |= CSCP_OWE_PING;
        }
        return tick_alive(s, config, now, unread);
    case CSCP_OPEN:
        if (s->ack_due_ms != 0 && now->boot_ms >= s->ack_due_ms)
            s->owe |= CSCP_OWE_ACK;
        uint64_t offset = now->utc_ms - now->boot_ms;
        int64_t step = (int64_t)(offset - s->utc_offset_ms);
        bool tells = s->ping_at_us != 0 || s->owe & (CSCP_OWE_WELCOME | CSCP_OWE_TIME);
        if (!tells && (now->boot_ms >= s->time_due_ms || step > CSCP_CLOCK_STEP_MS ||
                       step < -CSCP_CLOCK_STEP_MS))
            s->owe |= CSCP_OWE_PING;
        return tick_alive(s, config, now, unread);
    case CSCP_RELAYED: /* the ends see to each other */
    case CSCP_CLOSED:
    case CSCP_SESSION_STATES:
        break;
    }
    return CSCP_REASON_NONE;
}

uint64_t cscp_session_deadline(const cscp_session *s, const cscp_config *config,
                               const cscp_now *now, bool unread) {
    uint64_t at;

    if (s->state == CSCP_AWAIT_WELCOME)
        return s->since_ms + config->hold_ms;
    if (s->state == CSCP_CLOSED || s->state == CSCP_RELAYED)
        return UINT64_MAX;
    if (unread)
        at = now->boot_ms + patience_ms(config);
    else if (s->state == CSCP_AWAIT_HELLO)
        at = s->since_ms + config->handshake_timeout_ms;
    else if (s->ping_at_us != 0 && s->heard_at_ms < s->ping_at_us / 1000)
        at = s->ping_at_us / 1000 + config->t1_ms;
    else
        at = s->heard_at_ms + config->t3_ms;
    if (s->state == CSCP_SUSPENDED)
        at = earlier(at, s->since_ms + (s->ask ? CSCP_ASK_MS : config->hold_ms));
    if (s->ack_due_ms != 0)
        at = earlier(at, s->ack_due_ms);
    return at;
}

static size_t write_welcome(const cscp_session *s, const cscp_config *config, const cscp_now *now,
                            uint8_t *out) {
    cscp_welcome welcome = {
        .session_id = s->session_id,
        .owner_epoch = s->owner_epoch,
        .log_epoch = s->log_epoch,
        .k = config->window_k,
        .w = config->window_w,
        .resume_from = s->resume_from,
        .host_time_ms = now->utc_ms,
        .t1_ms = config->t1_ms,
        .t2_ms = config->t2_ms,
        .t3_ms = config->t3_ms,
        .bulk_window = config->bulk_window,
        .flags = s->again ? CSCP_WELCOME_RESUMED : 0,
    };

    return cscp_write_welcome(out, &welcome);
}

size_t cscp_session_write(const cscp_session *s, const cscp_config *config, unsigned mask,
                          const cscp_now *now, uint8_t *out, unsigned *ret_owed) {
    unsigned owed = s->owe & mask;

    owed &= -owed; /* the lowest bit: the order in which they are declared */
    if (owed == 0)
        return 0;
    *ret_owed = owed;
    switch (owed) {
    case CSCP_OWE_WELCOME:
        return write_welcome(s, config, now, out);
    case CSCP_OWE_PONG:
        return cscp_write_u64(out, CSCP_PONG, s->pong_token);
    case CSCP_OWE_PING:
        return cscp_write_u64(out, CSCP_PING, now->boot_us);
    case CSCP_OWE_TIME: {
        cscp_time time = {
            .host_time_ms = now->utc_ms,
            .rtt_us = s->rtt_us,
            .token = s->rtt_token,
        };
        return cscp_write_time(out, &time);
    }
    case CSCP_OWE_ACK:
        return cscp_write_event_ack(out, s->log_epoch, s->acked);
    default:
        return cscp_write_goaway(out, (cscp_reason)s->goaway_reason, 0);
    }
}

void cscp_session_written(cscp_session *s, unsigned owed, const cscp_now *now) {
    s->owe &= (uint8_t)~owed;
    switch (owed) {
    case CSCP_OWE_WELCOME:
        s->utc_offset_ms = now->utc_ms - now->boot_ms;
        break;
    case CSCP_OWE_TIME:
        s->utc_offset_ms = now->utc_ms - now->boot_ms;
        s->time_due_ms = now->boot_ms + CSCP_TIME_INTERVAL_MS;
        break;
    case CSCP_OWE_PING:
        s->ping_at_us = now->boot_us;
        break;
    case CSCP_OWE_ACK:
        s->ack_sent = s->acked;
        s->ack_due_ms = 0;
        if (s->gap_to <= s->ack_sent) {
            s->gap_to = 0;
            s->gap_excess = 0;
        }
        break;
    default:
        break;
    }
}

size_t cscp_session_write_goodbye(const cscp_session *s, const cscp_config *config,
                                  cscp_reason reason, uint32_t spread_ms, uint8_t *out) {
    switch (reason) {
    case CSCP_REASON_PEER_CLOSED:
    case CSCP_REASON_CONNECTION_ERROR:
    case CSCP_REASON_SLOW_READER:
    case CSCP_REASON_PING_TIMEOUT:
        return 0;
    case CSCP_REASON_SUPERSEDED:
        return cscp_write_u64(out, CSCP_SUPERSEDED, s->session_id);
    case CSCP_REASON_BUSY:
    case CSCP_REASON_NOT_OWNER:
    case CSCP_REASON_TOO_MANY_CONNECTIONS:
    case CSCP_REASON_STOPPING:
        if (!cscp_session_is_welcomed(s))
            return cscp_write_busy(out, config->busy_retry_ms, config->busy_jitter_ms);
        break;
    case CSCP_REASON_OUT_OF_REACH:
        if (!cscp_session_is_welcomed(s))
            return cscp_write_busy(out, spread_ms / 2, spread_ms);
        break;
    default:
        if (!cscp_session_is_welcomed(s))
            return cscp_write_reject(out, reason, cscp_reason_name(reason));
        break;
    }
    return cscp_write_goaway(out, reason, spread_ms);
}
