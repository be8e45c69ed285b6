/* The simulated controller's session and log: each test is a conversation with a host that is not
 * there. */
#include "fleet-rig.h"

/* --- Handshake ------------------------------------------------------------------------------- */

static void hello_says_what_the_log_holds(void) {
    rig *r = rig_new(1, 100);
    cscp_hello hello = connect_now(r);

    CHECK_EQ(hello.serial, SERIAL);
    CHECK_EQ(hello.log_epoch, 1);
    CHECK_EQ(hello.capacity, 100);
    CHECK_EQ(hello.oldest_seq, 1);
    CHECK_EQ(hello.last_seq, 0);
    CHECK_EQ(hello.acked_seq, 0);
    CHECK_EQ(hello.owner_epoch_seen, 0);
    CHECK_EQ(hello.clock_ms, r->now.wall_ms);
    close_now(r);
    log_events(r, 5);
    hello = connect_now(r);
    CHECK_EQ(hello.oldest_seq, 1);
    CHECK_EQ(hello.last_seq, 5);
    welcome(r, 9, 1, 64);
    CHECK_EQ(r->n_frames, 5);
    ack(r, 1, 5);
    close_now(r);
    hello = connect_now(r);
    CHECK_EQ(hello.oldest_seq, 6);
    CHECK_EQ(hello.last_seq, 5);
    CHECK_EQ(hello.acked_seq, 5);
    CHECK_EQ(hello.owner_epoch_seen, 9);
    rig_free(r);
}

static void nothing_but_hello_before_welcome(void) {
    rig *r = rig_new(1, 100);

    log_events(r, 3);
    CHECK_EQ(r->n_frames, 0);
    connect_now(r);
    log_events(r, 3);
    CHECK_EQ(r->n_frames, 0);
    /* Nor does it obey a command or an ack. */
    CHECK_EQ(command(r, 1, 1, 0, UNLOCK, unlock_2, 8).status, 0);
    CHECK_EQ(r->tally.commands_executed, 0);
    ack(r, 1, 3);
    CHECK_EQ(r->tally.acks_invalid, 1);
    rig_free(r);
}

static void a_later_log_begins_with_log_reset(void) {
    rig *r = rig_new(77, 100);
    cscp_log_reset reset;

    log_events(r, 1);
    connect_now(r);
    welcome(r, 1, 1, 64);
    CHECK_EQ(r->n_frames, 2);
    CHECK_EQ(r->frames[0].type, CSCP_LOG_RESET);
    CHECK_EQ(cscp_parse_log_reset(r->frames[0].payload, r->frames[0].n_payload, &reset), 0);
    CHECK_EQ(reset.old_epoch, 0);
    CHECK_EQ(reset.new_epoch, 77);
    CHECK_EQ(event_at(r, 1).seq, 2);
    rig_free(r);
}

static void no_welcome_in_time_is_a_time_out(void) {
    rig *r = rig_new(1, 100);

    connect_now(r);
    CHECK_EQ(fleet_controller_due_us(&r->c, &r->world), r->now.us + 60000000);
    pass(r, 60000);
    step(r);
    CHECK_EQ(r->verdict, FLEET_CLOSE);
    CHECK_EQ(r->tally.timeouts, 1);
    rig_free(r);
}

static void backoff_doubles_under_full_jitter(void) {
    rig *r = rig_new(1, 100);
    uint64_t ceiling = 1000000;

    for (int i = 0; i < 12; i++) {
        uint64_t longest = 0;
        fleet_controller probe;

        /* Many controllers in the same state, each with its own luck. */
        for (uint64_t luck = 0; luck < 200; luck++) {
            probe = r->c;
            probe.random = luck * 7919;
            probe.connect_at_us = FLEET_NEVER;
            fleet_controller_closed(&probe, &r->world, FLEET_CONNECT_FAILED, r->now);
            uint64_t wait = probe.connect_at_us - r->now.us;
            CHECK(wait <= ceiling);
            if (wait > longest)
                longest = wait;
        }
        CHECK(longest > ceiling / 10 * 9);
        r->c.connect_at_us = FLEET_NEVER;
        fleet_controller_closed(&r->c, &r->world, FLEET_CONNECT_FAILED, r->now);
        ceiling = ceiling < 32000000 ? 2 * ceiling : 60000000;
    }
    connect_now(r);
    welcome(r, 1, 1, 8);
    close_now(r);
    CHECK(r->c.connect_at_us - r->now.us <= 1000000);
    rig_free(r);
}

