/* The session: connecting, HELLO, WELCOME and what else the host may answer, staying alive. */
#include "controller.h"
#include "bytes.h"
#include "random.h"

#include <stdlib.h>
#include <string.h>

void fleet_controller_init(fleet_controller *self, const fleet_world *world, uint64_t serial,
                           uint64_t connect_at_us, fleet_now now) {
    const fleet_config *config = world->config;

    *self = (fleet_controller){
        .serial = serial,
        .random = fleet_mix(config->seed ^ fleet_mix(serial)),
        .booted_at_us = now.us,
        .connect_at_us = connect_at_us,
        .generate_at_us = FLEET_NEVER,
        .reboot_at_us = FLEET_NEVER,
    };
    self->boot_id = fleet_random(&self->random);
    /* The first log of all has epoch 1. A higher one follows others that are not known any more. */
    fleet_log_init(&self->log, world, config->log_epoch, config->log_epoch > 1, now);
    if (config->event_rate > 0 && !config->flood)
        self->generate_at_us = now.us + (uint64_t)(fleet_random_unit(&self->random) * 1e6 *
                                                   config->burst / config->event_rate);
}

void fleet_controller_clear(fleet_controller *self) {
    fleet_log_clear(&self->log);
    free(self->equipment);
    free(self->configuration);
    free(self->results);
    free(self->redirect);
    *self = (fleet_controller){0};
}

void fleet_controller_set_skew(fleet_controller *self, int32_t skew_s) {
    self->skew_s = skew_s;
}

void fleet_controller_log(fleet_controller *self, const fleet_world *world, uint8_t family,
                          uint16_t code, uint16_t source_type, uint16_t source_number,
                          const void *body, uint8_t n_body, fleet_now now) {
    fleet_special special = {
        .family = family,
        .code = code,
        .source_type = source_type,
        .source_number = source_number,
        .n_body = n_body,
    };
    if (n_body > 0)
        memcpy(special.body, body, n_body);
    fleet_log_append(&self->log, world, &special, now, self->skew_s);
}

void fleet_controller_log_clock_step(fleet_controller *self, const fleet_world *world,
                                     int32_t new_skew_s, fleet_now now) {
    int32_t step_s = new_skew_s - self->skew_s;
    uint8_t body[8];

    self->skew_s = new_skew_s;
    if (step_s >= -FLEET_CLOCK_LIMIT_S && step_s <= FLEET_CLOCK_LIMIT_S)
        return;
    fleet_store(body, 8, (uint64_t)((int64_t)step_s * 1000));
    fleet_controller_log(self, world, 4, 5, 5, 0, body, sizeof(body), now);
}

/* --- Connecting ------------------------------------------------------------------------------- */

/* Full jitter under a ceiling that doubles. As real fleets do it instead: every 5, 10 or 20 times
 * the shortest wait, all at the same instants. */
static uint64_t backoff_us(fleet_controller *self, const fleet_world *world, fleet_now now) {
    uint64_t min = world->config->backoff_min_ms * 1000ull, ceiling = min;
    uint64_t max = world->config->backoff_max_ms * 1000ull;

    if (world->sync_reconnect) {
        uint64_t every = min * (5u << self->serial % 3);
        return every > 0 ? every - now.us % every : 0;
    }
    for (unsigned i = 0; i < self->attempts && ceiling < max; i++)
        ceiling *= 2;
    if (self->attempts < UINT8_MAX)
        self->attempts++;
    return fleet_random_below(&self->random, (ceiling < max ? ceiling : max) + 1);
}

const char *fleet_controller_address(const fleet_controller *self) {
    const fleet_redirect *redirect = self->redirect;
    return redirect && redirect->at < redirect->n ? redirect->addresses[redirect->at] : NULL;
}

