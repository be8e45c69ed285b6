/* Configuration transfer: begin, chunk, commit (Docs/PROTOCOL.md). What a configuration says is the
 * maker's; a simulated controller keeps its digest, not its bytes. */
#include "bytes.h"
#include "controller.h"

#include <stdlib.h>
#include <string.h>

static fleet_configuration *configuration_of(fleet_controller *self) {
    if (!self->configuration)
        self->configuration = calloc(1, sizeof(*self->configuration));
    return self->configuration;
}

/* As in HELLO: no configuration. */
static bool is_none(const uint8_t *digest) {
    static const uint8_t none[CSCP_DIGEST_SIZE];
    return memcmp(digest, none, sizeof(none)) == 0;
}

static bool is_in_force(const fleet_configuration *self, const uint8_t *digest) {
    return !is_none(digest) && memcmp(self->in_force, digest, CSCP_DIGEST_SIZE) == 0;
}

static void say_offset(fleet_result *result, uint32_t offset) {
    fleet_store(result->body, 4, offset);
    result->n_body = 4;
}

uint16_t fleet_configuration_begin(fleet_controller *self, const fleet_world *world,
                                   const cscp_command_frame *command, fleet_result *result) {
    const uint8_t *digest = command->body;
    fleet_configuration *c = configuration_of(self);
    uint64_t size;

    if (command->n_body < 20 || is_none(digest))
        return FLEET_REASON_BAD_BODY;
    size = fleet_load(digest + CSCP_DIGEST_SIZE, 4);
    if (size == 0)
        return FLEET_REASON_BAD_BODY;
    if (size > FLEET_CONFIGURATION_MAX)
        return FLEET_REASON_TOO_LARGE;
    if (!c)
        return FLEET_REASON_FAILURE;
    if (is_in_force(c, digest)) {
        say_offset(result, (uint32_t)size);
        return 0;
    }
    if (c->size != size || memcmp(c->digest, digest, CSCP_DIGEST_SIZE) != 0) {
        memcpy(c->digest, digest, CSCP_DIGEST_SIZE);
        c->size = (uint32_t)size;
        c->offset = 0;
        cscp_digest_begin(&c->sum);
        fleet_count(&world->tally->configurations_begun, 1);
    } else if (c->offset > 0) {
        fleet_count(&world->tally->configurations_resumed, 1);
    }
    say_offset(result, c->offset);
    return 0;
}

uint16_t fleet_configuration_chunk(fleet_controller *self, const fleet_world *world,
                                   const cscp_command_frame *command, fleet_result *result) {
    fleet_configuration *c = self->configuration;
    uint64_t offset;
    uint32_t n;

    if (command->n_body <= 20)
        return FLEET_REASON_BAD_BODY;
    offset = fleet_load(command->body + CSCP_DIGEST_SIZE, 4);
    n = command->n_body - 20u;
    if (!c || c->size == 0 || memcmp(c->digest, command->body, CSCP_DIGEST_SIZE) != 0)
        return FLEET_REASON_NO_TRANSFER;
    say_offset(result, c->offset);
    /* Come again: it is here already. */
    if (offset + n <= c->offset)
        return 0;
    if (offset != c->offset || offset + n > c->size)
        return FLEET_REASON_WRONG_OFFSET;
    cscp_digest_add(&c->sum, command->body + 20, n);
    c->offset += n;
    fleet_count(&world->tally->configuration_chunks, 1);
    fleet_count(&world->tally->configuration_bytes, n);
    say_offset(result, c->offset);
    return 0;
}

uint16_t fleet_configuration_commit(fleet_controller *self, const fleet_world *world,
                                    const cscp_command_frame *command, fleet_now now,
                                    fleet_result *result) {
    fleet_configuration *c = self->configuration;
    uint8_t digest[CSCP_DIGEST_SIZE];

    if (command->n_body < CSCP_DIGEST_SIZE)
        return FLEET_REASON_BAD_BODY;
    if (c && is_in_force(c, command->body))
        return 0;
    if (!c || c->size == 0 || memcmp(c->digest, command->body, CSCP_DIGEST_SIZE) != 0)
        return FLEET_REASON_NO_TRANSFER;
    if (c->offset < c->size) {
        say_offset(result, c->offset);
        return FLEET_REASON_WRONG_OFFSET;
    }
    cscp_digest_get(&c->sum, digest);
    c->size = 0;
    if (memcmp(digest, c->digest, CSCP_DIGEST_SIZE) != 0) {
        fleet_count(&world->tally->configurations_bad, 1);
        return FLEET_REASON_BAD_DIGEST;
    }
    memcpy(c->in_force, digest, CSCP_DIGEST_SIZE);
    fleet_count(&world->tally->configurations_applied, 1);
    fleet_controller_log(self, world, 4, 6, 5, 0, digest, sizeof(digest), now);
    return 0;
}
