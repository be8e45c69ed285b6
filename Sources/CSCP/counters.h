/* Counters of one I/O thread, which alone writes them, so that counting is a load and a store;
 * anybody may read them. The fields are those of cscp_counters. */
#ifndef CSCP_COUNTERS_H
#define CSCP_COUNTERS_H

#include <stdatomic.h>

#include "include/cscp.h"

enum { CSCP_N_COUNTERS = sizeof(cscp_counters) / sizeof(uint64_t) };

typedef struct cscp_count {
    _Alignas(64) _Atomic uint64_t values[CSCP_N_COUNTERS];
} cscp_count;

static inline void cscp_count_add(cscp_count *count, size_t field, uint64_t n) {
    _Atomic uint64_t *value = &count->values[field / sizeof(uint64_t)];

    atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

#define CSCP_COUNT(thread, field, n)                                                               \
    cscp_count_add(&(thread)->count, offsetof(cscp_counters, field), (uint64_t)(n))
#define CSCP_COUNT_CLOSED(thread, reason)                                                          \
    cscp_count_add(&(thread)->count,                                                               \
                   offsetof(cscp_counters, closed) + (size_t)(reason) * sizeof(uint64_t), 1)

static inline void cscp_count_sum(const cscp_count *count, cscp_counters *sum) {
    uint64_t *values = (uint64_t *)(void *)sum;

    for (size_t i = 0; i < CSCP_N_COUNTERS; i++)
        values[i] += atomic_load_explicit(&count->values[i], memory_order_relaxed);
}

#endif
