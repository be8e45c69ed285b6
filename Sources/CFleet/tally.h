/* Counters and histograms of one worker: written by its thread, read by any, exact one by one. */
#ifndef FLEET_TALLY_H
#define FLEET_TALLY_H

#include "fleet.h"

/* Log-linear: 32 buckets an octave, so a quantile is right to 3 %. Values in us. */
enum { FLEET_HISTOGRAM_BUCKETS = 1920 };

typedef struct fleet_histogram {
    uint64_t counts[FLEET_HISTOGRAM_BUCKETS];
    uint64_t max;
} fleet_histogram;

typedef struct fleet_tally {
#define X(name) uint64_t name;
    FLEET_COUNTERS(X)
#undef X
    uint64_t late_max_ms;
    fleet_histogram gap, ack, outage;
} fleet_tally;

/* One writer, so a load and a store do; readers see whole values. */
static inline void fleet_count(uint64_t *counter, uint64_t n) {
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline void fleet_count_max(uint64_t *counter, uint64_t value) {
    if (value > *counter)
        __atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

void fleet_histogram_add(fleet_histogram *self, uint64_t us);
/* Adds what `other` has, while its writer goes on. */
void fleet_histogram_merge(fleet_histogram *self, const fleet_histogram *other);
void fleet_histogram_quantiles(const fleet_histogram *self, fleet_quantiles *ret);

/* Adds the counters to the report's and the histograms to the three given. */
void fleet_tally_add(const fleet_tally *self, fleet_report *report, fleet_histogram *gap,
                     fleet_histogram *ack, fleet_histogram *outage);

#endif
