/* Every command that was executed, in order, and whether its id had been executed before. */
#ifndef FLEET_REGISTRY_H
#define FLEET_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fleet_execution {
    uint8_t id[16];
    uint64_t serial;
    uint64_t at_ms;        /* true time, ms UTC */
    uint64_t not_after_ms; /* 0 = none */
    uint64_t owner_epoch;
    uint32_t log_epoch;
    uint16_t code;
    bool duplicate, late;
} fleet_execution;

typedef struct fleet_registry {
    fleet_execution *executions;
    size_t n, n_allocated;
    uint32_t *slots; /* open addressing: index + 1 of the first execution of an id, 0 = free */
    size_t n_slots;  /* a power of two, or 0 */
} fleet_registry;

/* Adds an execution; sets its `duplicate` when the id is known. -ENOMEM: not added. */
int fleet_registry_add(fleet_registry *self, const fleet_execution *execution);
bool fleet_registry_has(const fleet_registry *self, const uint8_t id[16]);
void fleet_registry_clear(fleet_registry *self);

#endif
