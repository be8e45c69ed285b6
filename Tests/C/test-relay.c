/* The relay machine: by table, and its times by hand. */
#include "check.h"
#include "../../Sources/CSCP/relay.h"

typedef struct rig {
    cscp_relay r;
    cscp_config config;
    cscp_now now;
    uint64_t epoch_seen;
} rig;

static const cscp_target here = {.address = {.s6_addr = {[15] = 1}}, .port = 1};
static const cscp_target there = {.address = {.s6_addr = {[15] = 2}}, .port = 1};

static void pass(rig *g, uint64_t ms) {
    g->now.boot_ms += ms;
    g->now.boot_us += ms * 1000;
}

static rig begin(void) {
    rig g = {.now = {.boot_us = 1000000000, .boot_ms = 1000000}, .epoch_seen = 5};
    cscp_config_init(&g.config);
    cscp_relay_init(&g.r, &(cscp_way){.target = here, .epoch = 3}, &g.now);
    return g;
}

static bool point(rig *g, const cscp_target *target, uint64_t epoch, bool alive) {
    cscp_way way = {.target = *target, .epoch = epoch, .alive = alive};
    return cscp_relay_point(&g->r, &way, &g->now);
}

static cscp_relay_action read_bytes(rig *g, const uint8_t *bytes, size_t n, int expected) {
    cscp_relay_action action = {0};
    size_t consumed = SIZE_MAX;
    CHECK_EQ(cscp_relay_read(&g->r, &g->config, g->epoch_seen, bytes, n, &g->now, &action,
                             &consumed), expected);
    CHECK(consumed <= n);
    CHECK(action.size <= consumed);
    return action;
}

static cscp_relay_action say_welcome(rig *g, uint64_t epoch) {
    uint8_t bytes[CSCP_WELCOME_FRAME];
    cscp_welcome welcome = {.session_id = 1, .owner_epoch = epoch, .log_epoch = 1, .resume_from = 9,
                              .k = 1, .w = 1, .bulk_window = 1};
    return read_bytes(g, bytes, cscp_write_welcome(bytes, &welcome), 1);
}

typedef enum stage { GREETING, GREETING_AGAIN, ATTACHED, STAGES } stage;

static rig at(stage stage) {
    rig g = begin();
    cscp_relay_connecting(&g.r, &g.config, &g.now);
    cscp_relay_greeting(&g.r, stage == GREETING_AGAIN);
    if (stage == ATTACHED) CHECK_EQ(say_welcome(&g, 5).kind, CSCP_RELAY_WELCOME);
    return g;
}

/* --- What each frame of the owner does */

typedef enum verdict { DROP, PASS, WELCOME, ACK, END, BUSY, FAULT } verdict;

static size_t make(uint8_t type, uint32_t argument, uint8_t *out) {
    uint8_t payload[64] = {0};
    cscp_welcome welcome = {.session_id = 1, .owner_epoch = 5, .log_epoch = 1, .resume_from = 9,
                              .k = 1, .w = 1, .bulk_window = 1};
    cscp_command_frame command = {.owner_epoch = 5, .body = payload};
    cscp_time time = {0};
    switch (type) {
    case CSCP_WELCOME:
        return cscp_write_welcome(out, &welcome);
    case CSCP_BUSY:
        return cscp_write_busy(out, 1, 2);
    case CSCP_REJECT:
        return cscp_write_reject(out, (cscp_reason)argument, "why");
    case CSCP_GOAWAY:
        return cscp_write_goaway(out, (cscp_reason)argument, 77);
    case CSCP_EVENT_ACK:
        return cscp_write_event_ack(out, 1, 8);
    case CSCP_COMMAND:
        return cscp_write_command(out, &command);
    case CSCP_TIME:
        return cscp_write_time(out, &time);
    case CSCP_PING:
    case CSCP_PONG:
    case CSCP_SUPERSEDED:
    case CSCP_STALE:
        return cscp_write_u64(out, type, 1);
    default:
        return cscp_write_frame(out, type, payload, 64);
    }
}

