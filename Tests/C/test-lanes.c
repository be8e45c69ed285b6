/* Lanes: order, the bulk window, deadlines; and the pool, which lends buffers beside them. */
#include "check.h"
#include "../../Sources/CSCP/lanes.h"
#include "../../Sources/CSCP/pool.h"

#include <errno.h>

static void push(cscp_lanes *lanes, uint8_t number, uint8_t lane, uint64_t not_after_ms) {
    cscp_command command = {
        .serial = 1, .lane = lane, .not_after_ms = not_after_ms, .id = {number}};
    cscp_pending *pending;
    CHECK_EQ(cscp_pending_new(&command, &pending), 0);
    cscp_lanes_push(lanes, pending);
}

/* What would be sent now, as text: "1 2 3". */
static const char *sendable(cscp_lanes *lanes, uint8_t bulk_window, uint64_t utc_ms) {
    static char text[200];
    cscp_lanes_cursor cursor;
    cscp_pending *command;
    text[0] = 0;
    cscp_lanes_begin(lanes, &cursor);
    while ((command = cscp_lanes_next(lanes, &cursor, bulk_window, utc_ms)))
        snprintf(text + strlen(text), 8, "%s%u", text[0] ? " " : "", command->id[0]);
    return text;
}

static cscp_pending *first(cscp_lanes *lanes, uint8_t bulk_window) {
    cscp_lanes_cursor cursor;
    cscp_lanes_begin(lanes, &cursor);
    return cscp_lanes_next(lanes, &cursor, bulk_window, 0);
}

static void urgent_goes_before_normal_before_bulk_and_each_in_order(void) {
    cscp_lanes *lanes = cscp_lanes_new();
    push(lanes, 1, CSCP_LANE_BULK, 0);
    push(lanes, 2, CSCP_LANE_NORMAL, 0);
    push(lanes, 3, CSCP_LANE_URGENT, 0);
    push(lanes, 4, CSCP_LANE_NORMAL, 0);
    push(lanes, 5, CSCP_LANE_URGENT, 0);
    push(lanes, 6, CSCP_LANE_BULK, 0);
    CHECK(strcmp(sendable(lanes, 2, 0), "3 5 2 4 1 6") == 0);
    CHECK(strcmp(sendable(lanes, 2, 0), "3 5 2 4 1 6") == 0); /* looking changes nothing */
    CHECK_EQ(lanes->n_waiting, 6);
    cscp_lanes_free(lanes);
}

static void bulk_keeps_to_its_window_until_results_come(void) {
    cscp_lanes *lanes = cscp_lanes_new();
    for (uint8_t i = 1; i <= 4; i++) push(lanes, i, CSCP_LANE_BULK, 0);
    push(lanes, 9, CSCP_LANE_NORMAL, 0);
    CHECK(strcmp(sendable(lanes, 2, 0), "9 1 2") == 0);
    cscp_lanes_sent(lanes, first(lanes, 2)); /* 9 */
    cscp_lanes_sent(lanes, first(lanes, 2)); /* 1 */
    CHECK(strcmp(sendable(lanes, 2, 0), "2") == 0);
    cscp_lanes_sent(lanes, first(lanes, 2));
    CHECK(strcmp(sendable(lanes, 2, 0), "") == 0);
    uint8_t id[CSCP_COMMAND_ID_SIZE] = {1};
    free(cscp_lanes_take_awaited(lanes, id));
    CHECK(!cscp_lanes_take_awaited(lanes, id)); /* once */
    CHECK(strcmp(sendable(lanes, 2, 0), "3") == 0);
    CHECK_EQ(lanes->n_awaited, 2);
    CHECK(!cscp_lanes_are_empty(lanes));
    cscp_lanes_free(lanes);
}

