/* The fleet at nodes that relay to each other, with this program as everybody's vendor app: whatever
 * becomes of owners, the books agree, nothing is out of order or stale, and nobody is disconnected. */
#include "cscp.h"
#include "fleet-store.h"

#include <arpa/inet.h>
#include <errno.h>
#include <time.h>

enum { FIRST = 5000, MESSAGES_MAX = 256, NODES_MAX = 4, IN_ORDER_MAX = 1024 };

static uint64_t steady_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

typedef struct town {
    cscp *nodes[NODES_MAX]; /* NULL: dead */
    unsigned n_nodes, owner;
    uint64_t epoch;
    store store;
    uint64_t connected[NODES_MAX], n_commands, n_accepted, n_results;
    uint64_t epochs[IN_ORDER_MAX], next[IN_ORDER_MAX]; /* of each controller's newest session */
} town;

static town *town_new(unsigned n_nodes, uint16_t k, uint16_t w) {
    static cscp_network loopback = {.prefix_bits = 96 + 8};
    town *self = calloc(1, sizeof(*self));
    cscp_config config;

    CHECK(self);
    inet_pton(AF_INET6, "::ffff:127.0.0.0", loopback.address);
    cscp_config_init(&config);
    config.bind_address = "127.0.0.1";
    config.port = 0;
    config.n_io_threads = 2;
    config.window_k = k;
    config.window_w = w;
    config.trusted = &loopback;
    config.n_trusted = 1;
    self->n_nodes = n_nodes;
    for (unsigned i = 0; i < n_nodes; i++) {
        CHECK_EQ(cscp_new(&config, &self->nodes[i]), 0);
        cscp_set_valid_until(self->nodes[i], UINT64_MAX);
    }
    return self;
}

static void town_free(town *self) {
    for (unsigned i = 0; i < self->n_nodes; i++)
        cscp_free(self->nodes[i]);
    free(self);
}

static void tell(town *self, unsigned node) {
    cscp_range all = {.first = 1, .last = UINT64_MAX - 1, .epoch = self->epoch};
    cscp_route route = {.first = 1, .last = UINT64_MAX - 1, .epoch = self->epoch};
    struct sockaddr_in *in = (void *)&route.address;

    if (!self->nodes[node])
        return;
    in->sin_family = AF_INET;
    in->sin_port = htons(cscp_port(self->nodes[self->owner]));
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (node == self->owner)
        CHECK_EQ(cscp_set_ownership(self->nodes[node], &all, 1, NULL, 0), 0);
    else
        CHECK_EQ(cscp_set_ownership(self->nodes[node], NULL, 0, &route, 1), 0);
}

/* The older owner hears of it before the newer: at most one at a time. In between, and after, come
 * the others. */
static void move_to(town *self, unsigned owner) {
    unsigned older = self->owner;

    self->owner = owner;
    self->epoch++;
    if (self->epoch % 2)
        for (unsigned i = 0; i < self->n_nodes; i++)
            if (i != owner && i != older)
                tell(self, i);
    tell(self, older);
    tell(self, owner);
    for (unsigned i = 0; i < self->n_nodes; i++)
        if (i != owner && i != older)
            tell(self, i);
}

/* Epochs never go back, and within a session nothing is left out. */
static void check_order(town *self, const cscp_message *m, uint64_t from,
                        uint64_t to) {
    uint64_t i = m->serial - FIRST;

    CHECK(i < IN_ORDER_MAX);
    if (m->owner_epoch < self->epochs[i])
        return; /* of a node that was the owner before: what it still has is dropped, as a vendor
                   app drops it */
    CHECK(m->log_epoch != 1 || from == self->next[i]);
    self->next[i] = to + 1;
}

