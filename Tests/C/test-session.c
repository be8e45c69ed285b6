/* The session machine: by table, by every short sequence of inputs, and its finer points by
 * hand. */
#include "session-rig.h"

/* --- What each frame does in each state */

typedef enum verdict { DONE, UP, BEHIND, HELLO, TURN, UNKNOWN, PASS } verdict;

static size_t make_frame(uint8_t type, uint8_t *out) {
    uint8_t payload[CSCP_PAYLOAD_MAX] = {0};
    cscp_result result = {.status = 1, .body = payload};
    cscp_log_gap gap = {.log_epoch = 1, .from = 1, .to = 2};
    cscp_log_reset reset = {.old_epoch = 1, .new_epoch = 2, .seq = 1, .cause = 1};
    switch (type) {
    case CSCP_HELLO:
        return make_hello(out, 0, 0, 0);
    case CSCP_EVENT:
        return make_event(out, 1, 1);
    case CSCP_LOG_GAP:
        return cscp_write_log_gap(out, &gap);
    case CSCP_LOG_RESET:
        return cscp_write_log_reset(out, &reset);
    case CSCP_RESULT:
        return cscp_write_result(out, &result);
    case CSCP_STALE:
    case CSCP_PING:
    case CSCP_PONG:
        return cscp_write_u64(out, type, 99);
    default:
        return cscp_write_frame(out, type, payload, 64);
    }
}

