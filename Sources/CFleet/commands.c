/* Commands, in the order of checks Docs/PROTOCOL.md gives: epoch, memory, deadline, and only then
 * the act. Everything acted upon goes into the registry, with the true time, which the controller
 * itself does not know: that is how the oracle sees what a controller cannot. */
#include "bytes.h"
#include "controller.h"

#include <stdlib.h>
#include <string.h>

enum {
    CODE_UNLOCK = 1,
    CODE_SET_DOOR_MODE = 2,
    CODE_ANSWER_ACCESS = 3,
    CODE_SET_OUTPUT = 4,
    CODE_SET_CLOCK = 5,
    CODE_QUERY_STATUS = 6,
    CODE_REBOOT = 7,
    CODE_BEGIN_CONFIGURATION = 16,
    CODE_CHUNK_CONFIGURATION = 17,
    CODE_COMMIT_CONFIGURATION = 18,
};

enum { PULSE_DEFAULT_MS = 1000, PULSE_MAX_MS = 10000 };

/* --- The memory of results -------------------------------------------------------------------- */

fleet_result *fleet_controller_recall(fleet_controller *self, const uint8_t *id) {
    uint32_t n =
        self->n_results_ever < FLEET_RESULTS_MAX ? self->n_results_ever : FLEET_RESULTS_MAX;

    for (uint32_t i = 0; i < n; i++)
        if (memcmp(self->results[i].id, id, CSCP_COMMAND_ID_SIZE) == 0)
            return &self->results[i];
    return NULL;
}

/* A place for a new result, that of the oldest once there are 64; NULL without memory. */
static fleet_result *remember(fleet_controller *self) {
    uint32_t at = self->n_results_ever % FLEET_RESULTS_MAX;

    if (at >= self->n_results_allocated) {
        uint32_t n = self->n_results_allocated > 0 ? 2 * self->n_results_allocated : 4;
        fleet_result *more = realloc(self->results, n * sizeof(*more));
        if (!more)
            return NULL;
        self->results = more;
        self->n_results_allocated = n;
    }
    self->n_results_ever++;
    return &self->results[at];
}

/* Begin and chunk say by digest and offset what is done and what is not: their results would only push
 * out those of others. */
static bool is_remembered(uint16_t code) {
    return code != CODE_BEGIN_CONFIGURATION && code != CODE_CHUNK_CONFIGURATION;
}

static void write_result(const fleet_result *result, uint8_t flags, fleet_out *out) {
    cscp_result frame = {
        .status = result->status,
        .flags = flags,
        .reason = result->reason,
        .index = result->index,
        .n_body = result->n_body,
        .body = result->body,
    };
    memcpy(frame.id, result->id, sizeof(frame.id));
    out->n += cscp_write_result(out->p + out->n, &frame);
}

/* --- The acts: each returns 0 or a reason ----------------------------------------------------- */

typedef struct act {
    fleet_controller *self;
    const fleet_world *world;
    const cscp_command_frame *command;
    fleet_equipment *equipment;
    fleet_now now;
    fleet_result *result;
} act;

static uint16_t unlock(const act *a) {
    const uint8_t *body = a->command->body;
    uint64_t number, ms;
    fleet_door *door;

    if (a->command->n_body < 8)
        return FLEET_REASON_BAD_BODY;
    number = fleet_load(body, 2);
    ms = fleet_load(body + 4, 4);
    if (number < 1 || number > FLEET_DOORS)
        return FLEET_REASON_NO_SUCH_ITEM;
    if (ms == 0)
        ms = FLEET_UNLOCK_MS;
    if (ms > FLEET_UNLOCK_MAX_MS)
        ms = FLEET_UNLOCK_MAX_MS;
    door = &a->equipment->doors[number - 1];
    memcpy(door->id, a->command->id, sizeof(door->id));
    door->unlocked = true;
    door->lock_at_us = a->now.us + ms * 1000;
    fleet_controller_log(a->self, a->world, 1, 5, 1, (uint16_t)number, door->id, sizeof(door->id),
                         a->now);
    return 0;
}