static void the_hosts_word_on_when_to_return_is_kept(void) {
    rig *r = rig_new(1, 100);
    uint8_t bytes[CSCP_FRAME_MAX];
    const char two[] = "\x02\x0e"
                       "192.0.2.7:5001\x09[::1]:502";

    connect_now(r);
    say(r, bytes, cscp_write_busy(bytes, 2000, 500));
    CHECK_EQ(r->verdict, FLEET_CLOSE);
    close_now(r);
    CHECK(r->c.connect_at_us >= r->now.us + 2000000 && r->c.connect_at_us <= r->now.us + 2500000);
    connect_now(r);
    welcome(r, 1, 1, 8);
    say(r, bytes, cscp_write_goaway(bytes, CSCP_REASON_STOPPING, 3000));
    CHECK_EQ(r->verdict, FLEET_CLOSE);
    close_now(r);
    CHECK(r->c.connect_at_us <= r->now.us + 3000000);
    connect_now(r);
    say(r, bytes, cscp_write_frame(bytes, CSCP_REDIRECT, (const uint8_t *)two, sizeof(two) - 1));
    CHECK_EQ(r->verdict, FLEET_CLOSE);
    close_now(r);
    CHECK_EQ(r->c.connect_at_us, r->now.us);
    CHECK(strcmp(fleet_controller_address(&r->c), "192.0.2.7:5001") == 0);
    r->c.connect_at_us = FLEET_NEVER;
    fleet_controller_closed(&r->c, &r->world, FLEET_CONNECT_FAILED, r->now);
    CHECK(strcmp(fleet_controller_address(&r->c), "[::1]:502") == 0);
    r->c.connect_at_us = FLEET_NEVER;
    fleet_controller_closed(&r->c, &r->world, FLEET_CONNECT_FAILED, r->now);
    CHECK(fleet_controller_address(&r->c) == NULL);
    rig_free(r);
}

static void silence_is_answered_with_ping_and_then_the_end(void) {
    rig *r = rig_new(1, 100);
    uint8_t bytes[CSCP_FRAME_MAX];
    uint64_t token;

    connect_now(r);
    welcome(r, 1, 1, 8);
    say(r, bytes, cscp_write_u64(bytes, CSCP_PING, 99));
    CHECK_EQ(r->n_frames, 1);
    CHECK_EQ(r->frames[0].type, CSCP_PONG);
    CHECK_EQ(cscp_parse_u64(r->frames[0].payload, r->frames[0].n_payload, &token), 0);
    CHECK_EQ(token, 99);
    pass(r, 19999);
    step(r);
    CHECK_EQ(r->n_frames, 0);
    pass(r, 1);
    step(r);
    CHECK_EQ(r->n_frames, 1);
    CHECK_EQ(r->frames[0].type, CSCP_PING);
    pass(r, 14000);
    say(r, bytes, cscp_write_u64(bytes, CSCP_PONG, 1));
    pass(r, 20000);
    step(r);
    CHECK_EQ(r->frames[0].type, CSCP_PING);
    pass(r, 15000);
    step(r);
    CHECK_EQ(r->verdict, FLEET_CLOSE);
    rig_free(r);
}

/* --- The log --------------------------------------------------------------------------------- */

static void the_window_is_kept(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 8);
    log_events(r, 20);
    CHECK_EQ(r->n_frames, 8);
    for (size_t i = 0; i < 8; i++)
        CHECK_EQ(event_at(r, i).seq, i + 1);
    ack(r, 1, 3);
    CHECK_EQ(r->n_frames, 3);
    CHECK_EQ(event_at(r, 0).seq, 9);
    ack(r, 1, 11);
    CHECK_EQ(r->n_frames, 8);
    ack(r, 1, 19);
    CHECK_EQ(r->n_frames, 1);
    ack(r, 1, 20);
    CHECK_EQ(r->n_frames, 0);
    CHECK_EQ(r->tally.acked, 20);
    CHECK_EQ(r->tally.resent, 0);
    CHECK_EQ(fleet_log_unacked(&r->c.log), 0);
    rig_free(r);
}

