/* The fleet against the real controller layer, with this program as its vendor app: what the layer
 * hands up is stored and acknowledged, commands go down, and at the end both sides' books agree. */
#include "cscp.h"
#include "fleet-store.h"

#include <time.h>

enum { FIRST = 5000, MESSAGES_MAX = 256, SESSIONS_MAX = 256 };

/* The last connection of each controller. */
typedef struct side {
    cscp *layer;
    store store;
    uint64_t n_connected, n_commands, n_accepted;
    uint64_t outcomes[CSCP_COMMAND_UNSENT + 1], n_results;
} side;

static uint64_t steady_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static side *side_new(uint16_t k, uint16_t w) {
    side *self = calloc(1, sizeof(*self));
    cscp_range all = {.first = 1, .last = UINT64_MAX - 1, .epoch = 3};
    cscp_config config;

    CHECK(self);
    cscp_config_init(&config);
    config.bind_address = "127.0.0.1";
    config.port = 0;
    config.n_io_threads = 2;
    config.window_k = k;
    config.window_w = w;
    CHECK_EQ(cscp_new(&config, &self->layer), 0);
    CHECK_EQ(cscp_set_ranges(self->layer, &all, 1), 0);
    cscp_set_valid_until(self->layer, UINT64_MAX);
    return self;
}

static void take(side *self, const cscp_message *m, cscp_ack *acks, size_t *n_acks) {
    cscp_event event = {
        .log_epoch = m->log_epoch,
        .family = m->family,
        .code = m->code,
        .seq = m->seq,
        .occurred_at_ms = m->occurred_at_ms,
        .source_type = m->source_type,
        .source_number = m->source_number,
        .n_body = (uint16_t)m->n_body,
        .body = m->body ? m->body : (const uint8_t *)"",
    };

    switch (m->kind) {
    case CSCP_MSG_EVENT:
        if (m->flags & CSCP_EVENT_ADVISORY)
            return;
        store_records(&self->store, m->serial, m->log_epoch, m->seq, m->seq,
                      cscp_event_fingerprint(m->serial, &event), false);
        break;
    case CSCP_MSG_LOG_GAP:
        store_records(&self->store, m->serial, m->log_epoch, m->seq, m->through_seq, 0, true);
        break;
    case CSCP_MSG_LOG_RESET:
        store_records(&self->store, m->serial, m->log_epoch, 1, 1, 0, false);
        break;
    case CSCP_MSG_RESULT:
        self->n_results++;
        return;
    case CSCP_MSG_COMMAND:
        CHECK(m->status <= CSCP_COMMAND_UNSENT);
        self->outcomes[m->status]++;
        return;
    case CSCP_MSG_CONNECTED:
        self->n_connected++;
        return;
    default:
        return;
    }
    acks[(*n_acks)++] = (cscp_ack){
        .connection = m->connection,
        .log_epoch = m->log_epoch,
        .seq = m->kind == CSCP_MSG_LOG_GAP ? m->through_seq : m->seq,
    };
}

static void serve(side *self, int timeout_ms) {
    static cscp_message messages[MESSAGES_MAX];
    static cscp_ack acks[MESSAGES_MAX];
    size_t n_acks = 0;
    int n = cscp_get_messages(self->layer, messages, MESSAGES_MAX, timeout_ms);

    CHECK(n >= 0);
    for (int i = 0; i < n; i++)
        take(self, &messages[i], acks, &n_acks);
    if (n_acks > 0)
        CHECK_EQ(cscp_event_ack(self->layer, acks, n_acks), 0);
}

static void unlock(side *self, uint64_t serial) {
    static const uint8_t body[8] = {0, 1, 0, 0, 0, 0, 0, 20};
    cscp_command command = {.serial = serial, .code = 1, .n_body = sizeof(body), .body = body};
    uint64_t number = ++self->n_commands;

    memcpy(command.id, &number, sizeof(number));
    if (cscp_config_command(self->layer, &command) == 0)
        self->n_accepted++;
}

