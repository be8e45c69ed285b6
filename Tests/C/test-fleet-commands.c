/* The simulated controller's commands, clocks and epochs, and what the oracle sees of them. */
#include "fleet-rig.h"

static void unlocking_is_logged_and_so_is_locking(void) {
    rig *r = rig_new(1, 1000);
    uint8_t id[16];
    cscp_event event;

    connect_now(r);
    welcome(r, 1, 1, 8);
    CHECK_EQ(command(r, 1, 1, 0, UNLOCK, unlock_2, 8).status, CSCP_RESULT_DONE);
    CHECK_EQ(r->n_frames, 2);
    event = event_at(r, 1);
    id_of(1, id);
    CHECK(event.family == 1 && event.code == 5 && event.source_number == 2);
    CHECK(event.n_body == 16 && memcmp(event.body, id, 16) == 0);
    pass(r, 999);
    step(r);
    CHECK_EQ(r->n_frames, 0);
    pass(r, 1);
    CHECK(fleet_controller_due_us(&r->c, &r->world) <= r->now.us);
    step(r);
    event = event_at(r, 0);
    CHECK(event.family == 1 && event.code == 6 && event.source_number == 2);
    CHECK(event.n_body == 16 && memcmp(event.body, id, 16) == 0);
    /* Sent again it says the same. */
    close_now(r);
    connect_now(r);
    welcome(r, 1, 1, 8);
    event = event_at(r, 1);
    CHECK(event.code == 6 && memcmp(event.body, id, 16) == 0);
    rig_free(r);
}