static uint16_t set_door_mode(const act *a) {
    uint64_t number, mode;

    if (a->command->n_body < 4)
        return FLEET_REASON_BAD_BODY;
    number = fleet_load(a->command->body, 2);
    mode = a->command->body[2];
    if (mode < 1 || mode > 3)
        return FLEET_REASON_BAD_BODY;
    if (number < 1 || number > FLEET_DOORS)
        return FLEET_REASON_NO_SUCH_ITEM;
    a->equipment->doors[number - 1].mode = (uint8_t)mode;
    fleet_controller_log(a->self, a->world, 1, 7, 1, (uint16_t)number, NULL, 0, a->now);
    return 0;
}

static uint16_t answer_access(const act *a) {
    const uint8_t *p = a->command->body;
    uint64_t log_epoch, seq;
    uint8_t decision;

    if (a->command->n_body < 16)
        return FLEET_REASON_BAD_BODY;
    log_epoch = fleet_load(p, 4);
    decision = p[6];
    seq = fleet_load(p + 8, 8);
    if (decision < 1 || decision > 2)
        return FLEET_REASON_BAD_BODY;
    for (unsigned i = 0; i < FLEET_REQUESTS_MAX; i++) {
        fleet_request *request = &a->equipment->requests[i];
        uint8_t body[12] = {0};

        if (request->seq == 0 || request->seq != seq || request->log_epoch != log_epoch)
            continue;
        memcpy(body, request->card, sizeof(request->card));
        fleet_store(body + 8, 2, request->door);
        body[10] = decision == 1 ? 0 : p[7];
        request->seq = 0;
        fleet_count(&a->world->tally->access_answered, 1);
        fleet_controller_log(a->self, a->world, 2, decision, 2, request->door, body, sizeof(body),
                             a->now);
        return 0;
    }
    return FLEET_REASON_NOT_NOW;
}

static uint16_t set_output(const act *a) {
    uint64_t number, ms;
    uint8_t state;

    if (a->command->n_body < 8)
        return FLEET_REASON_BAD_BODY;
    number = fleet_load(a->command->body, 2);
    state = a->command->body[2];
    ms = fleet_load(a->command->body + 4, 4);
    if (state > 2)
        return FLEET_REASON_BAD_BODY;
    if (number < 1 || number > FLEET_OUTPUTS)
        return FLEET_REASON_NO_SUCH_ITEM;
    a->equipment->outputs[number - 1] = state != 0;
    a->equipment->pulse_until_us[number - 1] = FLEET_NEVER;
    if (state == 2) {
        ms = ms == 0 ? PULSE_DEFAULT_MS : ms < PULSE_MAX_MS ? ms : PULSE_MAX_MS;
        a->equipment->pulse_until_us[number - 1] = a->now.us + ms * 1000;
    }
    fleet_controller_log(a->self, a->world, 3, state != 0 ? 3 : 4, 4, (uint16_t)number, NULL, 0,
                         a->now);
    return 0;
}

static uint16_t set_clock(const act *a) {
    int64_t skew_s;

    if (a->command->n_body < 8)
        return FLEET_REASON_BAD_BODY;
    skew_s = (int64_t)(fleet_load(a->command->body, 8) - a->now.wall_ms) / 1000;
    if (skew_s < -(1 << 23) || skew_s >= 1 << 23)
        return FLEET_REASON_BAD_BODY;
    fleet_controller_log_clock_step(a->self, a->world, (int32_t)skew_s, a->now);
    return 0;
}

static uint16_t query_status(const act *a) {
    uint8_t *p = a->result->body;

    fleet_store(p, 4, (a->now.us - a->self->booted_at_us) / 1000000);
    fleet_store(p + 4, 2, FLEET_DOORS);
    p += 6;
    for (unsigned i = 0; i < FLEET_DOORS; i++) {
        const fleet_door *door = &a->equipment->doors[i];
        bool unlocked = door->mode == 3 || (door->mode == 1 && door->unlocked);
        *p++ = (uint8_t)(door->mode | (unlocked ? 1 << 3 : 0));
    }
    fleet_store(p, 2, FLEET_OUTPUTS);
    p += 2;
    for (unsigned i = 0; i < FLEET_OUTPUTS; i++)
        *p++ = a->equipment->outputs[i];
    a->result->n_body = (uint8_t)(p - a->result->body);
    return 0;
}

static uint16_t reboot(const act *a) {
    uint64_t ms;

    if (a->command->n_body < 4)
        return FLEET_REASON_BAD_BODY;
    ms = fleet_load(a->command->body, 4);
    if (ms > FLEET_REBOOT_DELAY_MAX_MS)
        ms = FLEET_REBOOT_DELAY_MAX_MS;
    /* Not at once: the result is to go out first. */
    a->self->reboot_at_us = a->now.us + 1000 + ms * 1000;
    return 0;
}

