/* The commands of one session: three queues, and those sent whose result is awaited. For one
 * thread. */
#ifndef CSCP_LANES_H
#define CSCP_LANES_H

#include "include/cscp.h"
#include "list.h"

/* A command on its way, from cscp_config_command() to its result. */
typedef struct cscp_pending {
    cscp_list link; /* in the mailbox, then a lane, then among the awaited */
    cscp_owed owed; /* while the message about what became of it waits for room */
    uint64_t handle;
    uint64_t serial;
    uint64_t not_after_ms;
    uint64_t owner_epoch; /* of the session, for the message */
    uint8_t id[CSCP_COMMAND_ID_SIZE];
    uint16_t code;
    uint16_t n_body;
    uint8_t lane;
    uint8_t outcome; /* cscp_command_outcome, once it is known */
    bool awaited;    /* sent, no result yet */
    uint8_t body[];
} cscp_pending;

typedef struct cscp_lanes {
    cscp_list waiting[CSCP_LANE_COUNT];
    cscp_list awaited;
    uint32_t n_waiting, n_awaited, n_bulk; /* n_bulk: of the awaited */
} cscp_lanes;

/* 0, -EMSGSIZE, -EINVAL, -ENOMEM. */
int cscp_pending_new(const cscp_command *command, cscp_pending **ret);
/* Whether it has a deadline of its own, after which it is not sent. */
bool cscp_pending_can_expire(const cscp_pending *command);

/* NULL: -ENOMEM. */
cscp_lanes *cscp_lanes_new(void);
/* Frees what is in it, too. NULL is fine. Returns NULL. */
cscp_lanes *cscp_lanes_free(cscp_lanes *lanes);
bool cscp_lanes_are_empty(const cscp_lanes *lanes);

void cscp_lanes_push(cscp_lanes *lanes, cscp_pending *command);

/* Walks over what may be sent, in the order of sending, changing nothing. */
typedef struct cscp_lanes_cursor {
    const cscp_list *next[CSCP_LANE_COUNT];
    uint32_t n_bulk;
} cscp_lanes_cursor;
void cscp_lanes_begin(const cscp_lanes *lanes, cscp_lanes_cursor *cursor);
/* NULL at the end. Commands that are past their deadline are left out. */
cscp_pending *cscp_lanes_next(const cscp_lanes *lanes, cscp_lanes_cursor *cursor,
                              uint8_t bulk_window, uint64_t utc_ms);

/* It was sent: its result is awaited from now on. */
void cscp_lanes_sent(cscp_lanes *lanes, cscp_pending *command);
/* Takes out and returns a waiting command that is past its deadline. NULL: none. */
cscp_pending *cscp_lanes_take_expired(cscp_lanes *lanes, uint64_t utc_ms);
/* Takes out and returns any waiting command. NULL: none. */
cscp_pending *cscp_lanes_take_waiting(cscp_lanes *lanes);
/* Takes out and returns the awaited command with that id. NULL: none. */
cscp_pending *cscp_lanes_take_awaited(cscp_lanes *lanes, const uint8_t *id);
/* Takes out and returns any awaited command. NULL: none. */
cscp_pending *cscp_lanes_take_any_awaited(cscp_lanes *lanes);
/* The earliest deadline of a waiting command, ms UTC; UINT64_MAX = none. */
uint64_t cscp_lanes_deadline(const cscp_lanes *lanes);

#endif
