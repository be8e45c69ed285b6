/* Hosts that are killed at any moment, again and again, under a fleet that counts: no controller is
 * disconnected, nothing is lost, nothing is stored twice, nothing is taken back that was
 * acknowledged. */
#include "park-rig.h"

enum { N = 300, KILLS = 60 };

static uint64_t random_state;

static unsigned below(unsigned n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

static void check(rig_manager *manager, fleet *fleet) {
    fleet_report report;

    for (unsigned i = 0; i < N; i++)
        fleet_verify_log(fleet, &manager->disk->logs[i].copies[manager->disk->logs[i].newest]);
    fleet_verify_finish(fleet);
    fleet_get_report(fleet, &report);
    printf("%" PRIu64 " events, %" PRIu64 " sent again, %" PRIu64 " commands executed, %" PRIu64
           " answered from memory, %" PRIu64 " second WELCOMEs, %" PRIu64 " resyncs\n",
           report.acked, report.resent, report.commands_executed, report.commands_repeated,
           report.handovers, report.resyncs);
    CHECK_EQ(report.acks_invalid, 0);
    CHECK_EQ(report.sessions_ended, 0);
    CHECK_EQ(report.reconnects, 0);
    CHECK_EQ(report.closed_by_host + report.timeouts, 0);
    CHECK_EQ(report.lost, 0);
    CHECK_EQ(report.duplicated, 0);
    CHECK_EQ(report.verify_lost + report.verify_duplicated + report.verify_corrupt, 0);
    CHECK_EQ(report.gaps, 0);
    CHECK_EQ(report.resume_below_acked, 0);
    CHECK_EQ(report.resume_invalid, 0);
    CHECK_EQ(report.protocol_errors, 0);
    CHECK_EQ(report.commands_duplicate, 0);
    CHECK(fleet_report_is_clean(&report));
    CHECK(report.acked > 1000 && report.handovers > N * 4);
}

static fleet *start_fleet(uint16_t port) {
    char target[32], why[FLEET_WHY_SIZE];
    fleet_config config;
    fleet *fleet;

    snprintf(target, sizeof(target), "127.0.0.1:%u", port);
    fleet_config_init(&config);
    config.targets = target;
    config.first_serial = RIG_FIRST;
    config.n_controllers = N;
    config.n_threads = 1;
    config.event_rate = 20;
    config.burst = 4;
    config.log_epoch = 1;
    config.seed = random_state;
    CHECK_EQ(fleet_new(&config, &fleet, why), 0);
    CHECK_EQ(fleet_start(fleet), 0);
    return fleet;
}

static void nobody_notices_that_hosts_are_killed(void) {
    static rig_manager manager;
    unsigned n_early = 0;
    fleet *fleet;

    random_state = (uint64_t)getpid() << 32 | (uint64_t)time(NULL);
    printf("seed %" PRIu64 "\n", random_state);
    rig_open(&manager, 2, true);
    rig_start(&manager);
    RIG_UNTIL(&manager, manager.disk->ready == 1);
    fleet = start_fleet((uint16_t)manager.disk->port);
    RIG_UNTIL(&manager, manager.disk->sessions == N && manager.disk->parked == N);
    for (unsigned i = 0; i < KILLS; i++) {
        /* Every second one before it has begun to serve, perhaps; every second one while it does. */
        bool early = i % 2 == 1;

        if (!early)
            RIG_UNTIL(&manager, manager.disk->sessions == N);
        usleep(below(early ? 30000 : 50000));
        n_early += early && manager.disk->sessions != N;
        rig_kill(&manager, i % 5 == 4 ? SIGABRT : SIGKILL);
        rig_start(&manager);
    }
    RIG_UNTIL(&manager, manager.disk->sessions == N && manager.disk->parked == N);
    CHECK_EQ(rig_endings(&manager), 0);
    CHECK_EQ(manager.disk->resumed, N);
    CHECK_EQ(manager.disk->dropped, 0);
    CHECK_EQ(manager.disk->park_failures, 0);
    printf("%u of %u killed before everybody was welcomed\n", n_early, KILLS);
    CHECK(n_early > 0);
    CHECK(keeper_count(&manager.keeper, "cscp.book") == 1);
    CHECK(keeper_count(&manager.keeper, "cscp.lot") < 12);
    fleet_stop(fleet, 20);
    CHECK_EQ(fleet_wait(fleet, 30000), FLEET_FINISHED);
    check(&manager, fleet);
    fleet_free(fleet);
    rig_kill(&manager, SIGKILL);
    keeper_done(&manager.keeper);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "host") == 0)
        return rig_host(argc, argv);
    RUN(nobody_notices_that_hosts_are_killed);
    return 0;
}