static void each_code_does_what_it_says(void) {
    static const struct {
        uint16_t code;
        uint8_t status, reason, n_body;
        uint8_t body[16];
        uint8_t family, event; /* 0 = logs nothing */
    } table[] = {
        {UNLOCK, 1, 0, 8, {0, 1, 0, 0, 0, 0, 0, 0}, 1, 5},
        {UNLOCK, 2, 3, 8, {0, 5, 0, 0, 0, 0, 0, 0}, 0, 0},
        {UNLOCK, 2, 3, 8, {0, 0, 0, 0, 0, 0, 0, 0}, 0, 0},
        {UNLOCK, 2, 2, 7, {0, 1, 0, 0, 0, 0, 0}, 0, 0},
        {DOOR_MODE, 1, 0, 4, {0, 1, 3, 0}, 1, 7},
        {DOOR_MODE, 2, 2, 4, {0, 1, 4, 0}, 0, 0},
        {DOOR_MODE, 2, 3, 4, {1, 0, 1, 0}, 0, 0},
        {DOOR_MODE, 2, 2, 3, {0, 1, 3}, 0, 0},
        {ANSWER, 2, 4, 16, {0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0, 0},
        {ANSWER, 2, 2, 16, {0, 0, 0, 1, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0, 0},
        {ANSWER, 2, 2, 15, {0}, 0, 0},
        {OUTPUT, 1, 0, 8, {0, 8, 1, 0, 0, 0, 0, 0}, 3, 3},
        {OUTPUT, 1, 0, 8, {0, 8, 0, 0, 0, 0, 0, 0}, 3, 4},
        {OUTPUT, 2, 3, 8, {0, 9, 1, 0, 0, 0, 0, 0}, 0, 0},
        {OUTPUT, 2, 2, 8, {0, 1, 3, 0, 0, 0, 0, 0}, 0, 0},
        {CLOCK, 2, 2, 8, {0xFF, 0, 0, 0, 0, 0, 0, 0}, 0, 0},
        {CLOCK, 2, 2, 0, {0}, 0, 0},
        {STATUS, 1, 0, 0, {0}, 0, 0},
        {REBOOT, 2, 2, 3, {0}, 0, 0},
        {16, 2, 2, 0, {0}, 0, 0},
        {32, 2, 1, 0, {0}, 0, 0},
        {48, 2, 1, 8, {0}, 0, 0},
        {9999, 2, 1, 0, {0}, 0, 0},
    };
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 1000);
    for (uint32_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        cscp_result result = command(r, i, 1, 0, table[i].code, table[i].body, table[i].n_body);
        CHECK_EQ(result.status, table[i].status);
        CHECK_EQ(result.reason, table[i].reason);
        CHECK_EQ(r->n_frames, table[i].family ? 2 : 1);
        if (table[i].family)
            CHECK(event_at(r, 1).family == table[i].family &&
                  event_at(r, 1).code == table[i].event);
    }
    CHECK_EQ(r->tally.commands_executed, 5);
    CHECK_EQ(r->registry.n, 5);
    rig_free(r);
}

static void status_is_laid_out_as_specified(void) {
    static const uint8_t mode[4] = {0, 3, 3, 0}, output[8] = {0, 2, 1, 0, 0, 0, 0, 0};
    static const uint8_t want[20] = {0, 0, 0, 7,    0, 4, 1, 1 | 8, 3 | 8, 1,
                                     0, 8, 0, 1, 0, 0, 0, 0, 0, 0};
    rig *r = rig_new(1, 1000);
    cscp_result result;

    connect_now(r);
    welcome(r, 1, 1, 8);
    pass(r, 7000);
    command(r, 1, 1, 0, UNLOCK, unlock_2, 8);
    command(r, 2, 1, 0, DOOR_MODE, mode, 4);
    command(r, 3, 1, 0, OUTPUT, output, 8);
    result = command(r, 4, 1, 0, STATUS, NULL, 0);
    CHECK_EQ(result.n_body, 20);
    CHECK(memcmp(result.body, want, 20) == 0);
    /* Repeated, it is the first answer, not the present state. */
    pass(r, 5000);
    result = command(r, 4, 1, 0, STATUS, NULL, 0);
    CHECK_EQ(result.flags, CSCP_RESULT_REPEATED);
    CHECK(memcmp(result.body, want, 20) == 0);
    rig_free(r);
}

static void an_access_request_is_answered_once_and_in_time(void) {
    rig *r = rig_new(1, 1000);
    uint8_t body[16] = {0, 0, 0, 1, 0, 0, 1, 0};
    cscp_event asked, answered;

    r->config.access_share = 1;
    r->config.event_rate = 1;
    r->c.generate_at_us = r->now.us;
    connect_now(r);
    welcome(r, 1, 1, 8);
    step(r);
    asked = event_at(r, 0);
    CHECK(asked.family == 2 && asked.code == 3 && asked.n_body == 12);
    CHECK(asked.flags & CSCP_EVENT_PRIORITY);
    r->c.generate_at_us = FLEET_NEVER;
    body[15] = (uint8_t)asked.seq;
    uint8_t card[8];
    memcpy(card, asked.body, 8);
    CHECK_EQ(command(r, 1, 1, 0, ANSWER, body, 16).status, CSCP_RESULT_DONE);
    answered = event_at(r, 1);
    CHECK(answered.family == 2 && answered.code == 1 && memcmp(answered.body, card, 8) == 0);
    CHECK_EQ(command(r, 2, 1, 0, ANSWER, body, 16).reason, 4);
    CHECK_EQ(r->tally.access_answered, 1);
    /* The next person waits in vain. */
    r->c.generate_at_us = r->now.us;
    step(r);
    asked = event_at(r, 0);
    r->c.generate_at_us = FLEET_NEVER;
    body[15] = (uint8_t)asked.seq;
    pass(r, 5000);
    step(r);
    answered = event_at(r, 0);
    CHECK(answered.family == 2 && answered.code == 2 && answered.body[10] == 4);
    CHECK_EQ(command(r, 3, 1, 0, ANSWER, body, 16).reason, 4);
    CHECK_EQ(r->tally.access_unanswered, 1);
    rig_free(r);
}

static void a_repeated_id_gets_the_first_result_and_no_second_act(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 8);
    CHECK_EQ(command(r, 7, 1, 0, UNLOCK, unlock_2, 8).flags, 0);
    CHECK_EQ(command(r, 7, 1, 0, UNLOCK, unlock_2, 8).flags, CSCP_RESULT_REPEATED);
    /* Across connections, restarts with the log kept, and with the log lost. */
    close_now(r);
    connect_now(r);
    welcome(r, 1, 1, 8);
    CHECK_EQ(command(r, 7, 1, 0, UNLOCK, unlock_2, 8).flags, CSCP_RESULT_REPEATED);
    for (int lost = 0; lost < 2; lost++) {
        close_now(r);
        fleet_controller_reboot(&r->c, &r->world, lost, r->now);
        connect_now(r);
        welcome(r, 1, 1, 8);
        CHECK_EQ(command(r, 7, 1, 0, UNLOCK, unlock_2, 8).flags, CSCP_RESULT_REPEATED);
    }
    CHECK_EQ(r->tally.commands_executed, 1);
    CHECK_EQ(r->tally.commands_repeated, 4);
    CHECK_EQ(r->tally.commands_duplicate, 0);
    rig_free(r);
}

