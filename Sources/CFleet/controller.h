/* One simulated controller: a machine stepped by what happens and when. It does no I/O and reads
 * no clock; it writes frames into the caller's buffer, says whether its connection is to be
 * closed, and when it wants to be stepped again.
 *
 * What survives what: the log, the results of the last 64 commands, the highest owner epoch and the
 * configuration in force survive connections and restarts (a lost log loses only itself); doors,
 * outputs, open access requests, a configuration that is not whole and the host's time do not survive
 * a restart. */
#ifndef FLEET_CONTROLLER_H
#define FLEET_CONTROLLER_H

#include "cscp_frame.h"
#include "log.h"
#include "world.h"

enum {
    FLEET_DOORS = 4,
    FLEET_OUTPUTS = 8,
    FLEET_RESULTS_MAX = 64,
    FLEET_REQUESTS_MAX = 4,
    FLEET_REDIRECTS_MAX = 4,
    FLEET_ADDRESS_SIZE = 64,
    FLEET_RESULT_BODY_MAX = 24,
    FLEET_UNLOCK_MS = 5000, /* as configured */
    FLEET_UNLOCK_MAX_MS = 10000,
    FLEET_REBOOT_DELAY_MAX_MS = 10000,
    FLEET_REQUEST_MS = 5000,
    FLEET_CLOCK_LIMIT_S = 2, /* a larger step is logged */
    FLEET_HOST_TIME_EXACT_US = 100000, /* what came faster than this is believed whatever was before */
    FLEET_CONFIGURATION_MAX = 1 << 20,
};

/* Why a command is refused. */
enum {
    FLEET_REASON_UNSUPPORTED = 1,
    FLEET_REASON_BAD_BODY = 2,
    FLEET_REASON_NO_SUCH_ITEM = 3,
    FLEET_REASON_NOT_NOW = 4,
    FLEET_REASON_FAILURE = 5,
    FLEET_REASON_WRONG_OFFSET = 6,
    FLEET_REASON_NO_TRANSFER = 7,
    FLEET_REASON_BAD_DIGEST = 8,
    FLEET_REASON_TOO_LARGE = 9,
};

typedef enum fleet_phase {
    FLEET_AWAY,       /* no connection */
    FLEET_HELLO_SENT, /* waiting for WELCOME, or for a higher one after STALE */
    FLEET_WELCOMED,
} fleet_phase;

typedef enum fleet_verdict {
    FLEET_KEEP,
    FLEET_CONNECT, /* it has no connection and wants one */
    FLEET_CLOSE,   /* send what was written, then close and say so */
} fleet_verdict;

typedef enum fleet_why {
    FLEET_CLOSED_BY_SELF,
    FLEET_CLOSED_BY_HOST,
    FLEET_CONNECT_FAILED,
} fleet_why;

typedef struct fleet_door {
    uint8_t mode; /* 1 card, 2 locked, 3 unlocked */
    bool unlocked;
    uint64_t lock_at_us;
    uint8_t id[CSCP_COMMAND_ID_SIZE]; /* of the command that unlocked it */
} fleet_door;

typedef struct fleet_request {
    uint64_t seq; /* 0 = free */
    uint32_t log_epoch;
    uint16_t door;
    uint64_t until_us;
    uint8_t card[8];
} fleet_request;

typedef struct fleet_equipment {
    fleet_door doors[FLEET_DOORS];
    bool outputs[FLEET_OUTPUTS];
    uint64_t pulse_until_us[FLEET_OUTPUTS];
    fleet_request requests[FLEET_REQUESTS_MAX];
} fleet_equipment;

/* A transfer of `size` bytes of which `offset` have come; size 0 = none. */
typedef struct fleet_configuration {
    uint8_t in_force[CSCP_DIGEST_SIZE], digest[CSCP_DIGEST_SIZE];
    uint32_t size, offset;
    cscp_digest sum;
} fleet_configuration;

typedef struct fleet_result {
    uint8_t id[CSCP_COMMAND_ID_SIZE];
    uint32_t index;
    uint16_t reason;
    uint8_t status, n_body;
    uint8_t body[FLEET_RESULT_BODY_MAX];
} fleet_result;

typedef struct fleet_redirect {
    uint8_t n, at; /* addresses; the next to try, n = none */
    char addresses[FLEET_REDIRECTS_MAX][FLEET_ADDRESS_SIZE];
} fleet_redirect;

