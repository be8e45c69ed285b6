/* How long it takes to go on with what another process had, and what that costs meanwhile.
 *
 *   bench-park [controllers [kills [events/s and controller]]]
 *
 * Hosts are killed one after the other under a fleet. Prints, per kill, how long it took from the
 * kill until every controller had its WELCOME, and until the host had everything (sockets found,
 * joined, book kept); and what the fleet saw. */
#include "park-rig.h"

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print_quantiles(const char *what, double *ms, unsigned n) {
    qsort(ms, n, sizeof(*ms), by_size);
    printf("%s: p50 %.1f ms, p99 %.1f ms, max %.1f ms (%u kills)\n", what, ms[n / 2],
           ms[(n * 99 + 99) / 100 - 1], ms[n - 1], n);
}

static double now_ms_exact(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    enum { KILLS_MAX = 1000 };
    static rig_manager manager;
    static double ready_ms[KILLS_MAX], welcomed_ms[KILLS_MAX];
    char target[32], why[FLEET_WHY_SIZE];
    fleet_config config;
    fleet_report report;
    fleet *fleet;

    if (argc > 1 && strcmp(argv[1], "host") == 0)
        return rig_host(argc, argv);
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 10000;
    unsigned kills = argc > 2 ? (unsigned)atoi(argv[2]) : 20;
    CHECK(n >= 1 && n <= RIG_CONTROLLERS_MAX && kills >= 1 && kills <= KILLS_MAX);
    rig_open(&manager, 2, false);
    rig_start(&manager);
    RIG_UNTIL(&manager, manager.disk->ready == 1);
    snprintf(target, sizeof(target), "127.0.0.1:%u", (unsigned)manager.disk->port);
    fleet_config_init(&config);
    config.targets = target;
    config.first_serial = RIG_FIRST;
    config.n_controllers = n;
    config.n_threads = 1;
    config.event_rate = argc > 3 ? atof(argv[3]) : 0.2;
    config.log_epoch = 1;
    if (fleet_new(&config, &fleet, why) < 0) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    CHECK_EQ(fleet_start(fleet), 0);
    RIG_UNTIL(&manager, manager.disk->sessions == n && manager.disk->parked == n);
    for (unsigned i = 0; i < kills; i++) {
        uint32_t ready = manager.disk->ready;
        double begin = now_ms_exact();

        rig_kill(&manager, SIGKILL);
        rig_start(&manager);
        RIG_UNTIL(&manager, manager.disk->ready == ready + 1);
        ready_ms[i] = now_ms_exact() - begin;
        RIG_UNTIL(&manager, manager.disk->sessions == n);
        welcomed_ms[i] = now_ms_exact() - begin;
        CHECK_EQ(manager.disk->resumed, n);
        usleep(200000);
    }
    fleet_stop(fleet, 20);
    CHECK_EQ(fleet_wait(fleet, 30000), FLEET_FINISHED);
    fleet_get_report(fleet, &report);
    print_quantiles("from the kill until the next one serves", ready_ms, kills);
    print_quantiles("from the kill until all are welcomed", welcomed_ms, kills);
    printf("%u controllers: %" PRIu64 " disconnects, %" PRIu64 " lost, %" PRIu64
           " WELCOMEs, %u entries kept\n",
           n, report.sessions_ended, report.lost, report.welcomes, manager.keeper.n);
    CHECK_EQ(report.sessions_ended, 0);
    CHECK_EQ(report.lost, 0);
    fleet_free(fleet);
    rig_kill(&manager, SIGKILL);
    return 0;
}