/* Beyond 64 results the controller forgets, and acts again: the oracle does not forget. */
static void the_oracle_sees_a_second_execution_the_controller_cannot(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 500);
    for (uint32_t i = 0; i < 64; i++)
        CHECK_EQ(command(r, i, 1, 0, STATUS, NULL, 0).flags, 0);
    CHECK_EQ(command(r, 0, 1, 0, STATUS, NULL, 0).flags, CSCP_RESULT_REPEATED);
    command(r, 64, 1, 0, STATUS, NULL, 0);
    CHECK_EQ(r->tally.commands_duplicate, 0);
    CHECK_EQ(command(r, 0, 1, 0, STATUS, NULL, 0).flags, 0);
    CHECK_EQ(r->tally.commands_executed, 66);
    CHECK_EQ(r->tally.commands_duplicate, 1);
    CHECK(r->registry.executions[65].duplicate);
    rig_free(r);
}

static void deadlines_are_judged_by_host_time_not_by_the_wall_clock(void) {
    static const struct {
        int64_t host_ahead_ms; /* the host's clock against the true one */
        int32_t skew_s;        /* the controller's wall clock */
        int64_t left_ms;       /* not_after - host time when the command arrives */
        uint8_t status;
    } table[] = {
        /* Host time is cut to ms: the controller's may be one ahead. */
        {0, 0, 2, CSCP_RESULT_DONE},        {0, 0, 1, CSCP_RESULT_EXPIRED},
        {0, 0, -1, CSCP_RESULT_EXPIRED},    {0, 3600, 2, CSCP_RESULT_DONE},
        {0, -3600, 0, CSCP_RESULT_EXPIRED}, {90000, 0, 2, CSCP_RESULT_DONE},
        {90000, 3600, 0, CSCP_RESULT_EXPIRED},
    };

    for (uint32_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        rig *r = rig_new(1, 1000);
        uint64_t not_after;

        fleet_controller_set_skew(&r->c, table[i].skew_s);
        host_ahead_ms = table[i].host_ahead_ms;
        connect_now(r);
        welcome(r, 1, 1, 8);
        pass(r, 60000);
        not_after = (uint64_t)((int64_t)r->now.wall_ms + host_ahead_ms + table[i].left_ms);
        CHECK_EQ(command(r, i, 1, not_after, UNLOCK, unlock_2, 8).status, table[i].status);
        CHECK_EQ(r->tally.commands_executed, table[i].status == CSCP_RESULT_DONE);
        /* And the answer stays. */
        CHECK_EQ(command(r, i, 1, not_after, UNLOCK, unlock_2, 8).status, table[i].status);
        CHECK_EQ(r->tally.commands_repeated, 1);
        rig_free(r);
    }
    host_ahead_ms = 0;
}

/* A host whose clock is behind makes controllers act late; they cannot know it, the oracle does. */
static void the_oracle_sees_a_late_execution_the_controller_cannot(void) {
    rig *r = rig_new(1, 1000);
    uint64_t not_after;

    host_ahead_ms = -500;
    connect_now(r);
    welcome(r, 1, 1, 8);
    not_after = r->now.wall_ms + 1000;
    pass(r, 1200);
    CHECK_EQ(command(r, 1, 1, not_after, UNLOCK, unlock_2, 8).status, CSCP_RESULT_DONE);
    CHECK_EQ(r->tally.commands_late, 1);
    CHECK_EQ(r->tally.late_max_ms, 200);
    host_ahead_ms = 0;
    rig_free(r);
}