static void every_frame_of_the_owner_does_what_the_table_says(void) {
    static const struct {
        uint8_t type;
        uint32_t argument;
        verdict verdicts[STAGES]; /* greeting, greeting one that was welcomed before, attached */
        uint32_t reason;
    } table[] = {
        {CSCP_WELCOME, 0, {WELCOME, WELCOME, WELCOME}, 0},
        {CSCP_EVENT_ACK, 0, {FAULT, FAULT, ACK}, 0},
        {CSCP_COMMAND, 0, {FAULT, FAULT, PASS}, 0},
        {CSCP_PING, 0, {FAULT, PASS, PASS}, 0},
        {CSCP_PONG, 0, {FAULT, PASS, PASS}, 0},
        {CSCP_TIME, 0, {FAULT, PASS, PASS}, 0},
        {CSCP_BUSY, 0, {BUSY, BUSY, BUSY}, 0},
        {CSCP_REDIRECT, 0, {BUSY, BUSY, BUSY}, 0},
        {CSCP_REJECT, CSCP_REASON_BAD_HELLO, {END, END, END}, CSCP_REASON_BAD_HELLO},
        {CSCP_REJECT, CSCP_REASON_PROXY_REFUSED, {BUSY, BUSY, BUSY}, 0},
        {CSCP_REJECT, CSCP_REASON_PROXY_MALFORMED, {BUSY, BUSY, BUSY}, 0},
        {CSCP_REJECT, CSCP_REASON_HANDSHAKE_TIMEOUT, {BUSY, BUSY, BUSY}, 0},
        {CSCP_REJECT, 999, {END, END, END}, CSCP_REASON_BAD_HELLO},
        {CSCP_REJECT, 0, {END, END, END}, CSCP_REASON_BAD_HELLO},
        {CSCP_GOAWAY, CSCP_REASON_STOPPING, {BUSY, BUSY, BUSY}, 0},
        {CSCP_GOAWAY, CSCP_REASON_NOT_OWNER, {BUSY, BUSY, BUSY}, 0},
        {CSCP_GOAWAY, CSCP_REASON_BUSY, {BUSY, BUSY, BUSY}, 0},
        {CSCP_GOAWAY, CSCP_REASON_TOO_MANY_CONNECTIONS, {BUSY, BUSY, BUSY}, 0},
        {CSCP_GOAWAY, CSCP_REASON_BAD_ORDER, {END, END, END}, CSCP_REASON_BAD_ORDER},
        {CSCP_GOAWAY, CSCP_REASON_SUPERSEDED, {END, END, END}, CSCP_REASON_SUPERSEDED},
        {CSCP_GOAWAY, 999, {END, END, END}, CSCP_REASON_STOPPING},
        {CSCP_SUPERSEDED, 0, {END, END, END}, CSCP_REASON_SUPERSEDED},
        {CSCP_HELLO, 0, {FAULT, FAULT, FAULT}, 0},
        {CSCP_EVENT, 0, {FAULT, FAULT, FAULT}, 0},
        {CSCP_LOG_GAP, 0, {FAULT, FAULT, FAULT}, 0},
        {CSCP_LOG_RESET, 0, {FAULT, FAULT, FAULT}, 0},
        {CSCP_RESULT, 0, {FAULT, FAULT, FAULT}, 0},
        {CSCP_STALE, 0, {FAULT, FAULT, FAULT}, 0},
        {0x00, 0, {FAULT, FAULT, FAULT}, 0},
        {0x7f, 0, {FAULT, FAULT, FAULT}, 0},
        {0x80, 0, {DROP, DROP, PASS}, 0},
        {0xff, 0, {DROP, DROP, PASS}, 0},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        for (unsigned stage = 0; stage < STAGES; stage++) {
            uint8_t bytes[CSCP_FRAME_MAX];
            rig g = at(stage);
            size_t n = make(table[i].type, table[i].argument, bytes);
            cscp_relay_action action = read_bytes(&g, bytes, n, 1);
            CHECK_EQ(action.size, n);
            switch (table[i].verdicts[stage]) {
            case DROP:
                CHECK_EQ(action.kind, CSCP_RELAY_DROP);
                break;
            case PASS:
                CHECK_EQ(action.kind, CSCP_RELAY_PASS);
                break;
            case WELCOME:
                CHECK_EQ(action.kind, CSCP_RELAY_WELCOME);
                CHECK(g.r.state == CSCP_RELAY_ATTACHED && action.welcome.resume_from == 9);
                break;
            case ACK:
                CHECK_EQ(action.kind, CSCP_RELAY_ACK);
                CHECK(action.ack.log_epoch == 1 && action.ack.seq == 8);
                break;
            case END:
                CHECK_EQ(action.kind, CSCP_RELAY_END);
                CHECK_EQ(action.reason, table[i].reason);
                CHECK_EQ(action.spread_ms, table[i].type == CSCP_GOAWAY ? 77 : 0);
                break;
            case BUSY:
            case FAULT:
                CHECK_EQ(action.kind, CSCP_RELAY_LOSE);
                CHECK_EQ(action.lost, table[i].verdicts[stage] == BUSY ? CSCP_LOST_BUSY
                                                                       : CSCP_LOST_FAULT);
                break;
            }
            /* With too short a payload it is the owner's fault, whatever it was to be. */
            if (table[i].verdicts[stage] == PASS || table[i].verdicts[stage] == DROP ||
                table[i].type == CSCP_BUSY || table[i].type == CSCP_REDIRECT ||
                table[i].type == CSCP_SUPERSEDED)
                continue;
            g = at(stage);
            n = cscp_write_frame(bytes, table[i].type, NULL, 0);
            action = read_bytes(&g, bytes, n, 1);
            CHECK(action.kind == CSCP_RELAY_LOSE && action.lost == CSCP_LOST_FAULT);
        }
}

static void a_welcome_the_controller_would_refuse_is_the_owners_fault(void) {
    rig g = at(GREETING);
    CHECK_EQ(say_welcome(&g, 4).kind, CSCP_RELAY_LOSE);
    g = at(ATTACHED);
    CHECK_EQ(say_welcome(&g, 4).kind, CSCP_RELAY_LOSE);
    g = at(GREETING);
    g.epoch_seen = 0;
    CHECK_EQ(say_welcome(&g, 0).kind, CSCP_RELAY_LOSE);
    g = at(ATTACHED);
    CHECK_EQ(say_welcome(&g, 6).kind, CSCP_RELAY_WELCOME); /* another epoch, the same owner */
}

static void broken_frames_do_not_pass_and_too_many_are_a_fault(void) {
    rig g = at(ATTACHED);
    uint8_t bytes[CSCP_FRAME_MAX];
    for (uint32_t i = 0; i < g.config.resyncs_max; i++) {
        size_t n = cscp_write_u64(bytes, CSCP_PING, 1);
        bytes[n - 1] ^= 1; /* spoilt */
        n += cscp_write_u64(bytes + n, CSCP_PONG, 2);
        cscp_relay_action action = read_bytes(&g, bytes, n, 1);
        CHECK(action.kind == CSCP_RELAY_PASS && action.size == CSCP_U64_FRAME);
    }
    CHECK_EQ(say_welcome(&g, 6).kind, CSCP_RELAY_WELCOME); /* a new beginning */
    for (uint32_t i = 0; i < g.config.resyncs_max; i++) {
        size_t n = cscp_write_u64(bytes + 1, CSCP_PONG, 2) + 1;
        bytes[0] = 'x';
        CHECK_EQ(read_bytes(&g, bytes, n, 1).kind, CSCP_RELAY_PASS);
    }
    bytes[0] = 'x';
    CHECK_EQ(read_bytes(&g, bytes, 1, 1).lost, CSCP_LOST_FAULT);
    g = at(ATTACHED); /* a search without end is one */
    static uint8_t noise[CSCP_FRAME_MAX];
    for (uint32_t i = 0; i < g.config.resyncs_max; i++) read_bytes(&g, noise, sizeof(noise), 0);
    CHECK_EQ(read_bytes(&g, noise, 1, 1).lost, CSCP_LOST_FAULT);
    g = at(GREETING); /* nothing is broken off before the first frame */
    CHECK_EQ(read_bytes(&g, noise, 1, 1).lost, CSCP_LOST_FAULT);
    g = at(ATTACHED);
    size_t n = cscp_write_u64(bytes, CSCP_PONG, 2);
    for (size_t cut = 0; cut < n; cut++) read_bytes(&g, bytes, cut, 0);
}

/* --- When it is tried */

static void lose(rig *g, cscp_lost why, uint32_t random) {
    cscp_relay_lost(&g->r, why, g->now.boot_ms, &g->config, random, &g->now);
}

static bool due(const rig *g) { return cscp_relay_is_due(&g->r, g->now.boot_ms, &g->now); }

static void tries_come_further_apart_and_never_in_step(void) {
    rig g = begin();
    CHECK(due(&g)); /* at once, the first time */
    uint64_t most = CSCP_RELAY_RETRY_MS;
    for (int i = 0; i < 300; i++) {
        uint64_t seen[2] = {0};
        for (uint32_t random = 0; random < 2; random++) {
            rig h = g;
            cscp_relay_connecting(&h.r, &h.config, &h.now);
            CHECK(!due(&h));
            CHECK_EQ(cscp_relay_deadline(&h.r, &h.config), h.now.boot_ms + h.config.relay_connect_timeout_ms);
            lose(&h, CSCP_LOST_REFUSED, random * (uint32_t)(most / 2));
            CHECK(!due(&h));
            seen[random] = cscp_relay_deadline(&h.r, &h.config) - h.now.boot_ms;
            pass(&h, seen[random]);
            CHECK(due(&h));
            if (random) g = h;
        }
        CHECK_EQ(seen[0], most / 2);
        CHECK_EQ(seen[1], most);
        most = most * 2 < CSCP_RELAY_RETRY_MAX_MS ? most * 2 : CSCP_RELAY_RETRY_MAX_MS;
    }
    CHECK_EQ(most, CSCP_RELAY_RETRY_MAX_MS);
    /* An owner that held for a while is not the one that failed. */
    cscp_relay_connecting(&g.r, &g.config, &g.now);
    cscp_relay_greeting(&g.r, true);
    say_welcome(&g, 9);
    rig flapping = g;
    lose(&flapping, CSCP_LOST_CLOSED, 0);
    CHECK_EQ(cscp_relay_deadline(&flapping.r, &flapping.config), g.now.boot_ms + CSCP_RELAY_RETRY_MAX_MS / 2);
    pass(&g, CSCP_RELAY_SETTLED_MS);
    lose(&g, CSCP_LOST_CLOSED, 0);
    CHECK_EQ(cscp_relay_deadline(&g.r, &g.config), g.now.boot_ms + CSCP_RELAY_RETRY_MS / 2);
}

static void an_owner_that_is_busy_is_left_alone_for_longer(void) {
    rig g = at(GREETING);
    lose(&g, CSCP_LOST_BUSY, 0);
    CHECK_EQ(cscp_relay_deadline(&g.r, &g.config), g.now.boot_ms + CSCP_RELAY_RETRY_BUSY_MS / 2);
}

static void a_route_that_changes_is_tried_at_once(void) {
    rig g = begin();
    for (int i = 0; i < 9; i++) {
        cscp_relay_connecting(&g.r, &g.config, &g.now);
        lose(&g, CSCP_LOST_REFUSED, 0);
    }
    CHECK(!point(&g, &here, 3, true)); /* the same: nothing new */
    CHECK(!due(&g));
    CHECK(!point(&g, &here, 4, true));
    CHECK(due(&g));
    cscp_relay_connecting(&g.r, &g.config, &g.now);
    CHECK(!point(&g, &here, 5, true)); /* that is where we go */
    CHECK(point(&g, &there, 5, true));
    lose(&g, CSCP_LOST_MOVED, 9999);
    CHECK(due(&g));
    g = at(ATTACHED);
    CHECK(!point(&g, &here, 9, true)); /* it says WELCOME again by itself */
    CHECK(point(&g, &there, 9, true));
    CHECK_EQ(cscp_relay_deadline(&g.r, &g.config), UINT64_MAX);
}

static bool apart(const rig *g) {
    return cscp_relay_is_apart(&g->r, &g->config, &g->now);
}

static void try_in_vain(rig *g, cscp_lost why) {
    cscp_relay_connecting(&g->r, &g->config, &g->now);
    lose(g, why, 0);
}

static void an_owner_that_lives_may_be_out_of_reach_for_so_long(void) {
    for (int attached = 0; attached < 2; attached++) {
        rig g = attached ? at(ATTACHED) : begin();
        point(&g, &here, 3, true);
        pass(&g, 5000);
        if (attached) lose(&g, CSCP_LOST_TIMEOUT, 0);
        else try_in_vain(&g, CSCP_LOST_REFUSED);
        pass(&g, g.config.relay_hold_ms - 1);
        try_in_vain(&g, CSCP_LOST_TIMEOUT); /* that is no new beginning */
        CHECK(!apart(&g));
        CHECK_EQ(cscp_relay_deadline(&g.r, &g.config), g.now.boot_ms + 1);
        pass(&g, 1);
        CHECK(apart(&g));
    }
}

static void an_owner_that_another_reaches_is_tried_once_more(void) {
    rig g = begin();
    point(&g, &here, 3, true);
    pass(&g, 5000);
    try_in_vain(&g, CSCP_LOST_REFUSED);
    uint64_t lost_ms = g.now.boot_ms;
    pass(&g, g.config.relay_hold_ms);
    CHECK(apart(&g));
    CHECK(!cscp_relay_reconsider(&g.r, 0, &g.now)); /* nobody ever did */
    CHECK(!cscp_relay_reconsider(&g.r, lost_ms, &g.now));
    CHECK(cscp_relay_reconsider(&g.r, lost_ms + 1, &g.now));
    CHECK(!apart(&g));
    try_in_vain(&g, CSCP_LOST_REFUSED);
    pass(&g, g.config.relay_hold_ms);
    CHECK(apart(&g));
    CHECK(!cscp_relay_reconsider(&g.r, g.now.boot_ms, &g.now)); /* the way there is broken, not the owner */
    cscp_relay_connecting(&g.r, &g.config, &g.now);
    cscp_relay_greeting(&g.r, true);
    say_welcome(&g, 9);
    lose(&g, CSCP_LOST_TIMEOUT, 0);
    pass(&g, g.config.relay_hold_ms);
    CHECK(apart(&g) && cscp_relay_reconsider(&g.r, g.now.boot_ms, &g.now));
}

static void an_owner_that_is_dead_is_waited_for_and_so_is_another_one(void) {
    rig g = begin();
    point(&g, &here, 3, false);
    try_in_vain(&g, CSCP_LOST_REFUSED);
    pass(&g, g.config.relay_hold_ms);
    CHECK(!apart(&g));
    g = begin();
    point(&g, &here, 3, true);
    try_in_vain(&g, CSCP_LOST_REFUSED);
    pass(&g, g.config.relay_hold_ms);
    rig dead = g, elsewhere = g, again = g, welcome = g;
    CHECK(apart(&g));
    point(&dead, &here, 3, false);
    CHECK(!apart(&dead));
    point(&elsewhere, &there, 4, true);
    CHECK(!apart(&elsewhere));
    point(&again, &here, 4, true); /* the same node, which is still out of reach */
    CHECK(apart(&again));
    cscp_relay_connecting(&welcome.r, &welcome.config, &welcome.now);
    CHECK(apart(&welcome));
    cscp_relay_greeting(&welcome.r, false);
    CHECK(!apart(&welcome));
}

static void an_owner_that_answers_is_in_reach(void) {
    const cscp_lost answers[] = {CSCP_LOST_BUSY, CSCP_LOST_CLOSED, CSCP_LOST_FAULT, CSCP_LOST_MOVED};
    for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
        rig g = at(ATTACHED);
        point(&g, &here, 3, true);
        lose(&g, answers[i], 0);
        pass(&g, g.config.relay_hold_ms);
        CHECK(!apart(&g));
    }
}