static void records_are_sent_again_from_resume_from_and_marked(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 8);
    log_events(r, 6);
    ack(r, 1, 2);
    close_now(r);
    log_events(r, 1);
    connect_now(r);
    welcome(r, 1, 3, 8);
    CHECK_EQ(r->n_frames, 5);
    CHECK_EQ(event_at(r, 0).seq, 3);
    CHECK_EQ(event_at(r, 0).flags & CSCP_EVENT_REPLAYED, CSCP_EVENT_REPLAYED);
    CHECK_EQ(r->tally.resent, 4);
    CHECK_EQ(r->tally.reconnects, 1);
    log_events(r, 1);
    CHECK_EQ(event_at(r, 0).flags & CSCP_EVENT_REPLAYED, 0);
    rig_free(r);
}

/* Owner changes behind an entry node: what was received before still counts in the window. */
static void a_second_welcome_that_skips_keeps_the_window(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 8);
    log_events(r, 20);
    welcome(r, 2, 6, 8); /* it has 1 to 5, and has acknowledged none */
    CHECK_EQ(r->tally.handovers, 1);
    CHECK_EQ(r->n_frames, 3);
    CHECK_EQ(event_at(r, 0).seq, 6);
    ack(r, 1, 8);
    CHECK_EQ(r->n_frames, 8);
    CHECK_EQ(r->tally.acked, 8);
    /* Even when the connection in between saw none of them. */
    close_now(r);
    connect_now(r);
    welcome(r, 2, 9, 1);
    CHECK_EQ(r->n_frames, 1);
    close_now(r);
    connect_now(r);
    welcome(r, 2, 13, 8);
    CHECK_EQ(event_at(r, 0).seq, 13);
    CHECK_EQ(r->n_frames, 4);
    ack(r, 1, 17);
    CHECK_EQ(r->tally.acks_invalid, 1);
    ack(r, 1, 16);
    CHECK_EQ(r->tally.acked, 16);
    ack(r, 1, 20);
    CHECK_EQ(r->tally.acked, 20);
    CHECK_EQ(r->c.log.n_uncertain, 0);
    rig_free(r);
}

static void what_was_overwritten_is_declared(void) {
    rig *r = rig_new(1, 10);
    cscp_log_gap gap;

    log_events(r, 25);
    CHECK_EQ(r->tally.overwritten, 15);
    connect_now(r);
    welcome(r, 1, 1, 4);
    CHECK_EQ(r->n_frames, 4);
    CHECK_EQ(r->frames[0].type, CSCP_LOG_GAP);
    CHECK_EQ(cscp_parse_log_gap(r->frames[0].payload, r->frames[0].n_payload, &gap), 0);
    CHECK_EQ(gap.from, 1);
    CHECK_EQ(gap.to, 15);
    CHECK_EQ(event_at(r, 1).seq, 16);
    ack(r, 1, 15);
    CHECK_EQ(r->n_frames, 1);
    CHECK_EQ(r->tally.gaps, 1);
    CHECK_EQ(r->tally.gap_records, 15);
    CHECK_EQ(r->tally.acked, 0);
    ack(r, 1, 19);
    ack(r, 1, 23);
    ack(r, 1, 25);
    CHECK_EQ(r->tally.acked, 10);
    CHECK_EQ(fleet_log_unacked(&r->c.log), 0);
    rig_free(r);
}

/* The log overwrites what is under way: if the host has it, nothing was lost after all. */
static void what_was_under_way_when_overwritten_may_still_be_acked(void) {
    rig *r = rig_new(1, 10);
    uint64_t sum = 0;

    connect_now(r);
    welcome(r, 1, 1, 4);
    log_events(r, 4);
    for (size_t i = 0; i < 4; i++) {
        cscp_event event = event_at(r, i);
        sum += cscp_event_fingerprint(SERIAL, &event);
    }
    log_events(r, 9); /* 13 records: 1 to 3 are overwritten */
    CHECK_EQ(r->tally.overwritten, 3);
    ack(r, 1, 4);
    CHECK_EQ(r->tally.overwritten, 0);
    CHECK_EQ(r->tally.acked, 4);
    CHECK_EQ(r->c.log.fingerprint_sum, sum);
    CHECK_EQ(event_at(r, 0).seq, 5);
    rig_free(r);
}

