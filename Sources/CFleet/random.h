/* Random numbers that a seed repeats: splitmix64, as a stream and as a hash. */
#ifndef FLEET_RANDOM_H
#define FLEET_RANDOM_H

#include <math.h>
#include <stdint.h>

static inline uint64_t fleet_mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline uint64_t fleet_random(uint64_t *state) {
    return fleet_mix(*state += 0x9E3779B97F4A7C15u);
}

/* 0 ... n-1; 0 for n = 0. */
static inline uint64_t fleet_random_below(uint64_t *state, uint64_t n) {
    return (uint64_t)((unsigned __int128)fleet_random(state) * n >> 64);
}

/* More than 0, at most 1. */
static inline double fleet_random_unit(uint64_t *state) {
    return (double)((fleet_random(state) >> 11) + 1) * 0x1p-53;
}

/* Time to the next of events that come `rate` times a second, in us. */
static inline uint64_t fleet_random_wait_us(uint64_t *state, double rate) {
    double us = -log(fleet_random_unit(state)) / rate * 1e6;
    return us < 1e15 ? (uint64_t)us : (uint64_t)1e15;
}

#endif
