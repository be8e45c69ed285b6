/* Integers in network byte order, at any address. */
#ifndef FLEET_BYTES_H
#define FLEET_BYTES_H

#include <stdint.h>

static inline uint64_t fleet_load(const uint8_t *p, unsigned n) {
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

static inline void fleet_store(uint8_t *p, unsigned n, uint64_t v) {
    for (unsigned i = n; i-- > 0; v >>= 8)
        p[i] = (uint8_t)v;
}

#endif