static void fingerprints_are_of_what_was_acknowledged(void) {
    rig *r = rig_new(1, 1000);
    uint64_t sum = 0;

    connect_now(r);
    welcome(r, 1, 1, 64);
    log_events(r, 50);
    for (size_t i = 0; i < 50; i++) {
        cscp_event event = event_at(r, i);
        if (event.seq <= 30)
            sum += cscp_event_fingerprint(SERIAL, &event);
    }
    ack(r, 1, 30);
    CHECK_EQ(r->c.log.fingerprint_sum, sum);
    rig_free(r);
}

static void a_lost_log_begins_anew_and_the_old_one_is_remembered(void) {
    rig *r = rig_new(1, 1000);
    cscp_hello hello;
    cscp_log_reset reset;

    connect_now(r);
    welcome(r, 1, 1, 8);
    log_events(r, 10);
    ack(r, 1, 4);
    close_now(r);
    fleet_controller_reboot(&r->c, &r->world, true, r->now);
    CHECK_EQ(r->tally.reset_lost, 6);
    hello = connect_now(r);
    CHECK_EQ(hello.log_epoch, 2);
    CHECK_EQ(hello.last_seq, 2); /* LOG_RESET and "started" */
    CHECK_EQ(hello.acked_seq, 0);
    welcome(r, 1, 1, 8);
    CHECK_EQ(cscp_parse_log_reset(r->frames[0].payload, r->frames[0].n_payload, &reset), 0);
    CHECK_EQ(reset.old_epoch, 1);
    CHECK_EQ(reset.new_epoch, 2);
    CHECK_EQ(reset.old_last_seq, 10);
    CHECK_EQ(event_at(r, 1).family, 4);
    CHECK_EQ(event_at(r, 1).code, 7);
    ack(r, 1, 8); /* of the old log, under way when it was lost */
    CHECK_EQ(r->tally.acks_old_log, 1);
    ack(r, 1, 11); /* never sent */
    ack(r, 9, 1);  /* never was */
    CHECK_EQ(r->tally.acks_invalid, 2);
    ack(r, 2, 2);
    CHECK_EQ(r->c.log.n_past, 1);
    CHECK_EQ(r->c.log.past[0].acked, 4);
    CHECK_EQ(r->c.log.past[0].n_items, 6);
    CHECK_EQ(r->tally.generated, r->tally.acked + r->tally.reset_lost);
    rig_free(r);
}

static void an_ack_may_overtake_what_is_sent_anew(void) {
    rig *r = rig_new(1, 100);

    log_events(r, 5);
    connect_now(r);
    welcome(r, 1, 1, 8);
    CHECK_EQ(r->c.log.next, 6);
    welcome(r, 2, 3, 1);
    CHECK_EQ(r->c.log.next, 3);
    ack(r, 1, 5); /* what was under way was taken; it is sent anew all the same */
    CHECK_EQ(r->tally.acks_early, 1);
    CHECK_EQ(r->c.log.acked, 0);
    ack(r, 1, 2);
    CHECK_EQ(r->c.log.acked, 2);
    CHECK_EQ(r->c.log.next, 4);
    ack(r, 1, 6); /* never sent */
    CHECK_EQ(r->tally.acks_invalid, 1);
    rig_free(r);
}

static void a_log_may_be_lost_within_a_session(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 8);
    log_events(r, 3);
    fleet_controller_lose_log(&r->c, &r->world, 2, r->now);
    log_events(r, 1);
    CHECK_EQ(r->n_frames, 2);
    CHECK_EQ(r->frames[0].type, CSCP_LOG_RESET);
    CHECK_EQ(event_at(r, 1).seq, 2);
    CHECK_EQ(event_at(r, 1).log_epoch, 2);
    rig_free(r);
}

