/* The fleet over real sockets against a host that breaks its duties: every breach shows in the report, and in
 * the ledger. */
#include "fleet-bout.h"

/* --- Breaches of the host's, each of which must show ------------------------------------------ */

static void a_lost_ack_shows(void) {
    bout *b = bout_new(2, 100, 0.4);

    b->config.drain_s = 0.3;
    b->host->silent_above = 20;
    start(b);
    finish(b);
    CHECK(!fleet_report_is_clean(&b->report));
    CHECK_EQ(b->report.acked, 40);
    CHECK_EQ(b->report.lost, b->report.generated - 40);
    /* All of it is stored; only the fleet was not told. */
    verify(b);
    CHECK(b->report.verify_lost == 0 && b->report.verify_corrupt == 0);
    bout_free(b);
}

static void a_record_acknowledged_and_not_stored_shows(void) {
    bout *b = bout_new(2, 100, 0.4);

    b->host->forget_seq = 7;
    start(b);
    finish(b);
    CHECK(fleet_report_is_clean(&b->report));
    verify(b);
    CHECK(!fleet_report_is_clean(&b->report));
    CHECK_EQ(b->report.lost, 2);
    bout_free(b);
}

static void what_is_stored_and_is_not_what_was_sent_shows(void) {
    static const struct {
        uint64_t last, gaps, sum, duplicates, first;
        uint64_t lost, duplicated, corrupt;
    } table[] = {
        {0, 0, 0, 0, 0, 0, 0, 0},
        {0, 0, 1, 0, 0, 0, 0, 1},          /* other contents */
        {0, 1, 0, 0, 0, 0, 0, 1},          /* a gap that never was */
        {(uint64_t)-3, 0, 0, 0, 0, 3, 0, 0}, /* the end is missing */
        {2, 0, 0, 0, 0, 0, 0, 1},          /* more than was sent */
        {0, 0, 0, 4, 0, 0, 4, 0},          /* stored twice */
        {0, 0, 0, 0, 2, 2, 0, 0},          /* the beginning is missing */
    };

    for (unsigned i = 0; i < sizeof(table) / sizeof(*table); i++) {
        bout *b = bout_new(1, 100, 0.2);
        fleet_audit *log;

        start(b);
        finish(b);
        log = store_log(&b->host->store, FIRST, 1);
        log->last_seq += table[i].last;
        log->gap_records += table[i].gaps;
        log->fingerprint_sum += table[i].sum;
        log->duplicates += table[i].duplicates;
        log->first_seq += table[i].first;
        verify(b);
        CHECK_EQ(b->report.verify_lost, table[i].lost);
        CHECK_EQ(b->report.verify_duplicated, table[i].duplicated);
        CHECK_EQ(b->report.verify_corrupt, table[i].corrupt);
        CHECK_EQ(fleet_report_is_clean(&b->report), i == 0);
        bout_free(b);
    }
}

/* "Begin again, and go away", in one breath; then the log is lost. */
static void begin_again_elsewhere(host *self) {
    uint8_t bytes[CSCP_WELCOME_FRAME + CSCP_PAIR_FRAME];
    cscp_welcome welcome = {
        .session_id = 1, .owner_epoch = self->epoch, .k = self->k, .w = self->w, .resume_from = 1,
        .host_time_ms = host_ms(self), .t1_ms = 15000, .t2_ms = 500, .t3_ms = self->t3_ms,
        .bulk_window = 1,
    };

    for (int i = 0; i < VISITORS_MAX; i++) {
        visitor *v = &self->visitors[i];

        if (v->fd < 0 || v->n_events < 5)
            continue;
        welcome.log_epoch = v->log_epoch;
        welcome.resume_from = v->acked + 1;
        size_t n = cscp_write_welcome(bytes, &welcome);
        n += cscp_write_goaway(bytes + n, CSCP_REASON_STOPPING, 300);
        host_send(self, v, bytes, n);
        visitor_close(v);
    }
}

static void a_log_lost_before_it_was_sent_again_cannot_be_compared(void) {
    bout *b = bout_new(4, 200, 2.5);
    uint64_t until = steady_ms() + 2000;

    b->config.faults = "reboot-lost:2";
    b->host->ack_delay_ms = 60000;
    start(b);
    while (steady_ms() < until) {
        host_serve(b->host, 2);
        begin_again_elsewhere(b->host);
    }
    b->host->ack_delay_ms = 0;
    b->host->w = 1;
    for (int i = 0; i < VISITORS_MAX; i++)
        b->host->visitors[i].ack_at_ms = 0;
    finish(b);
    verify(b);
    CHECK(b->report.fault_reboot_lost > 5);
    CHECK(b->report.goaways > 10);
    CHECK_EQ(b->report.verify_corrupt, 0);
    CHECK(fleet_report_is_clean(&b->report));
    bout_free(b);
}

static void a_log_of_which_nothing_is_stored_shows(void) {
    bout *b = bout_new(2, 100, 0.2);

    start(b);
    finish(b);
    b->host->store.n = 1;
    verify(b);
    CHECK_EQ(b->report.verify_logs, 1);
    CHECK(b->report.verify_lost > 0 && b->report.verify_lost < b->report.acked);
    bout_free(b);
}

static void an_ack_from_the_future_shows_and_acknowledges_nothing(void) {
    bout *b = bout_new(1, 50, 0.4);

    b->config.drain_s = 0.2;
    b->host->ack_ahead = 1000;
    start(b);
    finish(b);
    CHECK(b->report.acks_invalid > 0);
    CHECK_EQ(b->report.acked, 0);
    CHECK_EQ(b->report.lost, b->report.generated);
    bout_free(b);
}

enum { UNLOCK = 1, STATUS = 6 };
static const uint8_t unlock_1[8] = {0, 1, 0, 0, 0, 0, 0, 50};