static void take(town *self, unsigned node, const cscp_message *m, cscp_ack *acks,
                 size_t *n_acks) {
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
        check_order(self, m, m->seq, m->seq);
        store_records(&self->store, m->serial, m->log_epoch, m->seq, m->seq,
                      cscp_event_fingerprint(m->serial, &event), false);
        break;
    case CSCP_MSG_LOG_GAP:
        check_order(self, m, m->seq, m->through_seq);
        store_records(&self->store, m->serial, m->log_epoch, m->seq, m->through_seq, 0, true);
        break;
    case CSCP_MSG_LOG_RESET:
        store_records(&self->store, m->serial, m->log_epoch, 1, 1, 0, false);
        break;
    case CSCP_MSG_RESULT:
        self->n_results++;
        return;
    case CSCP_MSG_CONNECTED:
        self->connected[node]++;
        if (m->owner_epoch >= self->epochs[m->serial - FIRST]) {
            self->epochs[m->serial - FIRST] = m->owner_epoch;
            self->next[m->serial - FIRST] = m->seq;
        }
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

static void serve(town *self) {
    static cscp_message messages[MESSAGES_MAX];
    static cscp_ack acks[MESSAGES_MAX];

    for (unsigned node = 0; node < self->n_nodes; node++) {
        size_t n_acks = 0;
        int n;

        if (!self->nodes[node])
            continue;
        n = cscp_get_messages(self->nodes[node], messages, MESSAGES_MAX,
                              node == self->owner ? 1 : 0);
        CHECK(n >= 0);
        for (int i = 0; i < n; i++)
            take(self, node, &messages[i], acks, &n_acks);
        if (n_acks > 0)
            CHECK_EQ(cscp_event_ack(self->nodes[node], acks, n_acks), 0);
    }
}

static void unlock(town *self, uint64_t serial) {
    static const uint8_t body[8] = {0, 1, 0, 0, 0, 0, 0, 20};
    cscp_command command = {.serial = serial, .code = 1, .n_body = sizeof(body), .body = body};
    uint64_t number = ++self->n_commands;

    memcpy(command.id, &number, sizeof(number));
    if (self->nodes[self->owner] &&
        cscp_config_command(self->nodes[self->owner], &command) == 0)
        self->n_accepted++;
}

typedef void story(town *self, uint64_t ms, unsigned *step);

/* The fleet dials the nodes in `entries`; the story is told as time goes by. */
static fleet_report run(town *self, fleet_config *config, const unsigned *entries,
                        unsigned n_entries, story *story) {
    char targets[128] = "", why[FLEET_WHY_SIZE];
    uint64_t begin = steady_ms(), turns = 0;
    fleet_report report;
    unsigned step = 0;
    fleet *fleet;

    for (unsigned i = 0; i < n_entries; i++)
        snprintf(targets + strlen(targets), sizeof(targets) - strlen(targets), "%s127.0.0.1:%u",
                 i > 0 ? "," : "", cscp_port(self->nodes[entries[i]]));
    config->targets = targets;
    config->first_serial = FIRST;
    config->log_epoch = 1;
    config->backoff_min_ms = 20;
    config->backoff_max_ms = 200;
    CHECK_EQ(fleet_new(config, &fleet, why), 0);
    CHECK_EQ(fleet_start(fleet), 0);
    while (fleet_wait(fleet, 0) != FLEET_FINISHED) {
        CHECK(steady_ms() - begin < 90000);
        serve(self);
        story(self, steady_ms() - begin, &step);
        if (turns++ % 4 == 0)
            unlock(self, FIRST + turns / 4 % config->n_controllers);
    }
    store_verify(&self->store, fleet);
    fleet_get_report(fleet, &report);
    if (!fleet_report_is_clean(&report))
        fleet_report_print_text(fleet, &report, 2);
    fleet_free(fleet);
    return report;
}

static void check_books(const town *self, const fleet_report *report) {
    CHECK(fleet_report_is_clean(report));
    CHECK_EQ(report->acked + report->pending + report->overwritten + report->reset_lost,
             report->generated);
    CHECK(self->store.n_records >= report->acked);
    CHECK_EQ(report->verify_lost + report->verify_duplicated + report->verify_corrupt, 0);
    CHECK_EQ(report->protocol_errors + report->resume_invalid + report->resume_below_acked, 0);
    CHECK(report->commands_executed > 0);
}

static cscp_counters counters_of(const town *self, unsigned node) {
    cscp_counters counters;
    cscp_get_counters(self->nodes[node], &counters);
    return counters;
}

static void peace(town *self, uint64_t ms, unsigned *step) { (void)self, (void)ms, (void)step; }

static void five_hundred_are_served_by_a_node_they_do_not_know(void) {
    town *self = town_new(2, 64, 16);
    unsigned entries[] = {0};
    fleet_config config;

    self->owner = 1;
    move_to(self, 1);
    fleet_config_init(&config);
    config.n_controllers = 500;
    config.event_rate = 20;
    config.duration_s = 2;
    fleet_report report = run(self, &config, entries, 1, peace);
    check_books(self, &report);
    CHECK_EQ(report.connected, 500);
    CHECK_EQ(report.resent + report.acks_invalid + report.handovers + report.closed_by_host, 0);
    CHECK_EQ(report.commands_executed, report.commands_received);
    cscp_counters entry = counters_of(self, 0), owner = counters_of(self, 1);
    CHECK(entry.relay_attaches == 500 && entry.relay_losses + entry.relay_failures == 0);
    CHECK(entry.sessions == 0 && entry.events == 0 && owner.proxies_taken == 500);
    CHECK_EQ(entry.relay_frames_down >= report.acks, 1);
    town_free(self);
}

static void a_flood_stays_within_every_window(void) {
    static const uint16_t windows[] = {1, 7, 64, 1024};

    for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++) {
        town *self = town_new(2, windows[i], (uint16_t)(windows[i] > 4 ? windows[i] / 4 : 1));
        unsigned entries[] = {0};
        fleet_config config;

        self->owner = 1;
        move_to(self, 1);
        fleet_config_init(&config);
        config.n_controllers = 20;
        config.flood = true;
        config.duration_s = 0.3;
        fleet_report report = run(self, &config, entries, 1, peace);
        check_books(self, &report);
        CHECK_EQ(report.resent + report.acks_invalid, 0);
        town_free(self);
    }
}