static void acks_from_the_future_change_nothing_and_count(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 4);
    log_events(r, 10);
    ack(r, 1, 5); /* logged, but not sent */
    ack(r, 1, 11);
    CHECK_EQ(r->tally.acks_invalid, 2);
    CHECK_EQ(r->tally.acked, 0);
    CHECK_EQ(fleet_log_unacked(&r->c.log), 10);
    ack(r, 1, 4);
    ack(r, 1, 2); /* late, and harmless */
    CHECK_EQ(r->tally.acks_invalid, 2);
    CHECK_EQ(r->tally.acked, 4);
    rig_free(r);
}

static void resuming_where_nothing_was_sent_or_all_is_acked_counts(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 4);
    log_events(r, 4);
    ack(r, 1, 4);
    welcome(r, 1, 9, 4);
    CHECK_EQ(r->tally.resume_invalid, 1);
    /* The host has forgotten what it has acknowledged: the records are gone. */
    log_events(r, 1);
    welcome(r, 1, 3, 4);
    CHECK_EQ(r->tally.resume_below_acked, 1);
    CHECK_EQ(r->frames[0].type, CSCP_LOG_GAP);
    CHECK_EQ(event_at(r, 1).seq, 5);
    ack(r, 1, 5);
    CHECK_EQ(r->tally.acked, 5);
    CHECK_EQ(r->tally.gap_records, 0);
    CHECK_EQ(r->c.log.n_uncertain, 2);
    rig_free(r);
}

static void content_follows_from_the_records_name(void) {
    rig *a = rig_new(1, 1000), *b = rig_new(1, 1000);
    unsigned n_cards = 0;

    b->now.us = 5000000; /* other times, same contents */
    connect_now(a);
    connect_now(b);
    welcome(a, 1, 1, 500);
    welcome(b, 1, 1, 500);
    log_events(a, 400);
    log_events(b, 400);
    for (size_t i = 0; i < 400; i++) {
        cscp_event x = event_at(a, i), y = event_at(b, i);
        CHECK(x.family == y.family && x.code == y.code && x.source_number == y.source_number);
        CHECK(x.n_body == y.n_body && memcmp(x.body, y.body, x.n_body) == 0);
        CHECK(x.family >= 1 && x.family <= 4);
        n_cards += x.n_body == 12;
    }
    CHECK(n_cards > 100 && n_cards < 300);
    rig_free(a);
    rig_free(b);
}

/* --- Measures -------------------------------------------------------------------------------- */

static void a_gap_runs_from_the_last_ack_before_to_the_next(void) {
    rig *r = rig_new(1, 1000);
    fleet_quantiles gap, outage, acked;

    connect_now(r);
    welcome(r, 1, 1, 8);
    log_events(r, 1);
    pass(r, 10);
    ack(r, 1, 1);
    pass(r, 100);
    log_events(r, 1);
    close_now(r);
    pass(r, 300);
    connect_now(r);
    close_now(r);
    pass(r, 100);
    connect_now(r);
    welcome(r, 1, 2, 8);
    pass(r, 50);
    ack(r, 1, 2);
    pass(r, 1000);
    log_events(r, 1);
    ack(r, 1, 3);
    fleet_histogram_quantiles(&r->tally.gap, &gap);
    fleet_histogram_quantiles(&r->tally.outage, &outage);
    fleet_histogram_quantiles(&r->tally.ack, &acked);
    CHECK_EQ(gap.count, 1);
    CHECK_EQ(gap.max, 550);
    CHECK_EQ(outage.count, 1);
    CHECK_EQ(outage.max, 400);
    CHECK_EQ(acked.count, 3);
    CHECK_EQ(acked.max, 450);
    rig_free(r);
}

static void quantiles_are_right_to_three_percent(void) {
    static fleet_histogram histogram;
    fleet_quantiles q;

    for (uint64_t us = 1; us <= 100000; us++)
        fleet_histogram_add(&histogram, us);
    fleet_histogram_quantiles(&histogram, &q);
    CHECK_EQ(q.count, 100000);
    CHECK(q.p50 > 48.5 && q.p50 < 51.5);
    CHECK(q.p99 > 96 && q.p99 < 102);
    CHECK(q.max == 100);
}

