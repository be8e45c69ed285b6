/* What an ordinary record says, from its name alone. */
#include "bytes.h"
#include "log.h"
#include "random.h"

enum { N_DOORS = 4, N_INPUTS = 8, BODY_ACCESS = 12 };

typedef struct kind {
    uint8_t family, code;
    uint8_t source_type; /* 1 door, 2 reader, 3 input, 5 controller */
    bool has_card, priority;
} kind;

/* As often as they stand here: a day of a door. */
static const kind kinds[32] = {
    {1, 1, 1, false, false}, {1, 2, 1, false, false}, {2, 1, 2, true, false},
    {1, 1, 1, false, false}, {1, 2, 1, false, false}, {2, 1, 2, true, false},
    {1, 1, 1, false, false}, {1, 2, 1, false, false}, {2, 1, 2, true, false},
    {1, 1, 1, false, false}, {1, 2, 1, false, false}, {2, 1, 2, true, false},
    {1, 1, 1, false, false}, {1, 2, 1, false, false}, {2, 1, 2, true, false},
    {1, 1, 1, false, false}, {1, 2, 1, false, false}, {2, 1, 2, true, false},
    {1, 1, 1, false, false}, {1, 2, 1, false, false}, {2, 1, 2, true, false},
    {2, 2, 2, true, false},  {2, 2, 2, true, false},  {2, 2, 2, true, false},
    {3, 1, 3, false, false}, {3, 2, 3, false, false}, {3, 1, 3, false, false},
    {3, 2, 3, false, false}, {1, 4, 1, false, false}, {1, 3, 1, false, true},
    {4, 3, 5, false, true},  {4, 4, 5, false, false},
};

static const kind access_requested = {2, 3, 2, true, true};

void fleet_event_derive(const fleet_world *world, uint64_t serial, uint32_t log_epoch, uint64_t seq,
                        fleet_record *ret) {
    uint64_t state = world->config->seed + serial * 0x9E3779B97F4A7C15u +
                     ((uint64_t)log_epoch << 32) + seq * 0xD1B54A32D192ED03u;
    uint64_t a = fleet_random(&state), b = fleet_random(&state);
    bool asks = (double)(uint32_t)(a >> 32) < world->config->access_share * 0x1p32;
    const kind *kind = asks ? &access_requested : &kinds[a & 31];
    unsigned n_sources = kind->source_type == 3 ? N_INPUTS : N_DOORS;
    uint16_t number = (uint16_t)(1 + (a >> 5 & 1023) % n_sources);

    ret->is_reset = false;
    ret->priority = kind->priority;
    ret->event = (cscp_event){
        .log_epoch = log_epoch,
        .family = kind->family,
        .code = kind->code,
        .seq = seq,
        .source_type = kind->source_type,
        .source_number = kind->source_type == 5 ? 0 : number,
        .n_body = kind->has_card ? BODY_ACCESS : 0,
        .body = ret->body,
    };
    if (kind->has_card) {
        fleet_store(ret->body, 8, 10000000 + b % 90000000);
        fleet_store(ret->body + 8, 2, number);
        /* denied: unknown card, outside the times, blocked */
        ret->body[10] = kind->code == 2 ? (uint8_t)(1 + (b >> 40) % 3) : 0;
        ret->body[11] = 0;
    }
}