/* A PING now, and after `ms` a TIME that was written `late_ms` before; it names that PING, or another one. */
static void tell_time(rig *r, uint32_t ms, int64_t late_ms, bool names_it) {
    uint8_t bytes[CSCP_TIME_FRAME];
    cscp_time time = {.rtt_us = 1, .token = names_it ? 77 : 76};

    say(r, bytes, cscp_write_u64(bytes, CSCP_PING, (5ull << 32) + 77));
    pass(r, ms);
    time.host_time_ms = (uint64_t)((int64_t)r->now.wall_ms + host_ahead_ms - late_ms);
    say(r, bytes, cscp_write_time(bytes, &time));
}

/* By how much the controller takes host time for later than it is, in ms. */
static int64_t reckons(rig *r) {
    return (r->c.host_offset_us - (int64_t)(r->now.wall_ms * 1000 - r->now.us)) / 1000 - host_ahead_ms;
}

/* Found under faults: 1 and 3 ms late by what a WELCOME took to arrive, 109 ms by a balancer that stood
 * still, 3 s on overloaded hosts. */
static void what_arrives_late_does_not_make_commands_late(void) {
    for (uint32_t ms = 30; ms <= 30000; ms *= 10) {
        rig *r = rig_new(1, 1000);
        uint64_t not_after;

        connect_now(r);
        pass(r, ms);
        host_ahead_ms = -(int64_t)ms; /* it was written when HELLO was, and was on its way since */
        welcome(r, 1, 1, 8);
        host_ahead_ms = 0;
        CHECK_EQ(reckons(r), 1);
        not_after = r->now.wall_ms;
        CHECK_EQ(command(r, 1, 1, not_after, UNLOCK, unlock_2, 8).status, CSCP_RESULT_EXPIRED);
        host_ahead_ms = -60000; /* another one, that was longer on its way */
        welcome(r, 1, 2, 8);
        host_ahead_ms = 0;
        CHECK_EQ(command(r, 2, 2, not_after, UNLOCK, unlock_2, 8).status, CSCP_RESULT_EXPIRED);
        tell_time(r, 2000, 2000, true);
        CHECK_EQ(reckons(r), 1);
        tell_time(r, 2000, 1900, false); /* it may be of any age */
        CHECK_EQ(reckons(r), 1);
        CHECK_EQ(r->tally.commands_executed, 0);
        CHECK_EQ(command(r, 3, 2, r->now.wall_ms + 2, UNLOCK, unlock_2, 8).status,
                 CSCP_RESULT_DONE);
        CHECK_EQ(r->tally.commands_late, 0);
        rig_free(r);
    }
}

/* What was reckoned with for a WELCOME's way lasts until a TIME says better. */
static void what_may_have_been_late_and_was_not_is_mended_by_a_time(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    pass(r, 5000);
    welcome(r, 1, 1, 8); /* the host kept the HELLO so long */
    CHECK_EQ(reckons(r), 5001);
    CHECK_EQ(command(r, 1, 1, r->now.wall_ms + 5000, UNLOCK, unlock_2, 8).status, CSCP_RESULT_EXPIRED);
    tell_time(r, 2000, 0, true); /* better, if not good */
    CHECK_EQ(reckons(r), 2001);
    tell_time(r, 3000, 0, true); /* worse */
    CHECK_EQ(reckons(r), 2001);
    tell_time(r, 20, 0, true);
    CHECK_EQ(reckons(r), 21);
    /* Connected again, slowly: what is known stays. */
    close_now(r);
    connect_now(r);
    pass(r, 5000);
    welcome(r, 1, 1, 8);
    CHECK_EQ(reckons(r), 21);
    rig_free(r);
}

