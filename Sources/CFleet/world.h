/* What the controllers of one worker share, and what every step of one is told. */
#ifndef FLEET_WORLD_H
#define FLEET_WORLD_H

#include "fleet.h"
#include "registry.h"
#include "tally.h"

#define FLEET_NEVER UINT64_MAX /* a time that does not come */

/* The time: `us` is steady and begins near 0, `wall_ms` is the true time, ms UTC. */
typedef struct fleet_now {
    uint64_t us;
    uint64_t wall_ms;
} fleet_now;

typedef struct fleet_world {
    const fleet_config *config;
    uint64_t wall_base_ms; /* true time when `us` was 0 */
    bool generating;       /* false from the drain on */
    bool sync_reconnect;   /* retry at fixed times instead of with back-off */
    fleet_tally *tally;
    fleet_registry *registry;
} fleet_world;

/* Bytes to be sent, in the caller's buffer. A step writes at most FLEET_STEP_ROOM bytes; filling
 * with records stops when less than that is left. */
typedef struct fleet_out {
    uint8_t *p;
    size_t n, size;
} fleet_out;

enum { FLEET_STEP_ROOM = 8192 };

static inline bool fleet_out_has_room(const fleet_out *out) {
    return out->size - out->n >= FLEET_STEP_ROOM;
}

#endif