static void every_frame_in_every_state_does_what_the_table_says(void) {
    static const struct {
        uint8_t type;
        verdict verdicts[CSCP_CLOSED]; /* await hello, await welcome, open, suspended,
                                           relayed */
    } table[] = {
        {CSCP_HELLO, {HELLO, TURN, TURN, TURN, TURN}},
        {CSCP_STALE, {TURN, TURN, BEHIND, DONE, PASS}},
        {CSCP_EVENT, {TURN, TURN, UP, DONE, PASS}},
        {CSCP_LOG_GAP, {TURN, TURN, UP, DONE, PASS}},
        {CSCP_LOG_RESET, {TURN, TURN, UP, DONE, PASS}},
        {CSCP_RESULT, {TURN, TURN, UP, DONE, PASS}},
        {CSCP_PING, {TURN, TURN, DONE, DONE, PASS}},
        {CSCP_PONG, {TURN, TURN, DONE, DONE, PASS}},
        {CSCP_WELCOME, {TURN, TURN, TURN, TURN, TURN}},
        {CSCP_BUSY, {TURN, TURN, TURN, TURN, TURN}},
        {CSCP_REDIRECT, {TURN, TURN, TURN, TURN, TURN}},
        {CSCP_REJECT, {TURN, TURN, TURN, TURN, TURN}},
        {CSCP_GOAWAY, {TURN, TURN, TURN, TURN, TURN}},
        {CSCP_SUPERSEDED, {TURN, TURN, TURN, TURN, TURN}},
        {CSCP_EVENT_ACK, {TURN, TURN, TURN, TURN, TURN}},
        {CSCP_COMMAND, {TURN, TURN, TURN, TURN, TURN}},
        {CSCP_TIME, {TURN, TURN, TURN, TURN, TURN}},
        {0x00, {UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN}},
        {0x7f, {UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN}},
        {0x80, {DONE, DONE, DONE, DONE, PASS}},
        {0xff, {DONE, DONE, DONE, DONE, PASS}},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        for (unsigned state = 0; state < CSCP_CLOSED; state++) {
            uint8_t bytes[CSCP_FRAME_MAX];
            size_t consumed;
            cscp_action action;
            watch w;
            enter(&w, (cscp_session_state)state);
            size_t n = make_frame(table[i].type, bytes);
            CHECK_EQ(cscp_session_read(&w.s, &w.config, bytes, n, &w.now, &action, &consumed), 1);
            CHECK_EQ(consumed, n);
            CHECK_EQ(action.type, table[i].type);
            CHECK_EQ(action.size, n);
            switch (table[i].verdicts[state]) {
            case DONE:
                CHECK_EQ(action.kind, CSCP_ACT_NONE);
                break;
            case UP:
                CHECK(action.kind >= CSCP_ACT_EVENT && action.kind <= CSCP_ACT_RESULT);
                break;
            case BEHIND:
                CHECK_EQ(action.kind, CSCP_ACT_BEHIND);
                break;
            case HELLO:
                CHECK_EQ(action.kind, CSCP_ACT_HELLO);
                break;
            case PASS:
                CHECK_EQ(action.kind, CSCP_ACT_PASS);
                break;
            case TURN:
                CHECK_EQ(action.kind, CSCP_ACT_CLOSE);
                CHECK_EQ(action.reason, CSCP_REASON_OUT_OF_TURN);
                break;
            case UNKNOWN:
                CHECK_EQ(action.kind, CSCP_ACT_CLOSE);
                CHECK_EQ(action.reason, CSCP_REASON_UNKNOWN_TYPE);
                break;
            }
        }
}

/* --- Every short sequence */

enum { DEPTH = 6 };

static void input_frame(watch *w, const uint8_t *bytes, size_t n) {
    watch_read(w, bytes, n);
}

#define FRAME(name, writing)                                                                   \
    static void name(watch *w) {                                                               \
        uint8_t bytes[CSCP_FRAME_MAX];                                                         \
        size_t n = writing;                                                                    \
        input_frame(w, bytes, n);                                                              \
    }

FRAME(hello, make_hello(bytes, 5, 2, 0))
FRAME(hello_from_ahead, make_hello(bytes, 0, 0, 7))
FRAME(event_next, make_event(bytes, w->s.log_epoch, w->s.next))
FRAME(event_again, make_event(bytes, w->s.log_epoch, w->s.resume_from))
FRAME(event_ahead, make_event(bytes, w->s.log_epoch, w->s.next + 1))
FRAME(gap, cscp_write_log_gap(bytes, &(cscp_log_gap){w->s.log_epoch, w->s.next, w->s.next + 2}))
FRAME(reset, cscp_write_log_reset(
                 bytes, &(cscp_log_reset){.new_epoch = w->s.log_epoch + 1, .seq = 1, .cause = 1}))
FRAME(reset_again, cscp_write_log_reset(bytes, &(cscp_log_reset){.new_epoch = w->s.log_epoch
                                                                                  ? w->s.log_epoch
                                                                                  : 1,
                                                                 .seq = 1, .cause = 1}))
FRAME(result, cscp_write_result(bytes, &(cscp_result){.status = 1, .body = bytes}))
FRAME(stale, cscp_write_u64(bytes, CSCP_STALE, w->s.owner_epoch + 1))
FRAME(ping, cscp_write_u64(bytes, CSCP_PING, 5))
FRAME(pong, cscp_write_u64(bytes, CSCP_PONG, w->s.ping_at_us))
FRAME(noise, (memcpy(bytes, "noise", 5), 5))

static void ack_one(watch *w) { watch_ack(w, w->s.log_epoch, w->s.acked + 1); }
static void ack_all(watch *w) { watch_ack(w, w->s.log_epoch, w->s.received); }
static void ack_too_much(watch *w) { watch_ack(w, w->s.log_epoch, w->s.received + 1); }
static void ack_old_log(watch *w) { watch_ack(w, w->s.log_epoch - 1, 1); }
static void welcome(watch *w) { watch_welcome(w, w->s.owner_epoch + 1); }
static void suspend(watch *w) { watch_suspend(w); }
static void relay(watch *w) { watch_relay(w, w->s.owner_epoch + 1); }
static void relayed_ack(watch *w) { watch_relayed_ack(w, w->s.log_epoch, w->s.last_seq); }
static void tick_t2(watch *w) { watch_tick(w, 500, false); }
static void tick_t3(watch *w) { watch_tick(w, 20000, false); }
static void tick_unread(watch *w) { watch_tick(w, 40000, true); }
static void write_all(watch *w) { watch_write(w, true); }
static void write_unfenced(watch *w) { watch_write(w, false); }

typedef void input_function(watch *w);
static input_function *const inputs[] = {
    hello, hello_from_ahead, event_next, event_again, event_ahead, gap, reset, reset_again, result,
    stale, ping, pong, noise, ack_one, ack_all, ack_too_much, ack_old_log, welcome, suspend,
    relay, relayed_ack,
    tick_t2, tick_t3, tick_unread, write_all, write_unfenced,
};
enum { N_INPUTS = sizeof(inputs) / sizeof(inputs[0]) };

static uint64_t n_sequences;

static void explore(const watch *before, int depth) {
    for (size_t i = 0; i < N_INPUTS; i++) {
        watch w = *before;
        inputs[i](&w);
        n_sequences++;
        if (depth > 1 && !w.closed) explore(&w, depth - 1);
    }
}

static void whatever_comes_the_laws_hold(void) {
    watch w;
    watch_init(&w);
    explore(&w, DEPTH); /* from the very beginning */
    enter(&w, CSCP_OPEN);
    explore(&w, DEPTH - 1); /* and deeper into a session */
    event_next(&w);
    event_next(&w);
    ack_one(&w);
    suspend(&w);
    welcome(&w);
    explore(&w, DEPTH - 1);
    printf("# %" PRIu64 " sequences\n", n_sequences);
}

/* --- By hand */

static void records_under_way_when_welcome_is_sent_again_are_not_held_against_it(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    enter(&w, CSCP_OPEN);
    w.config.window_k = 8;
    for (uint64_t seq = 1; seq <= 3; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    ack_one(&w);
    watch_suspend(&w);
    watch_welcome(&w, 2);
    CHECK_EQ(w.s.resume_from, 2);
    /* 4 and 5 were sent before it was read; then it begins again. */
    for (uint64_t seq = 4; seq <= 5; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    CHECK_EQ(w.passed, 1);
    for (uint64_t seq = 2; seq <= 10; seq++) {
        watch_read(&w, bytes, make_event(bytes, 1, seq));
        CHECK_EQ(w.passed, seq);
        watch_ack(&w, 1, seq);
        watch_write(&w, true);
    }
    CHECK(!w.closed);
    /* A window further on nothing from before can still be under way: the old strictness is
     * back. */
    watch_read(&w, bytes, make_event(bytes, 1, 12));
    CHECK(w.closed);
}

static void a_restart_that_looks_like_going_on_is_recognised_later(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    enter(&w, CSCP_OPEN);
    w.config.window_k = 8;
    watch_suspend(&w);
    watch_welcome(&w, 2);
    /* 1 and 2 were sent before WELCOME was read, and are what is expected: taken. Then again from
     * 1. */
    for (uint64_t seq = 1; seq <= 2; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    CHECK_EQ(w.passed, 2);
    for (uint64_t seq = 1; seq <= 4; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    CHECK_EQ(w.passed, 4);
    CHECK(!w.closed);
}

/* The acknowledgement crossed the records' second coming: a controller ignores what it is told of
 * records it has not sent since the WELCOME. */
static void what_is_sent_again_after_it_was_acknowledged_is_acknowledged_again(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    enter(&w, CSCP_OPEN);
    w.config.window_k = 8;
    watch_suspend(&w);
    watch_welcome(&w, 2);
    watch_write(&w, true);
    for (uint64_t seq = 1; seq <= 4; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    watch_ack(&w, 1, 4);
    watch_write(&w, true);
    CHECK_EQ(w.told, 4);
    for (uint64_t seq = 1; seq <= 3; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    CHECK_EQ(w.s.owe, 0);
    watch_read(&w, bytes, make_event(bytes, 1, 4));
    CHECK_EQ(w.s.owe, CSCP_OWE_ACK);
    watch_write(&w, true);
    CHECK_EQ(w.s.owe, 0);
}

/* It may have been spoilt half-way, or gone with another host: then the window would stay full. */
static void what_was_told_before_another_welcome_is_told_again(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    enter(&w, CSCP_OPEN);
    for (uint64_t seq = 1; seq <= 4; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    watch_ack(&w, 1, 4);
    watch_write(&w, true);
    CHECK_EQ(w.told, 4);
    watch_suspend(&w);
    watch_welcome(&w, 2);
    CHECK_EQ(w.s.owe, CSCP_OWE_WELCOME | CSCP_OWE_PING | CSCP_OWE_ACK); /* in this order */
    watch_write(&w, true);
    CHECK_EQ(w.s.owe, 0);
    enter(&w, CSCP_AWAIT_WELCOME);
    watch_welcome(&w, 1); /* the first: there is nothing to repeat */
    CHECK_EQ(w.s.owe, CSCP_OWE_WELCOME | CSCP_OWE_PING);
}

/* What must be known to go on elsewhere, or here, is known when the other host is gone. */
static void what_passes_is_remembered(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    enter(&w, CSCP_OPEN);
    for (uint64_t seq = 1; seq <= 4; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    watch_ack(&w, 1, 2);
    watch_write(&w, true);
    watch_ack(&w, 1, 3); /* not told */
    watch_suspend(&w);
    watch_relay(&w, 5);
    CHECK_EQ(w.s.ack_sent, 2);
    for (uint64_t seq = 3; seq <= 9; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    CHECK_EQ(w.s.last_seq, 9);
    watch_relayed_ack(&w, 1, 6);
    watch_relayed_ack(&w, 1, 5); /* old news */
    watch_relayed_ack(&w, 2, 8); /* of no log that we know */
    CHECK_EQ(w.s.acked, 6);
    CHECK_EQ(w.s.epoch_seen, 5);
    watch_read(&w, bytes, cscp_write_u64(bytes, CSCP_STALE, 9));
    CHECK_EQ(w.s.epoch_seen, 9);
    watch_suspend(&w);
    watch_tick(&w, CSCP_ASK_MS - 1, false);
    CHECK_EQ(w.s.owe, 0);
    watch_tick(&w, 1, false);
    CHECK_EQ(w.s.owe, CSCP_OWE_PING); /* it may have asked the other host, in vain */
    watch_write(&w, true);
    watch_tick(&w, 1, false);
    CHECK_EQ(w.s.owe, 0);
    watch_welcome(&w, 9);
    CHECK_EQ(w.s.resume_from, 7);
    watch_read(&w, bytes, make_event(bytes, 1, 10)); /* sent before it read that */
    CHECK_EQ(w.passed, 6);
    watch_read(&w, bytes, make_event(bytes, 1, 7));
    CHECK_EQ(w.passed, 7);
    watch_suspend(&w);
    watch_relay(&w, 10);
    watch_read(&w, bytes,
               cscp_write_log_reset(bytes, &(cscp_log_reset){.old_epoch = 1, .new_epoch = 3,
                                                             .seq = 1, .cause = 1}));
    CHECK_EQ(w.s.log_epoch, 3);
    CHECK_EQ(w.s.acked, 0);
    CHECK(w.s.oldest_seq == 1 && w.s.last_seq == 1);
    watch_relayed_ack(&w, 3, 1);
    watch_suspend(&w);
    watch_welcome(&w, 10);
    CHECK_EQ(w.s.resume_from, 2);
    CHECK(!w.closed);
}

static void welcome_from_elsewhere(watch *w) {
    enter(w, CSCP_AWAIT_WELCOME);
    w->s.again = true;
    watch_welcome(w, 1);
    watch_write(w, true);
}

static void who_was_welcomed_elsewhere_may_have_records_under_way(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    welcome_from_elsewhere(&w);
    watch_read(&w, bytes, make_event(bytes, 1, 7));
    CHECK_EQ(w.passed, 0);
    watch_read(&w, bytes, make_event(bytes, 1, 1));
    CHECK_EQ(w.passed, 1);
    CHECK(!w.closed);
}

/* Ranges moved on before the controller, on a busy machine, had answered: both answers begin with the same record. */
static void who_was_welcomed_elsewhere_may_have_that_answer_under_way(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    welcome_from_elsewhere(&w);
    for (int answers = 0; answers < 3; answers++)
        for (uint64_t seq = 1; seq <= 2; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    watch_read(&w, bytes, make_event(bytes, 1, 3));
    CHECK_EQ(w.passed, 3);
    CHECK(!w.closed);
}

/* Its window was wider there than it is here. */
static void who_was_welcomed_elsewhere_may_have_more_under_way_than_our_window(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    welcome_from_elsewhere(&w);
    CHECK_EQ(w.config.window_k, 4);
    for (uint64_t seq = 1; seq <= 300; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    CHECK_EQ(w.passed, 4);
    for (uint64_t seq = 1; seq <= 8; seq++) {
        watch_read(&w, bytes, make_event(bytes, 1, seq));
        watch_ack(&w, 1, seq < w.passed ? seq : w.passed);
        watch_write(&w, true);
    }
    CHECK_EQ(w.passed, 8);
    CHECK(!w.closed);
    /* But not without end: then it is what it looks like. */
    for (uint64_t seq = 9; seq <= 4000 && !w.closed; seq++)
        watch_read(&w, bytes, make_event(bytes, 1, seq));
    CHECK(w.closed);
}

static void a_gap_is_one_record_in_the_window(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    enter(&w, CSCP_OPEN);
    cscp_log_gap long_gap = {1, 1, 1000000};
    watch_read(&w, bytes, cscp_write_log_gap(bytes, &long_gap));
    CHECK_EQ(cscp_session_unacked(&w.s), 1);
    for (uint64_t seq = 1000001; seq <= 1000003; seq++)
        watch_read(&w, bytes, make_event(bytes, 1, seq));
    CHECK_EQ(cscp_session_unacked(&w.s), 4);
    CHECK(!w.closed);
    watch_ack(&w, 1, 1000000);
    CHECK_EQ(cscp_session_unacked(&w.s), 3);
    watch_read(&w, bytes, make_event(bytes, 1, 1000004)); /* not told yet: it cannot know */
    CHECK(w.closed);
}

static void gap_to_the_end_of_time_is_refused(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    enter(&w, CSCP_OPEN);
    cscp_log_gap endless = {1, 1, UINT64_MAX};
    watch_read(&w, bytes, cscp_write_log_gap(bytes, &endless));
    CHECK(w.closed);
}

static void acks_are_held_back_for_w_records_or_t2(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    enter(&w, CSCP_OPEN);
    w.config.window_k = 64;
    w.config.window_w = 16;
    for (uint64_t seq = 1; seq <= 40; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    watch_ack(&w, 1, 1);
    CHECK(w.s.owe & CSCP_OWE_ACK); /* the first of a session goes at once */
    watch_write(&w, true);
    CHECK_EQ(w.told, 1);
    watch_ack(&w, 1, 16);
    CHECK(!(w.s.owe & CSCP_OWE_ACK));
    watch_ack(&w, 1, 17);
    CHECK(w.s.owe & CSCP_OWE_ACK);
    watch_write(&w, true);
    CHECK_EQ(w.told, 17);
    watch_ack(&w, 1, 18);
    CHECK(!(w.s.owe & CSCP_OWE_ACK));
    CHECK(cscp_session_deadline(&w.s, &w.config, &w.now, true) <= w.now.boot_ms + w.config.t2_ms);
    watch_tick(&w, w.config.t2_ms - 1, false);
    CHECK(w.s.owe & CSCP_OWE_ACK); /* t2 is when the controller has it */
    watch_write(&w, true);
    CHECK_EQ(w.told, 18);
    CHECK(!(w.s.owe & CSCP_OWE_ACK));
}

static void a_full_window_is_told_early(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    enter(&w, CSCP_OPEN);
    w.config.window_k = 64;
    w.config.window_w = 16;
    watch_read(&w, bytes, make_event(bytes, 1, 1));
    watch_ack(&w, 1, 1);
    watch_write(&w, true);
    for (uint64_t seq = 2; seq <= 65; seq++) watch_read(&w, bytes, make_event(bytes, 1, seq));
    CHECK(!w.closed);
    watch_ack(&w, 1, 4);
    CHECK(!(w.s.owe & CSCP_OWE_ACK)); /* never record by record */
    watch_ack(&w, 1, 5);
    CHECK(w.s.owe & CSCP_OWE_ACK);
}

static void bytes_may_be_cut_anywhere(void) {
    uint8_t bytes[8192];
    size_t n = make_hello(bytes, 5, 2, 0);
    size_t n_hello = n;
    for (uint64_t seq = 3; seq <= 6; seq++) n += make_event(bytes + n, 1, seq);
    n += cscp_write_u64(bytes + n, CSCP_PING, 1);
    for (size_t cut = 0; cut <= n; cut++) {
        watch w;
        watch_init(&w);
        for (size_t used = 0, end = 0; end < n;) {
            end = end < cut ? cut : n;
            /* What follows HELLO is sent only after WELCOME. */
            size_t limit = w.n_welcomes == 0 && end > n_hello ? n_hello : end;
            used += watch_read(&w, bytes + used, limit - used);
            if (w.n_hellos == 1 && w.n_welcomes == 0) watch_welcome(&w, 1);
            used += watch_read(&w, bytes + used, end - used);
        }
        CHECK_EQ(w.passed, 6);
        CHECK(w.s.owe & CSCP_OWE_PONG);
    }
}

static void every_reason_has_its_farewell(void) {
    for (unsigned reason = 1; reason <= CSCP_REASON_MAX; reason++)
        for (unsigned state = 0; state < CSCP_CLOSED; state++) {
            uint8_t out[CSCP_FRAME_MAX];
            watch w;
            enter(&w, (cscp_session_state)state);
            size_t n = cscp_session_write_goodbye(&w.s, &w.config, (cscp_reason)reason, 5, out);
            bool welcomed = state >= CSCP_OPEN;
            uint8_t type = n > 0 ? out[3] : 0;
            if (reason == CSCP_REASON_PEER_CLOSED || reason == CSCP_REASON_CONNECTION_ERROR ||
                reason == CSCP_REASON_SLOW_READER || reason == CSCP_REASON_PING_TIMEOUT)
                CHECK_EQ(n, 0);
            else if (reason == CSCP_REASON_SUPERSEDED)
                CHECK_EQ(type, CSCP_SUPERSEDED);
            else if (welcomed)
                CHECK_EQ(type, CSCP_GOAWAY);
            else
                CHECK(type == CSCP_REJECT || type == CSCP_BUSY);
        }
}

int main(void) {
    RUN(every_frame_in_every_state_does_what_the_table_says);
    RUN(records_under_way_when_welcome_is_sent_again_are_not_held_against_it);
    RUN(a_restart_that_looks_like_going_on_is_recognised_later);
    RUN(what_is_sent_again_after_it_was_acknowledged_is_acknowledged_again);
    RUN(what_was_told_before_another_welcome_is_told_again);
    RUN(what_passes_is_remembered);
    RUN(who_was_welcomed_elsewhere_may_have_records_under_way);
    RUN(who_was_welcomed_elsewhere_may_have_that_answer_under_way);
    RUN(who_was_welcomed_elsewhere_may_have_more_under_way_than_our_window);
    RUN(a_gap_is_one_record_in_the_window);
    RUN(gap_to_the_end_of_time_is_refused);
    RUN(acks_are_held_back_for_w_records_or_t2);
    RUN(a_full_window_is_told_early);
    RUN(bytes_may_be_cut_anywhere);
    RUN(every_reason_has_its_farewell);
    RUN(whatever_comes_the_laws_hold);
    return 0;
}