static void a_deadline_that_has_come_is_past(void) {
    cscp_lanes *lanes = cscp_lanes_new();
    CHECK(cscp_lanes_deadline(lanes) == UINT64_MAX);
    push(lanes, 1, CSCP_LANE_NORMAL, 100);
    push(lanes, 2, CSCP_LANE_NORMAL, 0);
    push(lanes, 3, CSCP_LANE_BULK, 50);
    push(lanes, 4, CSCP_LANE_URGENT, 200);
    CHECK_EQ(cscp_lanes_deadline(lanes), 50);
    CHECK(strcmp(sendable(lanes, 2, 99), "4 1 2") == 0);
    CHECK(strcmp(sendable(lanes, 2, 100), "4 2") == 0);
    cscp_pending *expired = cscp_lanes_take_expired(lanes, 150);
    CHECK_EQ(expired->id[0], 1);
    free(expired);
    expired = cscp_lanes_take_expired(lanes, 150);
    CHECK_EQ(expired->id[0], 3);
    free(expired);
    CHECK(!cscp_lanes_take_expired(lanes, 150));
    CHECK_EQ(cscp_lanes_deadline(lanes), 200);
    cscp_lanes_sent(lanes, first(lanes, 2)); /* 4: what was sent does not expire here */
    CHECK(!cscp_lanes_take_expired(lanes, 1000));
    free(cscp_lanes_take_any_awaited(lanes));
    free(cscp_lanes_take_waiting(lanes));
    CHECK(!cscp_lanes_take_waiting(lanes));
    CHECK(!cscp_lanes_take_any_awaited(lanes));
    CHECK(cscp_lanes_are_empty(lanes));
    cscp_lanes_free(lanes);
    cscp_lanes_free(NULL);
}

static void a_deadline_past_by_every_clock_keeps_no_command_from_being_sent(void) {
    cscp_lanes *lanes = cscp_lanes_new();
    push(lanes, 1, CSCP_LANE_NORMAL, CSCP_NOT_AFTER_PAST);
    push(lanes, 2, CSCP_LANE_NORMAL, CSCP_NOT_AFTER_PAST + 1);
    CHECK(strcmp(sendable(lanes, 2, 1000), "1") == 0);
    CHECK_EQ(cscp_lanes_deadline(lanes), CSCP_NOT_AFTER_PAST + 1);
    free(cscp_lanes_take_expired(lanes, 1000));
    CHECK(!cscp_lanes_take_expired(lanes, 1000));
    CHECK(cscp_lanes_deadline(lanes) == UINT64_MAX);
    CHECK_EQ(lanes->n_waiting, 1);
    cscp_lanes_free(lanes);
}

static void commands_are_checked_and_copied(void) {
    uint8_t body[] = "body";
    cscp_command command = {.serial = 1, .lane = CSCP_LANE_COUNT};
    cscp_pending *pending = NULL;
    CHECK_EQ(cscp_pending_new(&command, &pending), -EINVAL);
    command.lane = 0;
    command.n_body = 4;
    CHECK_EQ(cscp_pending_new(&command, &pending), -EINVAL);
    command.body = body;
    CHECK_EQ(cscp_pending_new(&command, &pending), 0);
    body[0] = 'x';
    CHECK(memcmp(pending->body, "body", 4) == 0);
    free(pending);
    command.n_body = CSCP_COMMAND_BODY_MAX + 1;
    CHECK_EQ(cscp_pending_new(&command, &pending), -EMSGSIZE);
}

static void buffers_are_lent_and_lent_again(void) {
    static uint8_t data[CSCP_POOL_LARGE];
    cscp_pool pool = {0};
    cscp_buffer *buffers[200];
    data[3] = 7;
    cscp_buffer *small = cscp_pool_keep(&pool, data, 10);
    CHECK_EQ(small->end, 10);
    CHECK_EQ(small->bytes[3], 7);
    cscp_pool_give_back(&pool, small);
    CHECK(cscp_pool_keep(&pool, data, CSCP_POOL_SMALL) == small);
    cscp_pool_give_back(&pool, small);
    for (int i = 0; i < 200; i++) buffers[i] = cscp_pool_keep(&pool, data, sizeof(data));
    for (int i = 0; i < 200; i++) cscp_pool_give_back(&pool, buffers[i]);
    CHECK_EQ(pool.n_free[1], CSCP_POOL_KEPT); /* the rest is the system's again */
    CHECK(!cscp_pool_give_back(&pool, NULL));
    cscp_pool_done(&pool);
}

int main(void) {
    RUN(urgent_goes_before_normal_before_bulk_and_each_in_order);
    RUN(bulk_keeps_to_its_window_until_results_come);
    RUN(a_deadline_that_has_come_is_past);
    RUN(a_deadline_past_by_every_clock_keeps_no_command_from_being_sent);
    RUN(commands_are_checked_and_copied);
    RUN(buffers_are_lent_and_lent_again);
    return 0;
}
