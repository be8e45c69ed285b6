/* libFuzzer: bytes of an owner, cut anywhere, between everything else that happens to a relay. The
 * input is a list of steps; a step's first byte says what it is, its second how long it is. */
#include "check.h"
#include "../../Sources/CSCP/relay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t types[] = {CSCP_WELCOME, CSCP_EVENT_ACK, CSCP_COMMAND, CSCP_TIME, CSCP_PING,
                                CSCP_PONG, CSCP_BUSY, CSCP_REDIRECT, CSCP_REJECT, CSCP_GOAWAY,
                                CSCP_SUPERSEDED, CSCP_EVENT, 0x55, 0x99};

typedef struct watch {
    cscp_relay r;
    cscp_config config;
    cscp_now now;
    uint64_t epoch_seen, heard_at_ms;
    uint8_t buffer[1 << 16];
    size_t n;
} watch;

static void holds(const watch *w) {
    uint64_t deadline = cscp_relay_deadline(&w->r, &w->config);
    CHECK(w->r.state <= CSCP_RELAY_ATTACHED);
    /* Whoever waits will try again, unless the controller must speak first. */
    CHECK((deadline == UINT64_MAX) == (w->r.state >= CSCP_RELAY_GREETING || w->r.silent));
    CHECK(deadline == UINT64_MAX || w->r.state != CSCP_RELAY_IDLE ||
          deadline <= w->now.boot_ms + CSCP_RELAY_RETRY_MAX_MS);
    CHECK(w->r.apart_ms == 0 || (w->r.alive && w->r.state < CSCP_RELAY_GREETING));
    CHECK(!w->r.silent || w->r.state == CSCP_RELAY_IDLE);
}

static void lose(watch *w, cscp_lost why, uint32_t random) {
    if (w->r.state == CSCP_RELAY_IDLE) return;
    cscp_relay_lost(&w->r, why, w->heard_at_ms, &w->config, random, &w->now);
    w->n = 0;
}

/* False when the owner is lost, or all is over. */
static bool take(watch *w, const cscp_relay_action *action) {
    switch ((cscp_relay_act)action->kind) {
    case CSCP_RELAY_WELCOME:
        CHECK_EQ(w->r.state, CSCP_RELAY_ATTACHED);
        CHECK(action->welcome.owner_epoch >= w->epoch_seen && action->welcome.resume_from > 0);
        w->epoch_seen = action->welcome.owner_epoch;
        return true;
    case CSCP_RELAY_ACK:
        CHECK_EQ(w->r.state, CSCP_RELAY_ATTACHED);
        return true;
    case CSCP_RELAY_PASS:
        CHECK(w->r.state == CSCP_RELAY_ATTACHED || w->r.again);
        return true;
    case CSCP_RELAY_DROP:
        return true;
    case CSCP_RELAY_END:
        CHECK(action->reason != CSCP_REASON_NONE && action->reason <= CSCP_REASON_MAX);
        return false;
    case CSCP_RELAY_LOSE:
        lose(w, (cscp_lost)action->lost, 0);
        return true;
    }
    CHECK_EQ(action->kind, CSCP_RELAY_DROP); /* there are no others */
    return false;
}

static bool feed(watch *w, const uint8_t *bytes, size_t n) {
    if (w->r.state < CSCP_RELAY_GREETING || w->n + n > sizeof(w->buffer)) return true;
    memcpy(w->buffer + w->n, bytes, n);
    w->n += n;
    size_t used = 0, consumed;
    cscp_relay_action action;
    while (w->r.state >= CSCP_RELAY_GREETING) {
        int r = cscp_relay_read(&w->r, &w->config, w->epoch_seen, w->buffer + used, w->n - used,
                                &w->now, &action, &consumed);
        CHECK(consumed <= w->n - used);
        used += consumed;
        if (r == 0) {
            CHECK(w->n - used < CSCP_FRAME_MAX);
            memmove(w->buffer, w->buffer + used, w->n - used);
            w->n -= used;
            return true;
        }
        CHECK(action.size <= used);
        if (action.kind != CSCP_RELAY_LOSE && action.kind != CSCP_RELAY_END) { /* a whole frame */
            cscp_decoder decoder = {0};
            cscp_frame frame;
            CHECK_EQ(cscp_decode(&decoder, w->buffer + used - action.size, action.size, &frame,
                                 &consumed), 1);
            CHECK(consumed == action.size && decoder.resyncs == 0);
        }
        if (!take(w, &action)) return false;
    }
    return true;
}

static bool feed_frame(watch *w, uint8_t kind, const uint8_t *data, size_t n) {
    uint8_t frame[CSCP_FRAME_MAX], payload[160] = {0};
    cscp_welcome welcome = {.session_id = 1, .log_epoch = 1, .k = 1, .w = 1, .bulk_window = 1,
                            .owner_epoch = w->epoch_seen + (n > 0 ? data[0] % 3u : 0),
                            .resume_from = n > 1 ? data[1] : 1};
    if (kind % 3 == 0) return feed(w, frame, cscp_write_welcome(frame, &welcome));
    memcpy(payload, data, n < sizeof(payload) ? n : sizeof(payload));
    return feed(w, frame, cscp_write_frame(frame, types[kind / 3 % sizeof(types)], payload,
                                           n < sizeof(payload) ? n : sizeof(payload)));
}

static bool step(watch *w, uint8_t what, const uint8_t *data, size_t n) {
    cscp_way way = {.target.port = n > 0 ? data[0] % 2 + 1 : 1, .epoch = n > 1 ? data[1] : 1,
                    .alive = n > 2 && data[2] % 2};
    switch (what % 8) {
    case 0:
        return feed(w, data, n);
    case 1:
    case 2:
        return feed_frame(w, what / 8, data, n);
    case 3:
        if (cscp_relay_point(&w->r, &way, &w->now))
            lose(w, CSCP_LOST_MOVED, 0);
        return true;
    case 4:
        if (cscp_relay_is_due(&w->r, w->heard_at_ms, &w->now))
            cscp_relay_connecting(&w->r, &w->config, &w->now);
        else if (w->r.state == CSCP_RELAY_CONNECTING)
            cscp_relay_greeting(&w->r, what & 64);
        return true;
    case 5:
        lose(w, what / 8 % (CSCP_LOST_MOVED + 1), n > 0 ? data[0] * 0x01010101u : 0);
        return true;
    case 6:
        w->now.boot_ms += (uint64_t)what * what;
        return true;
    default:
        w->heard_at_ms = w->now.boot_ms;
        return true;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static watch w;
    w = (watch){.now = {.boot_ms = 1000000}, .heard_at_ms = 1000000};
    cscp_config_init(&w.config);
    cscp_relay_init(&w.r, &(cscp_way){.target.port = 1, .epoch = 1}, &w.now);
    while (size >= 2) {
        size_t n = data[1] < size - 2 ? data[1] : size - 2;
        if (!step(&w, data[0], data + 2, n)) return 0;
        holds(&w);
        data += 2 + n;
        size -= 2 + n;
    }
    return 0;
}