static void same_command(host *h, visitor *v) {
    for (int i = 0; i < 5; i++)
        host_command(h, v, 1, h->epoch, 0, UNLOCK, unlock_1, sizeof(unlock_1));
}

static bool five_commands(bout *b) {
    return b->report.commands_received >= 5 * b->config.n_controllers;
}

/* Repeating is the host's right: the controller acts once. */
static void a_repeated_command_is_executed_once(void) {
    bout *b = bout_new(1, 0, 0);

    b->host->on_welcomed = same_command;
    start(b);
    serve_until(b, five_commands);
    fleet_stop(b->fleet, 5);
    finish(b);
    CHECK(fleet_report_is_clean(&b->report));
    CHECK_EQ(b->report.commands_executed, 1);
    CHECK_EQ(b->report.commands_repeated, 4);
    bout_free(b);
}

/* One command to two controllers, in different threads. */
static void a_command_executed_twice_shows(void) {
    for (uint32_t threads = 1; threads <= 2; threads++) {
        bout *b = bout_new(2, 0, 0);

        b->config.n_threads = threads;
        b->host->on_welcomed = same_command;
        start(b);
        serve_until(b, five_commands);
        fleet_stop(b->fleet, 5);
        finish(b);
        CHECK_EQ(b->report.commands_executed, 2);
        CHECK_EQ(b->report.commands_duplicate, 1);
        CHECK(!fleet_report_is_clean(&b->report));
        bout_free(b);
    }
}

static void late_command(host *h, visitor *v) {
    /* By its own clock there is a minute left, by the true one it is over. */
    host_command(h, v, 1, h->epoch, host_ms(h) + 60000, UNLOCK, unlock_1, sizeof(unlock_1));
    host_command(h, v, 2, h->epoch, host_ms(h) - 1, UNLOCK, unlock_1, sizeof(unlock_1));
}

static bool two_commands(bout *b) {
    return b->report.commands_received >= 2;
}

static void a_command_executed_late_shows(void) {
    bout *b = bout_new(1, 0, 0);

    b->host->clock_ms = -3600000;
    b->host->on_welcomed = late_command;
    start(b);
    serve_until(b, two_commands);
    fleet_stop(b->fleet, 5);
    finish(b);
    CHECK_EQ(b->report.commands_executed, 1);
    CHECK_EQ(b->report.commands_expired, 1);
    CHECK_EQ(b->report.commands_late, 1);
    CHECK(b->report.late_max_ms > 3500000);
    CHECK(!fleet_report_is_clean(&b->report));
    bout_free(b);
}

static void old_epoch(host *h, visitor *v) {
    host_welcome(h, v, 7);
    host_command(h, v, 1, 6, 0, UNLOCK, unlock_1, sizeof(unlock_1));
    host_welcome(h, v, 6);
    host_command(h, v, 2, 7, 0, STATUS, NULL, 0);
}

static bool one_command(bout *b) {
    return b->report.commands_executed >= 1;
}

static void a_stale_epoch_shows_and_is_refused(void) {
    bout *b = bout_new(1, 0, 0);

    b->host->on_hello = old_epoch;
    start(b);
    serve_until(b, one_command);
    fleet_stop(b->fleet, 5);
    finish(b);
    CHECK_EQ(b->report.commands_executed, 1);
    CHECK_EQ(b->report.commands_stale_epoch, 2);
    CHECK_EQ(b->report.stale_refused, 2);
    CHECK_EQ(b->host->n_stale, 2);
    CHECK(!fleet_report_is_clean(&b->report));
    bout_free(b);
}

static void the_ledger_has_a_line_for_every_log(void) {
    bout *b = bout_new(3, 50, 0.3);
    char path[] = "/tmp/fleet-ledger-XXXXXX", line[4096];
    int fd = mkstemp(path), n = 0;
    FILE *file;

    CHECK(fd >= 0);
    b->host->on_welcomed = same_command;
    start(b);
    finish(b);
    CHECK_EQ(fleet_write_ledger(b->fleet, path), 0);
    CHECK((file = fdopen(fd, "r")) != NULL);
    for (; fgets(line, sizeof(line), file); n++) {
        char want[128];
        fleet_audit *log = store_log(&b->host->store, (uint64_t)(FIRST + n), 1);

        snprintf(want, sizeof(want), "{\"serial\":%d,\"log_epoch\":1,\"first\":1,\"last\":%" PRIu64,
                 FIRST + n, log->last_seq);
        CHECK(strncmp(line, want, strlen(want)) == 0);
        snprintf(want, sizeof(want), "\"fingerprint_sum\":\"%016" PRIx64 "\"",
                 log->fingerprint_sum);
        CHECK(strstr(line, want));
        CHECK(strstr(line, "\"01010101010101010101010101010101\""));
    }
    CHECK_EQ(n, 3);
    CHECK(fleet_write_ledger(b->fleet, "/nowhere/at/all") < 0);
    fclose(file);
    unlink(path);
    bout_free(b);
}

int main(void) {
    RUN(a_lost_ack_shows);
    RUN(a_record_acknowledged_and_not_stored_shows);
    RUN(what_is_stored_and_is_not_what_was_sent_shows);
    RUN(a_log_lost_before_it_was_sent_again_cannot_be_compared);
    RUN(a_log_of_which_nothing_is_stored_shows);
    RUN(an_ack_from_the_future_shows_and_acknowledges_nothing);
    RUN(a_repeated_command_is_executed_once);
    RUN(a_command_executed_twice_shows);
    RUN(a_command_executed_late_shows);
    RUN(a_stale_epoch_shows_and_is_refused);
    RUN(the_ledger_has_a_line_for_every_log);
    return 0;
}