/* A node whose clock was a day off told its controllers so: the next one's is believed after a round trip. */
static void another_hosts_clock_is_believed(void) {
    static const int64_t off_ms[] = {-86400000, -5000, 5000, 86400000};

    for (uint32_t i = 0; i < sizeof(off_ms) / sizeof(*off_ms); i++) {
        rig *r = rig_new(1, 1000);

        host_ahead_ms = off_ms[i];
        connect_now(r);
        welcome(r, 1, 1, 8);
        CHECK_EQ(reckons(r), 1);
        host_ahead_ms = 0;
        pass(r, 10);
        welcome(r, 2, 1, 8); /* no earlier than it says */
        CHECK_EQ(reckons(r), off_ms[i] > 0 ? off_ms[i] + 1 : 1);
        tell_time(r, 10, 5, true);
        CHECK_EQ(reckons(r), 6);
        rig_free(r);
    }
}

/* Found under faults: a balancer stood still for 1 s with a TIME in it, and events were 1 s in the past then. */
static void a_time_that_was_long_on_its_way_leaves_a_wall_clock_that_may_be_right(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 8);
    tell_time(r, 2000, 1000, true);
    CHECK_EQ(r->c.skew_s, 0);
    tell_time(r, 2000, 3000, true); /* the clock is later than can be */
    CHECK_EQ(r->c.skew_s, -3);
    tell_time(r, 2000, 1000, true); /* and earlier */
    CHECK_EQ(r->c.skew_s, -1);
    tell_time(r, 20, 10, true);
    CHECK_EQ(r->c.skew_s, 0);
    rig_free(r);
}

static void time_sets_the_wall_clock_and_logs_its_step(void) {
    rig *r = rig_new(1, 1000);
    uint8_t bytes[CSCP_TIME_FRAME];
    cscp_time time = {.rtt_us = 200000};
    cscp_event event;
    int64_t step_ms = 0;

    connect_now(r);
    welcome(r, 1, 1, 8);
    fleet_controller_set_skew(&r->c, 3600);
    time.host_time_ms = r->now.wall_ms + 900;
    say(r, bytes, cscp_write_time(bytes, &time));
    event = event_at(r, 0);
    CHECK(event.family == 4 && event.code == 5 && event.n_body == 8);
    for (int i = 0; i < 8; i++)
        step_ms = (int64_t)((uint64_t)step_ms << 8 | event.body[i]);
    CHECK_EQ(step_ms, -3599000);
    /* Host time is 900 ms later than was known, at least, and the ms that may have been cut off. */
    CHECK_EQ(command(r, 1, 1, r->now.wall_ms + 901, STATUS, NULL, 0).status, CSCP_RESULT_EXPIRED);
    CHECK_EQ(command(r, 2, 1, r->now.wall_ms + 902, STATUS, NULL, 0).status, CSCP_RESULT_DONE);
    /* The wall clock is right now: a small step is not logged. */
    time.host_time_ms += 500;
    say(r, bytes, cscp_write_time(bytes, &time));
    CHECK_EQ(r->n_frames, 0);
    rig_free(r);
}

static void records_carry_the_controllers_own_time(void) {
    rig *r = rig_new(1, 1000);

    fleet_controller_set_skew(&r->c, -3600);
    log_events(r, 1);
    fleet_controller_set_skew(&r->c, 3600);
    log_events(r, 1);
    connect_now(r);
    welcome(r, 1, 1, 8);
    CHECK_EQ(event_at(r, 0).occurred_at_ms, r->now.wall_ms - 3600000);
    CHECK_EQ(event_at(r, 1).occurred_at_ms, r->now.wall_ms + 3600000);
    rig_free(r);
}

