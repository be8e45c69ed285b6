/* Doors, outputs and people who wait at a reader: what commands act upon. */
#include "controller.h"

#include <stdlib.h>
#include <string.h>

fleet_equipment *fleet_controller_equipment(fleet_controller *self) {
    if (!self->equipment) {
        self->equipment = calloc(1, sizeof(*self->equipment));
        for (unsigned i = 0; self->equipment && i < FLEET_DOORS; i++) {
            self->equipment->doors[i].mode = 1;
            self->equipment->doors[i].lock_at_us = FLEET_NEVER;
        }
        for (unsigned i = 0; self->equipment && i < FLEET_OUTPUTS; i++)
            self->equipment->pulse_until_us[i] = FLEET_NEVER;
    }
    return self->equipment;
}

static void earlier(uint64_t *due, uint64_t other) {
    if (other < *due)
        *due = other;
}

uint64_t fleet_equipment_due_us(const fleet_equipment *self) {
    uint64_t due = FLEET_NEVER;

    for (unsigned i = 0; i < FLEET_DOORS; i++)
        earlier(&due, self->doors[i].lock_at_us);
    for (unsigned i = 0; i < FLEET_OUTPUTS; i++)
        earlier(&due, self->pulse_until_us[i]);
    for (unsigned i = 0; i < FLEET_REQUESTS_MAX; i++)
        if (self->requests[i].seq != 0)
            earlier(&due, self->requests[i].until_us);
    return due;
}

static void turn_away(fleet_controller *self, const fleet_world *world, fleet_request *request,
                      fleet_now now) {
    uint8_t body[12] = {0};

    memcpy(body, request->card, sizeof(request->card));
    body[8] = (uint8_t)(request->door >> 8);
    body[9] = (uint8_t)request->door;
    body[10] = 4; /* no answer in time */
    request->seq = 0;
    fleet_count(&world->tally->access_unanswered, 1);
    fleet_controller_log(self, world, 2, 2, 2, request->door, body, sizeof(body), now);
}

void fleet_equipment_step(fleet_controller *self, const fleet_world *world, fleet_now now) {
    fleet_equipment *equipment = self->equipment;

    for (unsigned i = 0; i < FLEET_DOORS; i++) {
        fleet_door *door = &equipment->doors[i];
        if (door->lock_at_us > now.us)
            continue;
        door->lock_at_us = FLEET_NEVER;
        door->unlocked = false;
        fleet_controller_log(self, world, 1, 6, 1, (uint16_t)(i + 1), door->id, sizeof(door->id),
                             now);
    }
    for (unsigned i = 0; i < FLEET_OUTPUTS; i++) {
        if (equipment->pulse_until_us[i] > now.us)
            continue;
        equipment->pulse_until_us[i] = FLEET_NEVER;
        equipment->outputs[i] = false;
        fleet_controller_log(self, world, 3, 4, 4, (uint16_t)(i + 1), NULL, 0, now);
    }
    for (unsigned i = 0; i < FLEET_REQUESTS_MAX; i++)
        if (equipment->requests[i].seq != 0 && equipment->requests[i].until_us <= now.us)
            turn_away(self, world, &equipment->requests[i], now);
}