static void who_was_silent_must_speak_first(void) {
    rig g = at(ATTACHED);
    uint64_t heard_at_ms = g.now.boot_ms;
    pass(&g, g.config.t3_ms);
    rig other = g;
    cscp_relay_lost(&g.r, CSCP_LOST_CLOSED, heard_at_ms, &g.config, 0, &g.now);
    CHECK_EQ(cscp_relay_deadline(&g.r, &g.config), UINT64_MAX);
    pass(&g, 3600000);
    CHECK(!cscp_relay_is_due(&g.r, heard_at_ms, &g.now));
    CHECK(cscp_relay_is_due(&g.r, g.now.boot_ms, &g.now));
    /* It said why: that has nothing to do with the controller. */
    cscp_relay_lost(&other.r, CSCP_LOST_BUSY, heard_at_ms, &other.config, 0, &other.now);
    pass(&other, CSCP_RELAY_RETRY_BUSY_MS);
    CHECK(cscp_relay_is_due(&other.r, heard_at_ms, &other.now));
}

int main(void) {
    RUN(every_frame_of_the_owner_does_what_the_table_says);
    RUN(a_welcome_the_controller_would_refuse_is_the_owners_fault);
    RUN(broken_frames_do_not_pass_and_too_many_are_a_fault);
    RUN(tries_come_further_apart_and_never_in_step);
    RUN(an_owner_that_is_busy_is_left_alone_for_longer);
    RUN(a_route_that_changes_is_tried_at_once);
    RUN(an_owner_that_lives_may_be_out_of_reach_for_so_long);
    RUN(an_owner_that_another_reaches_is_tried_once_more);
    RUN(an_owner_that_is_dead_is_waited_for_and_so_is_another_one);
    RUN(an_owner_that_answers_is_in_reach);
    RUN(who_was_silent_must_speak_first);
    return 0;
}
