/* A fleet over real sockets and a host that does what it is told, from their beginning to the report. */
#ifndef FLEET_BOUT_H
#define FLEET_BOUT_H

#include "fleet-store.h"
#include "scripted-host.h"

enum { FIRST = 1000 };

/* A fleet and its host, and the report when both are done. */
typedef struct bout {
    host *host;
    fleet *fleet;
    fleet_config config;
    char target[32];
    fleet_report report;
} bout;

static inline bout *bout_new(uint32_t n_controllers, double rate, double duration_s) {
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

static inline void start(bout *b) {
    char why[FLEET_WHY_SIZE];

    if (fleet_new(&b->config, &b->fleet, why) < 0) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    CHECK_EQ(fleet_start(b->fleet), 0);
}

/* Serves until the fleet is done, at most 60 s. */
static inline void finish(bout *b) {
    uint64_t until = steady_ms() + 60000;

    while (fleet_wait(b->fleet, 0) != FLEET_FINISHED) {
        CHECK(steady_ms() < until);
        host_serve(b->host, 5);
    }
    fleet_get_report(b->fleet, &b->report);
}

static inline void serve_until(bout *b, bool (*done)(bout *b)) {
    uint64_t until = steady_ms() + 20000;

    while (!done(b)) {
        CHECK(steady_ms() < until);
        host_serve(b->host, 5);
        fleet_get_report(b->fleet, &b->report);
    }
}

static inline void verify(bout *b) {
    store_verify(&b->host->store, b->fleet);
    fleet_get_report(b->fleet, &b->report);
}

static inline void bout_free(bout *b) {
    fleet_free(b->fleet);
    host_free(b->host);
    free(b);
}

static inline bool books_balance(const fleet_report *r) {
    return r->generated == r->acked + r->overwritten + r->reset_lost + r->pending + r->lost -
                               r->verify_lost;
}

#endif
