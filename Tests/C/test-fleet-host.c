/* The fleet over real sockets against a host that does what it is told: an honest one leaves it
 * clean, and every breach of a host's duties shows in the report. */
#include "fleet-store.h"
#include "scripted-host.h"

#include <sys/resource.h>

enum { FIRST = 1000 };

/* A fleet and its host, and the report when both are done. */
typedef struct bout {
    host *host;
    fleet *fleet;
    fleet_config config;
    char target[32];
    fleet_report report;
} bout;

static bout *bout_new(uint32_t n_controllers, double rate, double duration_s) {
    bout *b = calloc(1, sizeof(*b));

    CHECK(b);
    b->host = host_new();
    snprintf(b->target, sizeof(b->target), "127.0.0.1:%u", b->host->port);
    fleet_config_init(&b->config);
    b->config.targets = b->target;
    b->config.first_serial = FIRST;
    b->config.n_controllers = n_controllers;
    b->config.event_rate = rate;
    b->config.duration_s = duration_s;
    b->config.drain_s = 10;
    b->config.backoff_min_ms = 10;
    b->config.backoff_max_ms = 50;
    b->config.log_epoch = 1;
    return b;
}

static void start(bout *b) {
    char why[FLEET_WHY_SIZE];

    if (fleet_new(&b->config, &b->fleet, why) < 0) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    CHECK_EQ(fleet_start(b->fleet), 0);
}

/* Serves until the fleet is done, at most 60 s. */
static void finish(bout *b) {
    uint64_t until = steady_ms() + 60000;

    while (fleet_wait(b->fleet, 0) != FLEET_FINISHED) {
        CHECK(steady_ms() < until);
        host_serve(b->host, 5);
    }
    fleet_get_report(b->fleet, &b->report);
}

static void serve_until(bout *b, bool (*done)(bout *b)) {
    uint64_t until = steady_ms() + 20000;

    while (!done(b)) {
        CHECK(steady_ms() < until);
        host_serve(b->host, 5);
        fleet_get_report(b->fleet, &b->report);
    }
}

static void verify(bout *b) {
    store_verify(&b->host->store, b->fleet);
    fleet_get_report(b->fleet, &b->report);
}

static void bout_free(bout *b) {
    fleet_free(b->fleet);
    host_free(b->host);
    free(b);
}

static bool books_balance(const fleet_report *r) {
    return r->generated == r->acked + r->overwritten + r->reset_lost + r->pending + r->lost -
                               r->verify_lost;
}

/* --- An honest host --------------------------------------------------------------------------- */

static void an_honest_host_leaves_it_clean(void) {
    bout *b = bout_new(20, 100, 0.5);

    b->config.n_threads = 2;
    b->config.log_epoch = 9; /* begins with LOG_RESET */
    start(b);
    finish(b);
    verify(b);
    CHECK(fleet_report_is_clean(&b->report));
    CHECK(books_balance(&b->report));
    CHECK_EQ(b->report.connected, 20);
    CHECK_EQ(b->report.verify_logs, 20);
    CHECK_EQ(b->report.acked, b->report.generated);
    CHECK(b->report.generated > 700 && b->report.generated < 1300);
    CHECK_EQ(b->report.acks_invalid + b->report.protocol_errors + b->report.resent, 0);
    CHECK_EQ(b->report.ack.count, b->report.acked);
    bout_free(b);
}

static void bytes_one_by_one_are_the_same(void) {
    bout *b = bout_new(3, 100, 0.2);

    b->host->dribble = true;
    start(b);
    finish(b);
    verify(b);
    CHECK(fleet_report_is_clean(&b->report));
    CHECK_EQ(b->report.resyncs, 0);
    bout_free(b);
}

static void a_flood_fills_the_window_and_no_more(void) {
    bout *b = bout_new(4, 0, 0.3);

    b->config.flood = true;
    b->host->k = 1024;
    b->host->w = 512;
    start(b);
    finish(b);
    verify(b);
    CHECK(fleet_report_is_clean(&b->report));
    CHECK(b->report.acked > 10000);
    bout_free(b);
}