void fleet_controller_connected(fleet_controller *self, const fleet_world *world, fleet_now now,
                                fleet_out *out) {
    const fleet_log *log = &self->log;
    cscp_hello hello = {
        .serial = self->serial,
        .version_min = CSCP_VERSION,
        .version_max = CSCP_VERSION,
        .capabilities = 1 << 0 | 1 << 1 | 1 << 2,
        .boot_id = self->boot_id,
        .log_epoch = log->epoch,
        .capacity = world->config->capacity,
        .oldest_seq = log->first,
        .last_seq = log->last,
        .acked_seq = log->acked,
        .owner_epoch_seen = self->epoch_seen,
        .clock_ms = now.wall_ms + (uint64_t)((int64_t)self->skew_s * 1000),
        .model = "SCP-FLEET",
        .n_model = 9,
        .firmware = "1.0",
        .n_firmware = 3,
    };

    fleet_count(&world->tally->connects, 1);
    if (self->configuration)
        memcpy(hello.digest, self->configuration->in_force, sizeof(hello.digest));
    self->phase = FLEET_HELLO_SENT;
    self->welcomed_here = self->ping_out = false;
    self->pong_at_us = 0;
    self->connect_at_us = FLEET_NEVER;
    self->heard_at_us = self->hello_at_us = now.us;
    out->n += cscp_write_hello(out->p + out->n, &hello);
}

/* From the last acknowledgement until the next one, whatever happens in between. */
static void disturbed(fleet_controller *self) {
    if (self->gap_from_us == 0)
        self->gap_from_us = self->last_ack_us;
}

void fleet_controller_closed(fleet_controller *self, const fleet_world *world, fleet_why why,
                             fleet_now now) {
    if (why == FLEET_CLOSED_BY_HOST)
        fleet_count(&world->tally->closed_by_host, 1);
    if (why == FLEET_CONNECT_FAILED)
        fleet_count(&world->tally->connect_failures, 1);
    if (self->welcomed_here) {
        fleet_count(&world->tally->sessions_ended, 1);
        disturbed(self);
        if (self->away_from_us == 0)
            self->away_from_us = now.us;
    }
    if (self->redirect && self->redirect->at < self->redirect->n &&
        self->connect_at_us == FLEET_NEVER)
        self->redirect->at++;
    self->phase = FLEET_AWAY;
    self->welcomed_here = self->ping_out = false;
    /* BUSY, GOAWAY and REDIRECT have set a time already. */
    if (self->connect_at_us == FLEET_NEVER)
        self->connect_at_us =
            now.us + (fleet_controller_address(self) ? 0 : backoff_us(self, world, now));
}

void fleet_controller_lose_log(fleet_controller *self, const fleet_world *world, uint16_t cause,
                               fleet_now now) {
    fleet_log_reset(&self->log, world, cause, now, self->skew_s);
    self->replay_through = 0;
}

void fleet_controller_reboot(fleet_controller *self, const fleet_world *world, bool log_lost,
                             fleet_now now) {
    self->boot_id = fleet_random(&self->random);
    self->booted_at_us = now.us;
    self->reboot_at_us = FLEET_NEVER;
    self->host_time_known = false;
    free(self->equipment);
    self->equipment = NULL;
    if (self->configuration)
        self->configuration->size = 0;
    free(self->redirect);
    self->redirect = NULL;
    if (log_lost)
        fleet_controller_lose_log(self, world, 1, now);
    fleet_controller_log(self, world, 4, 7, 5, 0, NULL, 0, now);
}

/* --- Frames ----------------------------------------------------------------------------------- */

void fleet_controller_write_stale(fleet_controller *self, const fleet_world *world,
                                  fleet_out *out) {
    fleet_count(&world->tally->commands_stale_epoch, 1);
    fleet_count(&world->tally->stale_refused, 1);
    out->n += cscp_write_u64(out->p + out->n, CSCP_STALE, self->epoch_seen);
}