/* A look at all that is relayed, while it changes. */
static void look(const town *self) {
    cscp_relay_info infos[50];

    for (unsigned node = 0; node < self->n_nodes; node++) {
        int n = cscp_list_relays(self->nodes[node], FIRST, infos, 50, 10000);

        CHECK(n >= 0 && n <= 50);
        for (int i = 0; i < n; i++) {
            CHECK(i == 0 || infos[i].serial > infos[i - 1].serial);
            CHECK(infos[i].epoch <= self->epoch && infos[i].owner[0] && infos[i].peer[0]);
            CHECK(infos[i].waiting_up <= 16384 && infos[i].waiting_down <= 16384);
        }
    }
}

/* Every 100 ms to the next. */
static void wander(town *self, uint64_t ms, unsigned *step) {
    if (ms / 100 <= *step || ms > 3000)
        return;
    (*step)++;
    look(self);
    move_to(self, (self->owner + 1) % self->n_nodes);
}

static void ownership_wanders_and_nobody_is_disconnected(void) {
    town *self = town_new(3, 64, 16);
    unsigned entries[] = {0, 1, 2};
    fleet_config config;

    move_to(self, 0);
    fleet_config_init(&config);
    config.n_controllers = 200;
    config.event_rate = 50;
    config.duration_s = 3.5;
    fleet_report report = run(self, &config, entries, 3, wander);
    check_books(self, &report);
    CHECK_EQ(report.closed_by_host + report.reconnects + report.timeouts + report.goaways, 0);
    CHECK(report.handovers > 200 * 10);
    CHECK(self->epoch > 20);
    printf("# %" PRIu64 " moves, %" PRIu64 " handovers, %" PRIu64 " events, %" PRIu64
           " sent again; gap p50 %.0f p99 %.0f ms\n",
           self->epoch - 1, report.handovers, report.acked, report.resent, report.gap.p50,
           report.gap.p99);
    town_free(self);
}

