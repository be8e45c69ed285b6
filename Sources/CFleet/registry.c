#include "registry.h"
#include "bytes.h"
#include "random.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t slot_of(const fleet_registry *self, const uint8_t id[16]) {
    uint64_t hash = fleet_mix(fleet_load(id, 8) + fleet_mix(fleet_load(id + 8, 8)));
    size_t slot = hash & (self->n_slots - 1);

    while (self->slots[slot] != 0 &&
           memcmp(self->executions[self->slots[slot] - 1].id, id, 16) != 0)
        slot = (slot + 1) & (self->n_slots - 1);
    return slot;
}

/* Keeps the table at most half full. */
static int grow_slots(fleet_registry *self) {
    size_t n_slots = self->n_slots > 0 ? self->n_slots * 2 : 64;
    uint32_t *slots = calloc(n_slots, sizeof(*slots));

    if (!slots)
        return -ENOMEM;
    free(self->slots);
    self->slots = slots;
    self->n_slots = n_slots;
    for (size_t i = 0; i < self->n; i++) {
        size_t slot = slot_of(self, self->executions[i].id);
        if (slots[slot] == 0)
            slots[slot] = (uint32_t)i + 1;
    }
    return 0;
}

int fleet_registry_add(fleet_registry *self, const fleet_execution *execution) {
    fleet_execution *added;
    size_t slot;

    if (self->n >= UINT32_MAX - 1)
        return -ENOMEM;
    if (self->n == self->n_allocated) {
        size_t n = self->n_allocated > 0 ? self->n_allocated * 2 : 64;
        fleet_execution *more = realloc(self->executions, n * sizeof(*more));
        if (!more)
            return -ENOMEM;
        self->executions = more;
        self->n_allocated = n;
    }
    if (2 * (self->n + 1) > self->n_slots) {
        int r = grow_slots(self);
        if (r < 0)
            return r;
    }
    added = &self->executions[self->n++];
    *added = *execution;
    slot = slot_of(self, execution->id);
    added->duplicate = self->slots[slot] != 0;
    if (!added->duplicate)
        self->slots[slot] = (uint32_t)self->n;
    return 0;
}

bool fleet_registry_has(const fleet_registry *self, const uint8_t id[16]) {
    return self->n_slots > 0 && self->slots[slot_of(self, id)] != 0;
}

void fleet_registry_clear(fleet_registry *self) {
    free(self->executions);
    free(self->slots);
    *self = (fleet_registry){0};
}