/* What says `host_time_ms` was written `since_us` ago at most; FLEET_NEVER = nobody knows. Host time is the
 * latest it can be, so that a command is expired too soon rather than carried out too late. What is known
 * already stays when this does not contradict it, and says no more. */
static void learn_host_time(fleet_controller *self, uint64_t host_time_ms, uint64_t since_us,
                            fleet_now now) {
    int64_t earliest_us = (int64_t)(host_time_ms * 1000 - now.us);
    int64_t latest_us = earliest_us + 1000; /* it is cut to whole ms */
    bool is_vague = since_us > FLEET_HOST_TIME_EXACT_US;

    if (since_us != FLEET_NEVER)
        latest_us += (int64_t)since_us;
    if (self->host_time_known && is_vague && earliest_us <= self->host_offset_us &&
        (since_us == FLEET_NEVER || self->host_offset_us < latest_us))
        return;
    self->host_offset_us = latest_us;
    self->host_time_known = true;
}

static int on_welcome(fleet_controller *self, const fleet_world *world, const cscp_frame *frame,
                      fleet_now now, fleet_out *out) {
    cscp_welcome welcome;
    fleet_tally *tally = world->tally;
    int r = cscp_parse_welcome(frame->payload, frame->n_payload, &welcome);

    if (r < 0)
        return r;
    if (welcome.owner_epoch < self->epoch_seen) {
        fleet_controller_write_stale(self, world, out);
        return 0;
    }
    self->epoch_seen = welcome.owner_epoch;
    learn_host_time(self, welcome.host_time_ms,
                    self->welcomed_here ? FLEET_NEVER : now.us - self->hello_at_us, now);
    self->k = welcome.k;
    self->t1_ms = welcome.t1_ms;
    self->t3_ms = welcome.t3_ms;
    self->attempts = 0;
    if (self->redirect)
        self->redirect->n = 0;
    fleet_count(&tally->welcomes, 1);
    if (self->welcomed_here) {
        fleet_count(&tally->handovers, 1);
        disturbed(self);
    } else if (self->welcomed_ever) {
        fleet_count(&tally->reconnects, 1);
    } else {
        fleet_count(&tally->controllers_welcomed, 1);
    }
    if (self->away_from_us != 0) {
        fleet_histogram_add(&tally->outage, now.us - self->away_from_us);
        self->away_from_us = 0;
    }
    self->phase = FLEET_WELCOMED;
    self->welcomed_ever = self->welcomed_here = true;
    self->replay_through = self->log.last;
    if (welcome.log_epoch == self->log.epoch) {
        fleet_log_resume(&self->log, world, self->serial, welcome.resume_from);
    } else {
        fleet_count(&tally->resume_invalid, 1);
        fleet_log_resume(&self->log, world, self->serial, self->log.acked + 1);
    }
    return 0;
}

static int on_ack(fleet_controller *self, const fleet_world *world, const cscp_frame *frame,
                  fleet_now now) {
    cscp_event_ack_frame ack;
    int r = cscp_parse_event_ack(frame->payload, frame->n_payload, &ack);

    if (r < 0)
        return r;
    fleet_count(&world->tally->acks, 1);
    if (ack.log_epoch != self->log.epoch) {
        for (uint32_t i = 0; i < self->log.n_past; i++)
            if (self->log.past[i].epoch == ack.log_epoch &&
                ack.seq <= self->log.past[i].sent_max) {
                fleet_count(&world->tally->acks_old_log, 1);
                return 0;
            }
        fleet_count(&world->tally->acks_invalid, 1);
        return 0;
    }
    if (ack.seq > self->log.sent_max || self->phase != FLEET_WELCOMED) {
        fleet_count(&world->tally->acks_invalid, 1);
        return 0;
    }
    /* Sent before the last WELCOME and taken after it; it is sent anew, and acknowledged again. */
    if (ack.seq >= self->log.next) {
        fleet_count(&world->tally->acks_early, 1);
        return 0;
    }
    if (fleet_log_ack(&self->log, world, ack.seq, now) > 0) {
        if (self->gap_from_us != 0) {
            fleet_histogram_add(&world->tally->gap, now.us - self->gap_from_us);
            self->gap_from_us = 0;
        }
        self->last_ack_us = now.us;
    }
    return 0;
}