typedef struct fleet_controller {
    uint64_t serial;
    uint64_t random;
    uint64_t boot_id, booted_at_us;
    uint64_t epoch_seen;
    int64_t host_offset_us; /* host time - now.us, at most */
    int32_t skew_s;         /* of its own wall clock */
    fleet_log log;

    uint8_t phase;
    uint8_t attempts; /* since the last WELCOME */
    bool host_time_known, ping_out;
    bool welcomed_ever, welcomed_here; /* ever; on this connection */
    uint16_t k;
    uint32_t t1_ms, t3_ms, pong_token;
    uint64_t heard_at_us, pinged_at_us, hello_at_us, pong_at_us; /* the last: 0 = none here */
    uint64_t replay_through;

    uint64_t connect_at_us, generate_at_us, reboot_at_us;

    uint64_t last_ack_us; /* 0 = none yet */
    uint64_t gap_from_us; /* 0 = not disturbed */
    uint64_t away_from_us; /* 0 = welcomed, or never was */

    fleet_equipment *equipment; /* made when first needed */
    fleet_configuration *configuration; /* likewise */
    fleet_result *results;      /* the newest at (n_results_ever - 1) % 64 */
    uint32_t n_results_allocated, n_results_ever;
    fleet_redirect *redirect;
} fleet_controller;

void fleet_controller_init(fleet_controller *self, const fleet_world *world, uint64_t serial,
                           uint64_t connect_at_us, fleet_now now);
void fleet_controller_clear(fleet_controller *self);

/* When it wants fleet_controller_step(), at the latest. */
uint64_t fleet_controller_due_us(const fleet_controller *self, const fleet_world *world);
/* Does what is due: events, doors that lock again, PINGs, time-outs, connecting. */
fleet_verdict fleet_controller_step(fleet_controller *self, const fleet_world *world, fleet_now now,
                                    fleet_out *out);

/* The address it was redirected to and is to try now, or NULL for its own. */
const char *fleet_controller_address(const fleet_controller *self);
/* A connection is there: writes HELLO. */
void fleet_controller_connected(fleet_controller *self, const fleet_world *world, fleet_now now,
                                fleet_out *out);
/* A frame came. */
fleet_verdict fleet_controller_frame(fleet_controller *self, const fleet_world *world,
                                     const cscp_frame *frame, fleet_now now, fleet_out *out);
/* Sends of the log what may be sent; call after the others, until out has no more. */
void fleet_controller_fill(fleet_controller *self, const fleet_world *world, fleet_now now,
                           fleet_out *out);
/* The connection is gone. Sets when to connect again. */
void fleet_controller_closed(fleet_controller *self, const fleet_world *world, fleet_why why,
                             fleet_now now);
/* Starts anew; its connection, if it has one, is gone (say closed first). */
void fleet_controller_reboot(fleet_controller *self, const fleet_world *world, bool log_lost,
                             fleet_now now);
/* Its log is gone (cause: 1 memory lost, 2 cleared by hand), with or without a connection. */
void fleet_controller_lose_log(fleet_controller *self, const fleet_world *world, uint16_t cause,
                               fleet_now now);
/* Its own wall clock is now off by skew_s. */
void fleet_controller_set_skew(fleet_controller *self, int32_t skew_s);

/* --- Between the machine's files -------------------------------------------------------------- */

fleet_equipment *fleet_controller_equipment(fleet_controller *self);
void fleet_controller_command(fleet_controller *self, const fleet_world *world,
                              const cscp_frame *frame, fleet_now now, fleet_out *out);
fleet_result *fleet_controller_recall(fleet_controller *self, const uint8_t *id);
/* Each returns 0 or a reason, and writes the result's body. */
uint16_t fleet_configuration_begin(fleet_controller *self, const fleet_world *world,
                                   const cscp_command_frame *command, fleet_result *result);
uint16_t fleet_configuration_chunk(fleet_controller *self, const fleet_world *world,
                                   const cscp_command_frame *command, fleet_result *result);
uint16_t fleet_configuration_commit(fleet_controller *self, const fleet_world *world,
                                    const cscp_command_frame *command, fleet_now now,
                                    fleet_result *result);
void fleet_controller_write_stale(fleet_controller *self, const fleet_world *world,
                                  fleet_out *out);
void fleet_controller_log_clock_step(fleet_controller *self, const fleet_world *world,
                                     int32_t new_skew_s, fleet_now now);
/* Doors, outputs and access requests whose time is over; and when the next one is. */
void fleet_equipment_step(fleet_controller *self, const fleet_world *world, fleet_now now);
uint64_t fleet_equipment_due_us(const fleet_equipment *self);
/* Writes an event of its own into the log. */
void fleet_controller_log(fleet_controller *self, const fleet_world *world, uint8_t family,
                          uint16_t code, uint16_t source_type, uint16_t source_number,
                          const void *body, uint8_t n_body, fleet_now now);

#endif
