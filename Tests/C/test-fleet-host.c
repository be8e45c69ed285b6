/* The fleet over real sockets against an honest host, with faults of its own; and what configurations it
 * refuses. */
#include "fleet-bout.h"

#include <sys/resource.h>

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
    RUN(wrong_configurations_are_refused_with_the_reason);
    return 0;
}
