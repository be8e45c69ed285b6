/* A simulated controller on the bench: stepped by hand, with a variable for the time, and whatever
 * it writes read back frame by frame. */
#ifndef FLEET_RIG_H
#define FLEET_RIG_H

#include "check.h"
#include "controller.h"

#include <stdbool.h>

enum { SERIAL = 4711, FRAMES_MAX = 4096, WALL_MS = 1767225600 };

/* Docs/PROTOCOL.md's numbers. */
enum { UNLOCK = 1, DOOR_MODE = 2, ANSWER = 3, OUTPUT = 4, CLOCK = 5, STATUS = 6, REBOOT = 7 };

typedef struct rig {
    fleet_config config;
    fleet_tally tally;
    fleet_registry registry;
    fleet_world world;
    fleet_controller c;
    fleet_now now;
    fleet_out out;
    uint8_t bytes[256 * 1024];
    cscp_frame frames[FRAMES_MAX]; /* what it wrote at the last step */
    size_t n_frames;
    fleet_verdict verdict;
} rig;

static inline rig *rig_new(uint32_t log_epoch, uint32_t capacity) {
    rig *r = calloc(1, sizeof(*r));

    CHECK(r);
    fleet_config_init(&r->config);
    r->config.log_epoch = log_epoch;
    r->config.capacity = capacity;
    r->config.event_rate = 0;
    r->world = (fleet_world){
        .config = &r->config,
        .wall_base_ms = WALL_MS * 1000ull,
        .generating = true,
        .tally = &r->tally,
        .registry = &r->registry,
    };
    r->now = (fleet_now){.us = 1000000, .wall_ms = WALL_MS * 1000ull + 1000};
    r->out = (fleet_out){.p = r->bytes, .size = sizeof(r->bytes)};
    fleet_controller_init(&r->c, &r->world, SERIAL, 0, r->now);
    return r;
}

static inline void rig_free(rig *r) {
    fleet_controller_clear(&r->c);
    fleet_registry_clear(&r->registry);
    free(r);
}

static inline void pass(rig *r, uint64_t ms) {
    r->now.us += ms * 1000;
    r->now.wall_ms += ms;
}

/* Lets it send, and reads what it wrote. */
static inline void hear(rig *r) {
    cscp_decoder decoder = {0};
    size_t at = 0, used = 0;

    if (r->verdict == FLEET_KEEP)
        fleet_controller_fill(&r->c, &r->world, r->now, &r->out);
    for (r->n_frames = 0; at < r->out.n; at += used, r->n_frames++) {
        CHECK(r->n_frames < FRAMES_MAX);
        cscp_frame *frame = &r->frames[r->n_frames];
        CHECK_EQ(cscp_decode(&decoder, r->bytes + at, r->out.n - at, frame, &used), 1);
    }
    CHECK_EQ(decoder.resyncs, 0);
    r->out.n = 0;
}

static inline void step(rig *r) {
    r->verdict = fleet_controller_step(&r->c, &r->world, r->now, &r->out);
    hear(r);
}

/* The host's bytes: one frame. */
static inline void say(rig *r, const uint8_t *bytes, size_t n) {
    cscp_decoder decoder = {0};
    cscp_frame frame;
    size_t used;

    CHECK_EQ(cscp_decode(&decoder, bytes, n, &frame, &used), 1);
    r->verdict = fleet_controller_frame(&r->c, &r->world, &frame, r->now, &r->out);
    hear(r);
}

static inline void log_events(rig *r, unsigned n) {
    for (unsigned i = 0; i < n; i++)
        fleet_log_append(&r->c.log, &r->world, NULL, r->now, r->c.skew_s);
    r->verdict = FLEET_KEEP;
    hear(r);
}

static inline cscp_hello connect_now(rig *r) {
    cscp_hello hello;

    r->verdict = FLEET_KEEP;
    fleet_controller_connected(&r->c, &r->world, r->now, &r->out);
    hear(r);
    CHECK_EQ(r->n_frames, 1);
    CHECK_EQ(cscp_parse_hello(r->frames[0].payload, r->frames[0].n_payload, &hello), 0);
    return hello;
}

static inline void close_now(rig *r) {
    fleet_controller_closed(&r->c, &r->world, FLEET_CLOSED_BY_HOST, r->now);
}

/* Host time is the true time plus this. */
__attribute__((unused)) static int64_t host_ahead_ms;

static inline void welcome(rig *r, uint64_t epoch, uint64_t resume_from, uint16_t k) {
    uint8_t bytes[CSCP_WELCOME_FRAME];
    cscp_welcome w = {
        .session_id = 1,
        .owner_epoch = epoch,
        .log_epoch = r->c.log.epoch,
        .k = k,
        .w = 1,
        .resume_from = resume_from,
        .host_time_ms = r->now.wall_ms + (uint64_t)host_ahead_ms,
        .t1_ms = 15000,
        .t2_ms = 500,
        .t3_ms = 20000,
        .bulk_window = 1,
    };
    say(r, bytes, cscp_write_welcome(bytes, &w));
}

static inline void ack(rig *r, uint32_t log_epoch, uint64_t seq) {
    uint8_t bytes[CSCP_EVENT_ACK_FRAME];
    say(r, bytes, cscp_write_event_ack(bytes, log_epoch, seq));
}

static inline cscp_event event_at(const rig *r, size_t i) {
    cscp_event event;

    CHECK(i < r->n_frames);
    CHECK_EQ(r->frames[i].type, CSCP_EVENT);
    CHECK_EQ(cscp_parse_event(r->frames[i].payload, r->frames[i].n_payload, &event), 0);
    return event;
}

static inline void id_of(uint32_t number, uint8_t id[16]) {
    memset(id, 0x77, 16);
    memcpy(id, &number, sizeof(number));
}

/* Sends a command and returns its result. */
static inline cscp_result command(rig *r, uint32_t number, uint64_t epoch, uint64_t not_after_ms,
                           uint16_t code, const uint8_t *body, uint16_t n_body) {
    uint8_t bytes[CSCP_FRAME_MAX];
    cscp_result result = {0};
    cscp_command_frame frame = {
        .owner_epoch = epoch,
        .not_after_ms = not_after_ms,
        .code = code,
        .n_body = n_body,
        .body = body,
    };
    id_of(number, frame.id);
    say(r, bytes, cscp_write_command(bytes, &frame));
    for (size_t i = 0; i < r->n_frames; i++)
        if (r->frames[i].type == CSCP_RESULT) {
            CHECK_EQ(cscp_parse_result(r->frames[i].payload, r->frames[i].n_payload, &result), 0);
            CHECK(memcmp(result.id, frame.id, 16) == 0);
        }
    return result;
}

/* Door 2, for 1 s. */
__attribute__((unused)) static const uint8_t unlock_2[8] = {0, 2, 0, 0, 0, 0, 0x03, 0xE8};

#endif
