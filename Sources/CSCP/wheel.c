#include "wheel.h"

void cscp_wheel_init(cscp_wheel *wheel, uint64_t now_ms) {
    wheel->tick = now_ms / CSCP_WHEEL_TICK_MS;
    for (size_t i = 0; i < CSCP_WHEEL_SLOTS / 64; i++)
        wheel->occupied[i] = 0;
    for (size_t i = 0; i < CSCP_WHEEL_SLOTS; i++)
        cscp_list_init(&wheel->slots[i]);
}

void cscp_timer_init(cscp_timer *timer) {
    cscp_list_init(&timer->link);
    timer->at_ms = 0;
}

void cscp_timer_disarm(cscp_timer *timer) {
    cscp_list_remove(&timer->link);
}

/* The first tick that begins at or after at_ms. */
static uint64_t tick_of(uint64_t at_ms) {
    return at_ms / CSCP_WHEEL_TICK_MS + (at_ms % CSCP_WHEEL_TICK_MS != 0);
}

void cscp_wheel_arm(cscp_wheel *wheel, cscp_timer *timer, uint64_t at_ms) {
    uint64_t tick = tick_of(at_ms);
    size_t slot;

    cscp_timer_disarm(timer);
    if (tick <= wheel->tick)
        tick = wheel->tick + 1;
    slot = tick % CSCP_WHEEL_SLOTS;
    timer->at_ms = at_ms;
    cscp_list_append(&wheel->slots[slot], &timer->link);
    wheel->occupied[slot / 64] |= 1ull << (slot % 64);
}

static void look_at(cscp_wheel *wheel, size_t slot, uint64_t tick, cscp_list *due) {
    cscp_list *list = &wheel->slots[slot];
    cscp_list *node = list->next;

    while (node != list) {
        cscp_timer *timer = CSCP_CONTAINER(node, cscp_timer, link);
        cscp_list *next = node->next;

        if (tick_of(timer->at_ms) <= tick) {
            cscp_timer_disarm(timer);
            cscp_list_append(due, node);
        }
        node = next;
    }
    if (cscp_list_is_empty(list))
        wheel->occupied[slot / 64] &= ~(1ull << (slot % 64));
}

void cscp_wheel_advance(cscp_wheel *wheel, uint64_t now_ms, cscp_list *due) {
    uint64_t now = now_ms / CSCP_WHEEL_TICK_MS;
    uint64_t first = wheel->tick + 1;

    if (now <= wheel->tick)
        return;
    wheel->tick = now;
    if (now - first >= CSCP_WHEEL_SLOTS) /* stopped for longer than a turn: each slot once */
        first = now - CSCP_WHEEL_SLOTS + 1;
    for (uint64_t tick = first; tick <= now; tick++) {
        size_t slot = tick % CSCP_WHEEL_SLOTS;

        if (wheel->occupied[slot / 64] & (1ull << (slot % 64)))
            look_at(wheel, slot, now, due);
    }
}

uint64_t cscp_wheel_wait_ms(const cscp_wheel *wheel, uint64_t now_ms) {
    for (uint64_t ahead = 1; ahead <= CSCP_WHEEL_SLOTS;) {
        size_t slot = (wheel->tick + ahead) % CSCP_WHEEL_SLOTS;
        uint64_t word = wheel->occupied[slot / 64] >> (slot % 64);

        if (word != 0) {
            uint64_t at_ms;

            ahead += (uint64_t)__builtin_ctzll(word);
            at_ms = (wheel->tick + ahead) * CSCP_WHEEL_TICK_MS;
            return at_ms > now_ms ? at_ms - now_ms : 0;
        }
        ahead += 64 - slot % 64;
    }
    return UINT64_MAX;
}