/* What the wall clock is to show, when it shows `wall_ms` and a TIME has come `since_us` after its PONG. One that was
 * long on its way says little: a clock that may be right stays. */
static int64_t better_wall_ms(int64_t wall_ms, const cscp_time *time, uint64_t since_us) {
    int64_t earliest_ms = (int64_t)time->host_time_ms, latest_ms;
    int64_t likely_ms = earliest_ms + time->rtt_us / 2000;

    if (since_us == FLEET_NEVER)
        return likely_ms;
    latest_ms = earliest_ms + 1 + (int64_t)(since_us / 1000);
    if (since_us > FLEET_HOST_TIME_EXACT_US && wall_ms >= earliest_ms && wall_ms <= latest_ms)
        return wall_ms;
    return likely_ms < latest_ms ? likely_ms : latest_ms;
}

static int on_time(fleet_controller *self, const fleet_world *world, const cscp_frame *frame,
                   fleet_now now) {
    cscp_time time;
    uint64_t since_us;
    int64_t wall_ms, off_ms, skew_s;
    int r = cscp_parse_time(frame->payload, frame->n_payload, &time);

    if (r < 0)
        return r;
    fleet_count(&world->tally->times, 1);
    since_us = self->pong_at_us != 0 && time.token == self->pong_token ? now.us - self->pong_at_us
                                                                       : FLEET_NEVER;
    learn_host_time(self, time.host_time_ms, since_us, now);
    wall_ms = (int64_t)now.wall_ms + (int64_t)self->skew_s * 1000;
    off_ms = better_wall_ms(wall_ms, &time, since_us) - wall_ms;
    skew_s = self->skew_s + (off_ms + (off_ms < 0 ? -500 : 500)) / 1000; /* the nearest */
    if (skew_s >= -(1 << 23) && skew_s < 1 << 23)
        fleet_controller_log_clock_step(self, world, (int32_t)skew_s, now);
    return 0;
}

/* Addresses too long to be one, and more than four, are passed over. */
static int on_redirect(fleet_controller *self, const fleet_world *world, const cscp_frame *frame,
                       fleet_now now) {
    const uint8_t *p = frame->payload;
    size_t n = frame->n_payload, at = 1;
    fleet_redirect redirect = {0};

    if (n < 1 || p[0] < 1 || p[0] > FLEET_REDIRECTS_MAX)
        return -1;
    for (unsigned i = 0; i < p[0]; i++) {
        if (at >= n || n - at - 1 < p[at])
            return -1;
        if (p[at] < FLEET_ADDRESS_SIZE)
            memcpy(redirect.addresses[redirect.n++], p + at + 1, p[at]);
        at += 1u + p[at];
    }
    fleet_count(&world->tally->redirects, 1);
    if (!self->redirect)
        self->redirect = malloc(sizeof(*self->redirect));
    if (self->redirect)
        *self->redirect = redirect;
    /* At once, unless hosts send it round in circles. */
    self->connect_at_us = now.us;
    if (self->attempts > FLEET_REDIRECTS_MAX)
        self->connect_at_us += backoff_us(self, world, now);
    else
        self->attempts++;
    return 0;
}

static int on_later(fleet_controller *self, const fleet_world *world, const cscp_frame *frame,
                    fleet_now now) {
    cscp_pair pair;
    uint64_t wait_ms;
    int r = frame->type == CSCP_BUSY ? cscp_parse_busy(frame->payload, frame->n_payload, &pair)
                                     : cscp_parse_goaway(frame->payload, frame->n_payload, &pair);
    if (r < 0)
        return r;
    fleet_count(frame->type == CSCP_BUSY ? &world->tally->busy : &world->tally->goaways, 1);
    wait_ms = frame->type == CSCP_BUSY ? pair.a : 0;
    self->connect_at_us =
        now.us + wait_ms * 1000 + fleet_random_below(&self->random, pair.b * 1000ull + 1);
    if (self->redirect)
        self->redirect->n = 0;
    return 0;
}