/* The same under a flood: windows are full at every moment. */
static void ownership_wanders_in_a_flood(void) {
    town *self = town_new(2, 64, 16);
    unsigned entries[] = {0, 1};
    fleet_config config;

    move_to(self, 0);
    fleet_config_init(&config);
    config.n_controllers = 20;
    config.flood = true;
    config.duration_s = 3.5;
    fleet_report report = run(self, &config, entries, 2, wander);
    check_books(self, &report);
    CHECK_EQ(report.closed_by_host + report.reconnects + report.timeouts + report.goaways, 0);
    town_free(self);
}

/* At 1 s the owner dies, at 1.3 s another has it; at 2 s that one dies, too. */
static void owners_die(town *self, uint64_t ms, unsigned *step) {
    static const uint64_t times[] = {1000, 1300, 2000, 2300};

    if (*step >= 4 || ms < times[*step])
        return;
    if (*step % 2 == 0)
        self->nodes[self->owner] = cscp_free(self->nodes[self->owner]);
    else
        move_to(self, self->owner + 1);
    (*step)++;
}

static void owners_die_and_their_controllers_stay(void) {
    town *self = town_new(4, 64, 16);
    unsigned entries[] = {0};
    fleet_config config;

    self->owner = 1;
    move_to(self, 1);
    fleet_config_init(&config);
    config.n_controllers = 500;
    config.event_rate = 10;
    config.duration_s = 3;
    config.seed = 3;
    unsigned before = self->owner;
    fleet_report report = run(self, &config, entries, 1, owners_die);
    CHECK(self->owner == before + 2);
    check_books(self, &report);
    CHECK_EQ(report.closed_by_host + report.reconnects + report.timeouts + report.goaways, 0);
    CHECK_EQ(report.connected, 500);
    CHECK(report.handovers >= 1000);
    printf("# gap p50 %.0f p99 %.0f max %.0f ms, 300 of them without an owner\n", report.gap.p50,
           report.gap.p99, report.gap.max);
    CHECK(report.gap.p99 < 2000);
    town_free(self);
}

static void no_fault_of_a_controller_loses_anything(void) {
    town *self = town_new(2, 16, 4);
    unsigned entries[] = {0, 1};
    fleet_config config;

    move_to(self, 0);
    fleet_config_init(&config);
    config.n_controllers = 100;
    config.n_threads = 2;
    config.event_rate = 20;
    config.access_share = 0.1;
    config.capacity = 100;
    config.duration_s = 4;
    config.faults = "disconnect:0.3,half-open:0.2,reboot:0.1,reboot-lost:0.1,log-clear:0.1,"
                    "slow-reader:0.1,malformed:0.3,clock-skew:0.3";
    fleet_report report = run(self, &config, entries, 2, wander);
    CHECK(fleet_report_is_clean(&report));
    CHECK(report.reconnects > 50);
    CHECK(report.fault_malformed > 20 && report.fault_half_open > 20);
    CHECK_EQ(report.resume_below_acked + report.protocol_errors, 0);
    CHECK_EQ(report.generated, report.acked + report.overwritten + report.reset_lost +
                                   report.pending);
    town_free(self);
}

int main(void) {
    RUN(five_hundred_are_served_by_a_node_they_do_not_know);
    RUN(a_flood_stays_within_every_window);
    RUN(ownership_wanders_and_nobody_is_disconnected);
    RUN(ownership_wanders_in_a_flood);
    RUN(owners_die_and_their_controllers_stay);
    RUN(no_fault_of_a_controller_loses_anything);
    return 0;
}