/* What the network does not take at once waits, and nothing is lost or torn. */
static void a_host_that_does_not_read_for_a_while_gets_everything(void) {
    bout *b = bout_new(2, 0, 0.6);
    int small = 2048;

    b->config.flood = true;
    b->host->k = 1024;
    b->host->w = 1024;
    CHECK(setsockopt(b->host->listen_fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) == 0);
    b->host->deaf_until_ms = 0;
    start(b);
    host_serve(b->host, 50);
    b->host->deaf_until_ms = steady_ms() + 300;
    finish(b);
    verify(b);
    CHECK(fleet_report_is_clean(&b->report));
    bout_free(b);
}

static void dropped_connections_lose_nothing_and_show_as_gaps(void) {
    bout *b = bout_new(10, 100, 0.6);

    b->host->drop_after = 20;
    start(b);
    finish(b);
    verify(b);
    CHECK(fleet_report_is_clean(&b->report));
    CHECK(b->report.reconnects >= 10);
    CHECK(b->report.closed_by_host >= 10);
    CHECK(b->report.gap.count >= 10 && b->report.gap.max > 0);
    CHECK(b->report.outage.count >= 10 && b->report.outage.max < 5000);
    bout_free(b);
}

static void a_full_log_declares_what_it_overwrote(void) {
    bout *b = bout_new(3, 500, 0.5);

    b->config.capacity = 20;
    b->host->ack_delay_ms = 100;
    b->host->k = 8;
    b->host->w = 8;
    start(b);
    finish(b);
    verify(b);
    CHECK(fleet_report_is_clean(&b->report));
    CHECK(books_balance(&b->report));
    CHECK(b->report.overwritten > 0);
    CHECK(b->report.gaps > 0);
    CHECK_EQ(b->report.gap_records, b->report.overwritten);
    bout_free(b);
}

static bool has_pinged(bout *b) {
    return b->report.pings >= 3;
}

static void an_idle_controller_pings(void) {
    bout *b = bout_new(3, 0, 0);

    b->host->t3_ms = 50;
    start(b);
    serve_until(b, has_pinged);
    CHECK_EQ(b->report.connected, 3);
    fleet_stop(b->fleet, 0);
    finish(b);
    CHECK(fleet_report_is_clean(&b->report));
    CHECK_EQ(b->report.timeouts, 0);
    bout_free(b);
}

static void answers_to_hello_are_obeyed_step(host *h, visitor *v) {
    uint8_t bytes[CSCP_FRAME_MAX], redirect[64];
    size_t n = 0;

    switch (h->n_hellos) {
    case 1:
        n = cscp_write_busy(bytes, 20, 10);
        break;
    case 2:
        n = cscp_write_reject(bytes, CSCP_REASON_BUSY, "not today");
        break;
    case 3:
        redirect[0] = 1;
        redirect[1] = (uint8_t)snprintf((char *)redirect + 2, 60, "127.0.0.1:%u", h->port);
        n = cscp_write_frame(bytes, CSCP_REDIRECT, redirect, 2u + redirect[1]);
        break;
    case 4:
        host_welcome(h, v, 1);
        n = cscp_write_goaway(bytes, CSCP_REASON_STOPPING, 20);
        break;
    case 5:
        host_welcome(h, v, 1);
        n = cscp_write_u64(bytes, CSCP_SUPERSEDED, 5);
        break;
    default:
        host_welcome(h, v, 1);
        return;
    }
    host_send(h, v, bytes, n);
}

static bool welcomed_thrice(bout *b) {
    return b->report.welcomes >= 3;
}

static void answers_to_hello_are_obeyed(void) {
    bout *b = bout_new(1, 10, 0);

    b->host->on_hello = answers_to_hello_are_obeyed_step;
    start(b);
    serve_until(b, welcomed_thrice);
    fleet_stop(b->fleet, 10);
    finish(b);
    CHECK(fleet_report_is_clean(&b->report));
    CHECK(b->report.busy == 1 && b->report.rejects == 1 && b->report.redirects == 1);
    CHECK(b->report.goaways == 1 && b->report.superseded == 1);
    CHECK_EQ(b->report.reconnects, 2);
    bout_free(b);
}

/* --- Faults of the fleet's own ---------------------------------------------------------------- */