fleet_verdict fleet_controller_frame(fleet_controller *self, const fleet_world *world,
                                     const cscp_frame *frame, fleet_now now, fleet_out *out) {
    fleet_verdict verdict = FLEET_KEEP;
    uint64_t value;
    int r = 0;

    self->heard_at_us = now.us;
    self->ping_out = false;
    switch (frame->type) {
    case CSCP_EVENT_ACK:
        r = on_ack(self, world, frame, now);
        break;
    case CSCP_WELCOME:
        r = on_welcome(self, world, frame, now, out);
        break;
    case CSCP_COMMAND:
        fleet_controller_command(self, world, frame, now, out);
        break;
    case CSCP_PING:
        r = cscp_parse_u64(frame->payload, frame->n_payload, &value);
        if (r == 0) {
            out->n += cscp_write_u64(out->p + out->n, CSCP_PONG, value);
            self->pong_token = (uint32_t)value;
            self->pong_at_us = now.us;
        }
        break;
    case CSCP_PONG:
        break;
    case CSCP_TIME:
        r = on_time(self, world, frame, now);
        break;
    case CSCP_BUSY:
    case CSCP_GOAWAY:
        r = on_later(self, world, frame, now);
        verdict = FLEET_CLOSE;
        break;
    case CSCP_REDIRECT:
        r = on_redirect(self, world, frame, now);
        verdict = FLEET_CLOSE;
        break;
    case CSCP_REJECT:
        fleet_count(&world->tally->rejects, 1);
        verdict = FLEET_CLOSE;
        break;
    case CSCP_SUPERSEDED:
        fleet_count(&world->tally->superseded, 1);
        verdict = FLEET_CLOSE;
        break;
    default:
        if (!(frame->type & CSCP_TYPE_SKIPPABLE))
            r = -1;
        break;
    }
    if (r < 0)
        fleet_count(&world->tally->protocol_errors, 1);
    return verdict;
}

/* --- Time ------------------------------------------------------------------------------------- */

static void write_advisory(const fleet_record *record, fleet_out *out) {
    cscp_event event = record->event;
    event.flags = CSCP_EVENT_PRIORITY | CSCP_EVENT_ADVISORY;
    out->n += cscp_write_event(out->p + out->n, &event);
}

/* A person stands at the door and waits for the answer. */
static void ask_host(fleet_controller *self, const fleet_record *record, fleet_now now) {
    fleet_equipment *equipment = fleet_controller_equipment(self);

    for (unsigned i = 0; equipment && i < FLEET_REQUESTS_MAX; i++) {
        fleet_request *request = &equipment->requests[i];
        if (request->seq != 0)
            continue;
        *request = (fleet_request){
            .seq = record->event.seq,
            .log_epoch = record->event.log_epoch,
            .door = record->event.source_number,
            .until_us = now.us + FLEET_REQUEST_MS * 1000,
        };
        memcpy(request->card, record->body, sizeof(request->card));
        return;
    }
}

static void generate_one(fleet_controller *self, const fleet_world *world, fleet_now now,
                         fleet_out *out) {
    fleet_record record;
    uint64_t seq = self->log.last + 1;

    fleet_log_append(&self->log, world, NULL, now, self->skew_s);
    if (self->log.last != seq)
        return;
    fleet_log_get(&self->log, world, self->serial, seq, &record);
    if (!record.priority)
        return;
    if (record.event.family == 2 && record.event.code == 3) {
        fleet_count(&world->tally->access_requests, 1);
        ask_host(self, &record, now);
    }
    /* Its turn will not come soon: the host is told ahead of it. */
    if (self->phase == FLEET_WELCOMED && self->log.n_items >= self->k && fleet_out_has_room(out)) {
        fleet_count(&world->tally->advisories, 1);
        write_advisory(&record, out);
    }
}