static uint16_t carry_out(const act *a) {
    switch (a->command->code) {
    case CODE_UNLOCK:
        return unlock(a);
    case CODE_SET_DOOR_MODE:
        return set_door_mode(a);
    case CODE_ANSWER_ACCESS:
        return answer_access(a);
    case CODE_SET_OUTPUT:
        return set_output(a);
    case CODE_SET_CLOCK:
        return set_clock(a);
    case CODE_QUERY_STATUS:
        return query_status(a);
    case CODE_REBOOT:
        return reboot(a);
    case CODE_BEGIN_CONFIGURATION:
        return fleet_configuration_begin(a->self, a->world, a->command, a->result);
    case CODE_CHUNK_CONFIGURATION:
        return fleet_configuration_chunk(a->self, a->world, a->command, a->result);
    case CODE_COMMIT_CONFIGURATION:
        return fleet_configuration_commit(a->self, a->world, a->command, a->now, a->result);
    default:
        return FLEET_REASON_UNSUPPORTED;
    }
}

/* --- The oracle's record ---------------------------------------------------------------------- */

static void record_execution(const fleet_controller *self, const fleet_world *world,
                             const cscp_command_frame *command, fleet_now now) {
    fleet_tally *tally = world->tally;
    fleet_execution execution = {
        .serial = self->serial,
        .at_ms = now.wall_ms,
        .not_after_ms = command->not_after_ms,
        .owner_epoch = command->owner_epoch,
        .log_epoch = self->log.epoch,
        .code = command->code,
        .late = command->not_after_ms != 0 && now.wall_ms >= command->not_after_ms,
    };
    memcpy(execution.id, command->id, sizeof(execution.id));
    fleet_count(&tally->commands_executed, 1);
    if (execution.late) {
        fleet_count(&tally->commands_late, 1);
        fleet_count_max(&tally->late_max_ms, now.wall_ms - command->not_after_ms);
    }
    if (fleet_registry_add(world->registry, &execution) == 0 &&
        world->registry->executions[world->registry->n - 1].duplicate)
        fleet_count(&tally->commands_duplicate, 1);
}

void fleet_controller_command(fleet_controller *self, const fleet_world *world,
                              const cscp_frame *frame, fleet_now now, fleet_out *out) {
    cscp_command_frame command;
    fleet_tally *tally = world->tally;
    fleet_result *result, passing;
    act a;

    if (self->phase != FLEET_WELCOMED ||
        cscp_parse_command(frame->payload, frame->n_payload, &command) < 0) {
        fleet_count(&tally->protocol_errors, 1);
        return;
    }
    fleet_count(&tally->commands_received, 1);
    if (command.owner_epoch < self->epoch_seen) {
        fleet_controller_write_stale(self, world, out);
        return;
    }
    self->epoch_seen = command.owner_epoch;
    result = fleet_controller_recall(self, command.id);
    if (result) {
        fleet_count(&tally->commands_repeated, 1);
        write_result(result, CSCP_RESULT_REPEATED, out);
        return;
    }
    a = (act){self, world, &command, fleet_controller_equipment(self), now, NULL};
    if (a.equipment)
        result = is_remembered(command.code) ? remember(self) : &passing;
    a.result = result;
    if (!result) {
        /* Nothing was done, so nothing needs remembering. */
        fleet_result failure = {.status = CSCP_RESULT_REFUSED, .reason = FLEET_REASON_FAILURE};
        memcpy(failure.id, command.id, sizeof(failure.id));
        write_result(&failure, 0, out);
        return;
    }
    *result = (fleet_result){.status = CSCP_RESULT_DONE};
    memcpy(result->id, command.id, sizeof(result->id));
    if (command.not_after_ms != 0 &&
        (int64_t)now.us + self->host_offset_us >= (int64_t)command.not_after_ms * 1000) {
        result->status = CSCP_RESULT_EXPIRED;
        fleet_count(&tally->commands_expired, 1);
    } else {
        result->reason = carry_out(&a);
        if (result->reason != 0) {
            result->status = CSCP_RESULT_REFUSED;
            fleet_count(&tally->commands_refused, 1);
        } else if (is_remembered(command.code)) {
            record_execution(self, world, &command, now);
        }
    }
    write_result(result, 0, out);
}