/* Whatever happens, every record is accounted for exactly once. */
static void the_books_balance_under_any_sequence(void) {
    for (uint64_t seed = 1; seed <= 300; seed++) {
        rig *r = rig_new(seed % 2 ? 1 : 50, 1 + (uint32_t)(seed % 40));
        uint64_t random = seed * 0x9E3779B97F4A7C15u;
        uint64_t stored = 0; /* by the host, of the present log */
        uint32_t stored_epoch = r->c.log.epoch;
        uint16_t k = (uint16_t)(1 + seed % 17);

        for (int i = 0; i < 400; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            unsigned dice = (unsigned)(random >> 33);
            switch (dice % 8) {
            case 0:
            case 1:
            case 2:
                log_events(r, dice / 8 % 12);
                break;
            case 3:
            case 4:
                if (r->c.phase != FLEET_WELCOMED)
                    break;
                stored += dice / 8 % (r->c.log.next - stored);
                ack(r, stored_epoch, stored);
                break;
            case 5:
                if (r->c.phase != FLEET_AWAY)
                    close_now(r);
                break;
            case 6:
                if (r->c.phase == FLEET_AWAY)
                    connect_now(r);
                /* Any record from the first not stored to the first never sent. */
                welcome(r, 1, stored + 1 + dice / 8 % (r->c.log.sent_max + 1 - stored), k);
                break;
            default:
                if (dice / 8 % 16 != 0)
                    break;
                if (r->c.phase != FLEET_AWAY)
                    close_now(r);
                fleet_controller_reboot(&r->c, &r->world, dice / 128 & 1, r->now);
                if (r->c.log.epoch != stored_epoch)
                    stored = 0;
                stored_epoch = r->c.log.epoch;
                break;
            }
            pass(r, 1);
            /* A host may skip further than the window; nothing more is sent until it acks. */
            CHECK(r->c.log.n_items <= k || r->n_frames == 0);
            CHECK_EQ(r->tally.generated, r->tally.acked + r->tally.overwritten +
                                             r->tally.reset_lost + fleet_log_unacked(&r->c.log));
            CHECK_EQ(r->tally.acks_invalid, 0);
            CHECK_EQ(r->tally.resume_invalid, 0);
        }
        if (r->c.phase == FLEET_AWAY)
            connect_now(r);
        welcome(r, 1, stored + 1, k);
        while (fleet_log_unacked(&r->c.log) > 0)
            ack(r, stored_epoch, r->c.log.next - 1);
        CHECK_EQ(r->tally.generated, r->tally.acked + r->tally.overwritten + r->tally.reset_lost);
        rig_free(r);
    }
}

int main(void) {
    RUN(hello_says_what_the_log_holds);
    RUN(nothing_but_hello_before_welcome);
    RUN(a_later_log_begins_with_log_reset);
    RUN(no_welcome_in_time_is_a_time_out);
    RUN(backoff_doubles_under_full_jitter);
    RUN(the_hosts_word_on_when_to_return_is_kept);
    RUN(silence_is_answered_with_ping_and_then_the_end);
    RUN(the_window_is_kept);
    RUN(records_are_sent_again_from_resume_from_and_marked);
    RUN(a_second_welcome_that_skips_keeps_the_window);
    RUN(what_was_overwritten_is_declared);
    RUN(what_was_under_way_when_overwritten_may_still_be_acked);
    RUN(fingerprints_are_of_what_was_acknowledged);
    RUN(a_lost_log_begins_anew_and_the_old_one_is_remembered);
    RUN(an_ack_may_overtake_what_is_sent_anew);
    RUN(a_log_may_be_lost_within_a_session);
    RUN(acks_from_the_future_change_nothing_and_count);
    RUN(resuming_where_nothing_was_sent_or_all_is_acked_counts);
    RUN(content_follows_from_the_records_name);
    RUN(a_gap_runs_from_the_last_ack_before_to_the_next);
    RUN(quantiles_are_right_to_three_percent);
    RUN(the_books_balance_under_any_sequence);
    return 0;
}
