#include "tally.h"

static unsigned bucket_of(uint64_t v) {
    if (v < 32)
        return (unsigned)v;
    unsigned octave = 63u - (unsigned)__builtin_clzll(v);
    return 32 * (octave - 4) + (unsigned)(v >> (octave - 5) & 31);
}

/* The middle of a bucket. */
static double value_of(unsigned bucket) {
    if (bucket < 32)
        return bucket;
    unsigned octave = bucket / 32 + 4;
    uint64_t width = 1ull << (octave - 5);
    return (double)((32 + bucket % 32) * width) + (double)(width - 1) / 2;
}

void fleet_histogram_add(fleet_histogram *self, uint64_t us) {
    fleet_count(&self->counts[bucket_of(us)], 1);
    fleet_count_max(&self->max, us);
}

void fleet_histogram_merge(fleet_histogram *self, const fleet_histogram *other) {
    uint64_t max = __atomic_load_n(&other->max, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < FLEET_HISTOGRAM_BUCKETS; i++)
        self->counts[i] += __atomic_load_n(&other->counts[i], __ATOMIC_RELAXED);
    if (max > self->max)
        self->max = max;
}

static double quantile_ms(const fleet_histogram *self, uint64_t n, double q) {
    uint64_t rank = (uint64_t)(q * (double)(n - 1)), seen = 0;

    for (unsigned i = 0; i < FLEET_HISTOGRAM_BUCKETS; i++) {
        seen += self->counts[i];
        if (seen > rank) {
            double us = value_of(i);
            return (us < (double)self->max ? us : (double)self->max) / 1000;
        }
    }
    return (double)self->max / 1000;
}

void fleet_histogram_quantiles(const fleet_histogram *self, fleet_quantiles *ret) {
    uint64_t n = 0;

    for (unsigned i = 0; i < FLEET_HISTOGRAM_BUCKETS; i++)
        n += self->counts[i];
    *ret = (fleet_quantiles){.count = n};
    if (n == 0)
        return;
    ret->p50 = quantile_ms(self, n, 0.50);
    ret->p99 = quantile_ms(self, n, 0.99);
    ret->max = (double)self->max / 1000;
}

void fleet_tally_add(const fleet_tally *self, fleet_report *report, fleet_histogram *gap,
                     fleet_histogram *ack, fleet_histogram *outage) {
    uint64_t late_max_ms = __atomic_load_n(&self->late_max_ms, __ATOMIC_RELAXED);

#define X(name) report->name += __atomic_load_n(&self->name, __ATOMIC_RELAXED);
    FLEET_COUNTERS(X)
#undef X
    if (late_max_ms > report->late_max_ms)
        report->late_max_ms = late_max_ms;
    fleet_histogram_merge(gap, &self->gap);
    fleet_histogram_merge(ack, &self->ack);
    fleet_histogram_merge(outage, &self->outage);
}