static void generate(fleet_controller *self, const fleet_world *world, fleet_now now,
                     fleet_out *out) {
    double interval_us = 1e6 * world->config->burst / world->config->event_rate;

    for (int i = 0; i < 1000 && self->generate_at_us <= now.us; i++) {
        for (uint32_t j = 0; j < world->config->burst; j++)
            generate_one(self, world, now, out);
        self->generate_at_us +=
            1 + (uint64_t)(interval_us * (0.5 + fleet_random_unit(&self->random)));
    }
}

static uint64_t alive_due_us(const fleet_controller *self, const fleet_world *world) {
    if (self->phase == FLEET_HELLO_SENT)
        return self->hello_at_us + world->config->connect_timeout_ms * 1000ull;
    if (self->phase != FLEET_WELCOMED || self->t3_ms == 0)
        return FLEET_NEVER;
    return self->ping_out ? self->pinged_at_us + self->t1_ms * 1000ull
                          : self->heard_at_us + self->t3_ms * 1000ull;
}

/* PING after a silence of t3; gone after t1 without an answer. */
static fleet_verdict stay_alive(fleet_controller *self, const fleet_world *world, fleet_now now,
                                fleet_out *out) {
    if (now.us < alive_due_us(self, world))
        return FLEET_KEEP;
    if (self->phase == FLEET_HELLO_SENT || self->ping_out) {
        fleet_count(&world->tally->timeouts, 1);
        return FLEET_CLOSE;
    }
    fleet_count(&world->tally->pings, 1);
    self->ping_out = true;
    self->pinged_at_us = now.us;
    out->n += cscp_write_u64(out->p + out->n, CSCP_PING, now.us);
    return FLEET_KEEP;
}

uint64_t fleet_controller_due_us(const fleet_controller *self, const fleet_world *world) {
    uint64_t due = self->reboot_at_us, other;

    if (self->phase == FLEET_AWAY && self->connect_at_us < due)
        due = self->connect_at_us;
    if (world->generating && self->generate_at_us < due)
        due = self->generate_at_us;
    other = alive_due_us(self, world);
    if (other < due)
        due = other;
    if (self->equipment) {
        other = fleet_equipment_due_us(self->equipment);
        if (other < due)
            due = other;
    }
    return due;
}

fleet_verdict fleet_controller_step(fleet_controller *self, const fleet_world *world, fleet_now now,
                                    fleet_out *out) {
    if (self->reboot_at_us <= now.us) {
        bool away = self->phase == FLEET_AWAY;
        fleet_controller_reboot(self, world, false, now);
        if (!away)
            return FLEET_CLOSE;
    }
    if (self->equipment)
        fleet_equipment_step(self, world, now);
    if (world->generating && self->generate_at_us <= now.us)
        generate(self, world, now, out);
    if (self->phase == FLEET_AWAY && self->connect_at_us <= now.us) {
        self->connect_at_us = FLEET_NEVER;
        return FLEET_CONNECT;
    }
    return stay_alive(self, world, now, out);
}

void fleet_controller_fill(fleet_controller *self, const fleet_world *world, fleet_now now,
                           fleet_out *out) {
    fleet_log *log = &self->log;

    if (self->phase != FLEET_WELCOMED)
        return;
    if (world->config->flood && world->generating) {
        uint64_t waiting = log->last + 1 - log->next;
        for (uint64_t n = log->n_items + waiting; n < self->k && fleet_out_has_room(out); n++)
            generate_one(self, world, now, out);
    }
    if (log->next <= log->last)
        fleet_log_send(log, world, self->serial, self->k, self->replay_through, out);
}
