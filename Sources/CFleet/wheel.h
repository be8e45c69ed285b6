/* Timers: a hashed wheel of 1 ms slots. Setting, moving and removing one takes constant time. */
#ifndef FLEET_WHEEL_H
#define FLEET_WHEEL_H

#include <stdint.h>

enum { FLEET_WHEEL_SLOTS = 4096 };

typedef struct fleet_timer {
    struct fleet_timer *next, **link; /* link NULL: not set */
    uint64_t due_us;
} fleet_timer;

typedef struct fleet_wheel {
    fleet_timer *slots[FLEET_WHEEL_SLOTS];
    uint64_t occupied[FLEET_WHEEL_SLOTS / 64];
    uint64_t tick; /* the next to be looked at */
} fleet_wheel;

void fleet_wheel_set(fleet_wheel *self, fleet_timer *timer, uint64_t due_us);
void fleet_wheel_remove(fleet_timer *timer);
/* Takes one timer that is due at now_us off the wheel, or returns NULL. */
fleet_timer *fleet_wheel_take(fleet_wheel *self, uint64_t now_us);
/* For how many ms nothing will be due, at most max. */
int fleet_wheel_idle_ms(const fleet_wheel *self, uint64_t now_us, int max);

#endif