static fleet_report run(side *self, fleet_config *config, bool commands) {
    char target[32], why[FLEET_WHY_SIZE];
    uint64_t until = steady_ms() + 90000, turns = 0;
    fleet_report report;
    fleet *fleet;

    snprintf(target, sizeof(target), "127.0.0.1:%u", cscp_port(self->layer));
    config->targets = target;
    config->first_serial = FIRST;
    config->log_epoch = 1;
    config->backoff_min_ms = 20;
    config->backoff_max_ms = 200;
    CHECK_EQ(fleet_new(config, &fleet, why), 0);
    CHECK_EQ(fleet_start(fleet), 0);
    while (fleet_wait(fleet, 0) != FLEET_FINISHED) {
        CHECK(steady_ms() < until);
        serve(self, 2);
        if (commands && turns++ % 4 == 0)
            unlock(self, FIRST + turns / 4 % config->n_controllers);
    }
    store_verify(&self->store, fleet);
    fleet_get_report(fleet, &report);
    if (!fleet_report_is_clean(&report))
        fleet_report_print_text(fleet, &report, 2);
    fleet_free(fleet);
    return report;
}

static void side_free(side *self) {
    cscp_free(self->layer);
    free(self);
}

static void the_layer_and_the_fleet_agree(void) {
    side *self = side_new(64, 16);
    fleet_config config;
    fleet_report report;

    fleet_config_init(&config);
    config.n_controllers = 200;
    config.event_rate = 50;
    config.duration_s = 1.5;
    report = run(self, &config, true);
    CHECK(fleet_report_is_clean(&report));
    CHECK_EQ(report.acked + report.pending, report.generated);
    CHECK_EQ(report.connected, 200);
    CHECK_EQ(report.verify_logs, 200);
    CHECK(self->store.n_records >= report.acked);
    CHECK_EQ(report.resent + report.protocol_errors + report.acks_invalid, 0);
    CHECK(report.commands_executed > 0);
    CHECK_EQ(report.commands_executed, report.commands_received);
    side_free(self);
}

static void a_flood_stays_within_every_window(void) {
    static const uint16_t windows[] = {1, 2, 7, 64, 1024};

    for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++) {
        side *self = side_new(windows[i], (uint16_t)(windows[i] > 4 ? windows[i] / 4 : 1));
        fleet_config config;
        fleet_report report;

        fleet_config_init(&config);
        config.n_controllers = 20;
        config.flood = true;
        config.duration_s = 0.3;
        report = run(self, &config, false);
        CHECK(fleet_report_is_clean(&report));
        CHECK_EQ(report.resent + report.protocol_errors + report.acks_invalid, 0);
        CHECK(report.acked > 20);
        side_free(self);
    }
}

static void no_fault_of_a_controller_loses_anything(void) {
    side *self = side_new(16, 4);
    fleet_config config;
    fleet_report report;

    fleet_config_init(&config);
    config.n_controllers = 100;
    config.n_threads = 2;
    config.event_rate = 20;
    config.access_share = 0.1;
    config.capacity = 100;
    config.duration_s = 4;
    config.faults = "disconnect:0.3,half-open:0.2,reboot:0.1,reboot-lost:0.1,log-clear:0.1,"
                    "slow-reader:0.1,malformed:0.3,clock-skew:0.3";
    report = run(self, &config, true);
    CHECK(fleet_report_is_clean(&report));
    CHECK(report.reconnects > 50);
    CHECK(report.fault_malformed > 20 && report.fault_half_open > 20);
    CHECK_EQ(report.acks_invalid + report.resume_invalid + report.resume_below_acked, 0);
    CHECK_EQ(report.protocol_errors, 0);
    CHECK_EQ(report.generated, report.acked + report.overwritten + report.reset_lost +
                                   report.pending);
    side_free(self);
}

int main(void) {
    RUN(the_layer_and_the_fleet_agree);
    RUN(a_flood_stays_within_every_window);
    RUN(no_fault_of_a_controller_loses_anything);
    return 0;
}