static void a_lower_epoch_is_refused_and_counted(void) {
    rig *r = rig_new(1, 1000);
    uint64_t seen;

    connect_now(r);
    welcome(r, 5, 1, 8);
    CHECK_EQ(command(r, 1, 4, 0, UNLOCK, unlock_2, 8).status, 0);
    CHECK_EQ(r->frames[0].type, CSCP_STALE);
    CHECK_EQ(cscp_parse_u64(r->frames[0].payload, r->frames[0].n_payload, &seen), 0);
    CHECK_EQ(seen, 5);
    CHECK_EQ(r->tally.commands_stale_epoch, 1);
    CHECK_EQ(r->tally.commands_executed, 0);
    /* Not even for an id it remembers. */
    command(r, 2, 5, 0, STATUS, NULL, 0);
    CHECK_EQ(command(r, 2, 4, 0, STATUS, NULL, 0).status, 0);
    /* A command may bring the higher epoch first. */
    CHECK_EQ(command(r, 3, 6, 0, STATUS, NULL, 0).status, CSCP_RESULT_DONE);
    CHECK_EQ(command(r, 4, 5, 0, STATUS, NULL, 0).status, 0);
    close_now(r);
    CHECK_EQ(connect_now(r).owner_epoch_seen, 6);
    log_events(r, 1);
    welcome(r, 5, 1, 8);
    CHECK_EQ(r->n_frames, 1);
    CHECK_EQ(r->frames[0].type, CSCP_STALE);
    CHECK_EQ(r->tally.stale_refused, 4);
    CHECK_EQ(r->c.phase, FLEET_HELLO_SENT);
    welcome(r, 6, 1, 8);
    CHECK_EQ(r->n_frames, 1);
    CHECK_EQ(r->frames[0].type, CSCP_EVENT);
    /* After a restart too. */
    close_now(r);
    fleet_controller_reboot(&r->c, &r->world, true, r->now);
    CHECK_EQ(connect_now(r).owner_epoch_seen, 6);
    rig_free(r);
}

static void reboot_answers_first_and_remembers(void) {
    static const uint8_t delay[4] = {0, 0, 0, 100};
    rig *r = rig_new(1, 1000);
    uint64_t boot_id = r->c.boot_id;

    connect_now(r);
    welcome(r, 1, 1, 8);
    command(r, 1, 1, 0, UNLOCK, unlock_2, 8);
    CHECK_EQ(command(r, 2, 1, 0, REBOOT, delay, 4).status, CSCP_RESULT_DONE);
    pass(r, 50);
    step(r);
    CHECK_EQ(r->verdict, FLEET_KEEP);
    pass(r, 60);
    step(r);
    CHECK_EQ(r->verdict, FLEET_CLOSE);
    close_now(r);
    CHECK(connect_now(r).boot_id != boot_id);
    welcome(r, 1, 2, 8);
    CHECK_EQ(event_at(r, 0).code, 7);
    CHECK_EQ(command(r, 2, 1, 0, REBOOT, delay, 4).flags, CSCP_RESULT_REPEATED);
    CHECK_EQ(r->c.reboot_at_us, FLEET_NEVER);
    /* The door that was open is not, and says nothing. */
    pass(r, 5000);
    step(r);
    CHECK_EQ(r->n_frames, 0);
    rig_free(r);
}

int main(void) {
    RUN(unlocking_is_logged_and_so_is_locking);
    RUN(each_code_does_what_it_says);
    RUN(status_is_laid_out_as_specified);
    RUN(an_access_request_is_answered_once_and_in_time);
    RUN(a_repeated_id_gets_the_first_result_and_no_second_act);
    RUN(the_oracle_sees_a_second_execution_the_controller_cannot);
    RUN(deadlines_are_judged_by_host_time_not_by_the_wall_clock);
    RUN(the_oracle_sees_a_late_execution_the_controller_cannot);
    RUN(what_arrives_late_does_not_make_commands_late);
    RUN(what_may_have_been_late_and_was_not_is_mended_by_a_time);
    RUN(another_hosts_clock_is_believed);
    RUN(a_time_that_was_long_on_its_way_leaves_a_wall_clock_that_may_be_right);
    RUN(time_sets_the_wall_clock_and_logs_its_step);
    RUN(records_carry_the_controllers_own_time);
    RUN(a_lower_epoch_is_refused_and_counted);
    RUN(reboot_answers_first_and_remembers);
    return 0;
}
