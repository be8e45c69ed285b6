#include "lanes.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static cscp_pending *of_link(const cscp_list *node) {
    return CSCP_CONTAINER(node, cscp_pending, link);
}

bool cscp_pending_can_expire(const cscp_pending *command) {
    return command->not_after_ms != 0 && command->not_after_ms != CSCP_NOT_AFTER_PAST;
}

static bool is_past(const cscp_pending *command, uint64_t utc_ms) {
    return cscp_pending_can_expire(command) && utc_ms >= command->not_after_ms;
}

int cscp_pending_new(const cscp_command *command, cscp_pending **ret) {
    cscp_pending *pending;

    if (command->lane >= CSCP_LANE_COUNT || (command->n_body > 0 && !command->body))
        return -EINVAL;
    if (command->n_body > CSCP_COMMAND_BODY_MAX)
        return -EMSGSIZE;
    pending = malloc(sizeof(*pending) + command->n_body);
    if (!pending)
        return -ENOMEM;
    *pending = (cscp_pending){
        .serial = command->serial,
        .not_after_ms = command->not_after_ms,
        .code = command->code,
        .n_body = command->n_body,
        .lane = command->lane,
    };
    cscp_list_init(&pending->link);
    cscp_list_init(&pending->owed.link);
    pending->owed.of_command = true;
    memcpy(pending->id, command->id, sizeof(pending->id));
    if (command->n_body > 0)
        memcpy(pending->body, command->body, command->n_body);
    *ret = pending;
    return 0;
}

cscp_lanes *cscp_lanes_new(void) {
    cscp_lanes *lanes = malloc(sizeof(*lanes));

    if (!lanes)
        return NULL;
    for (size_t i = 0; i < CSCP_LANE_COUNT; i++)
        cscp_list_init(&lanes->waiting[i]);
    cscp_list_init(&lanes->awaited);
    lanes->n_waiting = lanes->n_awaited = lanes->n_bulk = 0;
    return lanes;
}

static void free_all(cscp_list *list) {
    while (!cscp_list_is_empty(list)) {
        cscp_pending *command = of_link(list->next);

        cscp_list_remove(&command->link);
        free(command);
    }
}

cscp_lanes *cscp_lanes_free(cscp_lanes *lanes) {
    if (!lanes)
        return NULL;
    for (size_t i = 0; i < CSCP_LANE_COUNT; i++)
        free_all(&lanes->waiting[i]);
    free_all(&lanes->awaited);
    free(lanes);
    return NULL;
}

bool cscp_lanes_are_empty(const cscp_lanes *lanes) {
    return lanes->n_waiting == 0 && lanes->n_awaited == 0;
}

void cscp_lanes_push(cscp_lanes *lanes, cscp_pending *command) {
    cscp_list_append(&lanes->waiting[command->lane], &command->link);
    lanes->n_waiting++;
}

void cscp_lanes_begin(const cscp_lanes *lanes, cscp_lanes_cursor *cursor) {
    for (size_t i = 0; i < CSCP_LANE_COUNT; i++)
        cursor->next[i] = lanes->waiting[i].next;
    cursor->n_bulk = lanes->n_bulk;
}

cscp_pending *cscp_lanes_next(const cscp_lanes *lanes, cscp_lanes_cursor *cursor,
                              uint8_t bulk_window, uint64_t utc_ms) {
    for (size_t i = 0; i < CSCP_LANE_COUNT; i++) {
        while (cursor->next[i] != &lanes->waiting[i]) {
            cscp_pending *command = of_link(cursor->next[i]);

            if (i == CSCP_LANE_BULK && cursor->n_bulk >= bulk_window)
                break;
            cursor->next[i] = command->link.next;
            if (is_past(command, utc_ms))
                continue;
            if (i == CSCP_LANE_BULK)
                cursor->n_bulk++;
            return command;
        }
    }
    return NULL;
}

void cscp_lanes_sent(cscp_lanes *lanes, cscp_pending *command) {
    assert(!command->awaited);
    cscp_list_remove(&command->link);
    cscp_list_append(&lanes->awaited, &command->link);
    command->awaited = true;
    lanes->n_waiting--;
    lanes->n_awaited++;
    if (command->lane == CSCP_LANE_BULK)
        lanes->n_bulk++;
}

static cscp_pending *take_waiting(cscp_lanes *lanes, cscp_pending *command) {
    cscp_list_remove(&command->link);
    lanes->n_waiting--;
    return command;
}

cscp_pending *cscp_lanes_take_expired(cscp_lanes *lanes, uint64_t utc_ms) {
    if (lanes->n_waiting == 0)
        return NULL;
    for (size_t i = 0; i < CSCP_LANE_COUNT; i++)
        for (cscp_list *node = lanes->waiting[i].next; node != &lanes->waiting[i];
             node = node->next)
            if (is_past(of_link(node), utc_ms))
                return take_waiting(lanes, of_link(node));
    return NULL;
}

cscp_pending *cscp_lanes_take_waiting(cscp_lanes *lanes) {
    for (size_t i = 0; i < CSCP_LANE_COUNT; i++)
        if (!cscp_list_is_empty(&lanes->waiting[i]))
            return take_waiting(lanes, of_link(lanes->waiting[i].next));
    return NULL;
}

static cscp_pending *take_awaited(cscp_lanes *lanes, cscp_pending *command) {
    cscp_list_remove(&command->link);
    command->awaited = false;
    lanes->n_awaited--;
    if (command->lane == CSCP_LANE_BULK)
        lanes->n_bulk--;
    return command;
}

cscp_pending *cscp_lanes_take_awaited(cscp_lanes *lanes, const uint8_t *id) {
    for (cscp_list *node = lanes->awaited.next; node != &lanes->awaited; node = node->next)
        if (memcmp(of_link(node)->id, id, CSCP_COMMAND_ID_SIZE) == 0)
            return take_awaited(lanes, of_link(node));
    return NULL;
}

cscp_pending *cscp_lanes_take_any_awaited(cscp_lanes *lanes) {
    if (cscp_list_is_empty(&lanes->awaited))
        return NULL;
    return take_awaited(lanes, of_link(lanes->awaited.next));
}

uint64_t cscp_lanes_deadline(const cscp_lanes *lanes) {
    uint64_t at = UINT64_MAX;

    for (size_t i = 0; i < CSCP_LANE_COUNT; i++)
        for (const cscp_list *node = lanes->waiting[i].next; node != &lanes->waiting[i];
             node = node->next) {
            const cscp_pending *command = of_link(node);

            if (cscp_pending_can_expire(command) && command->not_after_ms < at)
                at = command->not_after_ms;
        }
    return at;
}