static void its_own_faults_lose_nothing(void) {
    bout *b = bout_new(40, 50, 3);

    b->config.n_threads = 2;
    b->config.capacity = 50;
    b->config.access_share = 0.1;
    b->config.faults = "disconnect:0.5,half-open:0.3,reboot:0.2,reboot-lost:0.2,log-clear:0.2,"
                       "slow-reader:0.2,malformed:0.5,clock-skew:0.5";
    b->host->tolerant = true;
    start(b);
    finish(b);
    verify(b);
    CHECK(fleet_report_is_clean(&b->report));
    CHECK(books_balance(&b->report));
    CHECK(b->report.fault_disconnect > 10 && b->report.fault_half_open > 5);
    CHECK(b->report.fault_reboot > 5 && b->report.fault_reboot_lost > 5);
    CHECK(b->report.fault_log_clear > 5 && b->report.fault_slow_reader > 5);
    CHECK(b->report.fault_malformed > 10 && b->report.fault_clock_skew > 10);
    CHECK(b->report.resets >= b->report.fault_reboot_lost + b->report.fault_log_clear);
    CHECK(b->report.verify_logs > 40);
    CHECK_EQ(b->host->n_bad_order, 0);
    CHECK_EQ(b->report.acks_invalid, 0);
    bout_free(b);
}

static void synchronised_fleets_return_at_the_same_instants(void) {
    bout *b = bout_new(9, 100, 0.8);

    b->config.faults = "sync-reconnect";
    b->host->drop_after = 20;
    start(b);
    finish(b);
    CHECK(fleet_report_is_clean(&b->report));
    CHECK(b->report.reconnects >= 9);
    bout_free(b);
}

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

/* --- The program's own ------------------------------------------------------------------------ */

static void wrong_configurations_are_refused_with_the_reason(void) {
    static const struct {
        const char *targets, *faults;
        uint32_t n;
        uint64_t first;
        const char *why;
    } table[] = {
        {"", "", 1, 1, "HOST:PORT"},
        {"nowhere", "", 1, 1, "HOST:PORT"},
        {"127.0.0.1:0", "", 1, 1, "HOST:PORT"},
        {"127.0.0.1:1,127.0.0.1:70000", "", 1, 1, "70000"},
        {"127.0.0.1:1", "flood", 1, 1, "flood"},
        {"127.0.0.1:1", "reboot:x", 1, 1, "reboot:x"},
        {"127.0.0.1:1", "reboot:-1", 1, 1, "reboot:-1"},
        {"127.0.0.1:1", "sync-reconnect:1", 1, 1, "sync-reconnect"},
        {"127.0.0.1:1", "", 0, 1, "controllers"},
        {"127.0.0.1:1", "", 1, 0, "serial"},
        {"127.0.0.1:1", "", 2, UINT64_MAX - 2, "serial"},
        {"127.0.0.1:1", "", 1000000, 1, "descriptors"},
    };
    struct rlimit few = {.rlim_cur = 4096, .rlim_max = 4096};

    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (unsigned i = 0; i < sizeof(table) / sizeof(*table); i++) {
        fleet_config config;
        fleet *fleet;
        char why[FLEET_WHY_SIZE];

        fleet_config_init(&config);
        config.targets = table[i].targets;
        config.faults = table[i].faults;
        config.n_controllers = table[i].n;
        config.first_serial = table[i].first;
        CHECK(fleet_new(&config, &fleet, why) < 0);
        if (!strstr(why, table[i].why))
            fprintf(stderr, "'%s' does not say '%s'\n", why, table[i].why);
        CHECK(strstr(why, table[i].why));
    }
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
    RUN(an_honest_host_leaves_it_clean);
    RUN(bytes_one_by_one_are_the_same);
    RUN(a_flood_fills_the_window_and_no_more);
    RUN(a_host_that_does_not_read_for_a_while_gets_everything);
    RUN(dropped_connections_lose_nothing_and_show_as_gaps);
    RUN(a_full_log_declares_what_it_overwrote);
    RUN(an_idle_controller_pings);
    RUN(answers_to_hello_are_obeyed);
    RUN(its_own_faults_lose_nothing);
    RUN(synchronised_fleets_return_at_the_same_instants);
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
    RUN(wrong_configurations_are_refused_with_the_reason);
    RUN(the_ledger_has_a_line_for_every_log);
    return 0;
}
