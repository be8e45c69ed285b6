/* Faults, as they fall due. */
#include "bytes.h"
#include "random.h"
#include "worker.h"

#include <string.h>

enum { HOUR_S = 3600 };

static double rate_of(const fleet_worker *self, int fault) {
    return self->fleet->faults.rates[fault] * self->n_peers;
}

static uint64_t next_at_us(fleet_worker *self, int fault, uint64_t from_us) {
    double rate = fault == FLEET_FAULT_SYNC_RECONNECT ? 0 : rate_of(self, fault);
    return rate > 0 ? from_us + fleet_random_wait_us(&self->random, rate) : FLEET_NEVER;
}

void fleet_worker_schedule_faults(fleet_worker *self, fleet_now now) {
    for (int fault = 0; fault < FLEET_FAULT_COUNT; fault++)
        self->fault_at_us[fault] = next_at_us(self, fault, now.us);
}

/* A header whose CRC is right, for what it claims. */
static void put_header(fleet_out *out, uint8_t version, uint8_t type, uint32_t n_payload) {
    uint8_t *p = out->p + out->n;

    fleet_store(p, 2, CSCP_MAGIC);
    p[2] = version;
    p[3] = type;
    fleet_store(p + 4, 4, n_payload);
    fleet_store(p + 8, 4, cscp_crc32c(0, p, 8));
    out->n += CSCP_HEADER_SIZE;
}

/* Something that is no frame of this protocol; never a part of one that is. */
static void put_malformed(fleet_worker *self, fleet_out *out) {
    uint8_t payload[64];
    size_t n = 1 + fleet_random_below(&self->random, sizeof(payload));

    for (size_t i = 0; i < sizeof(payload); i++)
        payload[i] = (uint8_t)fleet_random(&self->random);
    switch (fleet_random_below(&self->random, 7)) {
    case 0: /* wrong CRC */
        out->n += cscp_write_frame(out->p + out->n, CSCP_EVENT, payload, sizeof(payload));
        out->p[out->n - 1] ^= 1;
        break;
    case 1: /* garbage */
        memcpy(out->p + out->n, payload, n);
        out->n += n;
        break;
    case 2: /* too large */
        put_header(out, CSCP_VERSION, CSCP_EVENT, CSCP_PAYLOAD_MAX + 1);
        break;
    case 3: /* of another version */
        put_header(out, CSCP_VERSION + 1, CSCP_EVENT, 0);
        break;
    case 4: /* of an unknown type */
        out->n += cscp_write_frame(out->p + out->n, 0x7F, payload, n);
        break;
    case 5: /* of an unknown type that may be skipped */
        out->n += cscp_write_frame(out->p + out->n, 0xFF, payload, n);
        break;
    default: /* cut short */
        out->n += cscp_write_frame(out->p + out->n, CSCP_EVENT, payload, 31);
        break;
    }
}

static void reboot(fleet_worker *self, fleet_peer *peer, bool log_lost, fleet_now now) {
    if (peer->state != FLEET_SOCKET_NONE)
        fleet_peer_close(self, peer, FLEET_CLOSED_BY_SELF, true, now);
    fleet_controller_reboot(&peer->controller, &self->world, log_lost, now);
    fleet_peer_rearm(self, peer);
}

static void inflict(fleet_worker *self, fleet_fault fault, fleet_now now) {
    fleet_peer *peer = &self->peers[fleet_random_below(&self->random, self->n_peers)];
    fleet_tally *tally = &self->tally;
    bool welcomed = peer->controller.phase == FLEET_WELCOMED && peer->state == FLEET_SOCKET_OPEN;
    uint64_t number;

    switch (fault) {
    case FLEET_FAULT_DISCONNECT:
        if (!welcomed)
            return;
        fleet_count(&tally->fault_disconnect, 1);
        fleet_peer_close(self, peer, FLEET_CLOSED_BY_SELF, fleet_random(&self->random) & 1, now);
        return;
    case FLEET_FAULT_HALF_OPEN:
        if (welcomed && fleet_peer_abandon(self, peer, now))
            fleet_count(&tally->fault_half_open, 1);
        return;
    case FLEET_FAULT_REBOOT:
    case FLEET_FAULT_REBOOT_LOST:
        fleet_count(fault == FLEET_FAULT_REBOOT ? &tally->fault_reboot : &tally->fault_reboot_lost,
                    1);
        reboot(self, peer, fault == FLEET_FAULT_REBOOT_LOST, now);
        return;
    case FLEET_FAULT_LOG_CLEAR:
        if (!welcomed)
            return;
        fleet_count(&tally->fault_log_clear, 1);
        fleet_controller_lose_log(&peer->controller, &self->world, 2, now);
        fleet_peer_flush(self, peer, now);
        return;
    case FLEET_FAULT_SLOW_READER:
        if (!welcomed || peer->slow_until_us != 0)
            return;
        fleet_count(&tally->fault_slow_reader, 1);
        number = 1000000 + fleet_random_below(&self->random, 4000000);
        fleet_peer_slow_down(self, peer, now.us + number);
        return;
    case FLEET_FAULT_MALFORMED:
        if (!welcomed || peer->n_unsent > 0)
            return;
        fleet_count(&tally->fault_malformed, 1);
        put_malformed(self, &self->out);
        fleet_peer_flush(self, peer, now);
        return;
    case FLEET_FAULT_CLOCK_SKEW:
        fleet_count(&tally->fault_clock_skew, 1);
        number = fleet_random_below(&self->random, 3);
        fleet_controller_set_skew(&peer->controller, ((int32_t)number - 1) * HOUR_S);
        return;
    case FLEET_FAULT_SYNC_RECONNECT:
    case FLEET_FAULT_COUNT:
        return;
    }
}

void fleet_worker_inject(fleet_worker *self, fleet_now now) {
    for (int fault = 0; fault < FLEET_FAULT_COUNT; fault++)
        while (self->fault_at_us[fault] <= now.us) {
            inflict(self, (fleet_fault)fault, now);
            self->fault_at_us[fault] = next_at_us(self, fault, self->fault_at_us[fault]);
        }
}
