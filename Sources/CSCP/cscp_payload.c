/* The payloads, field by field, as Docs/PROTOCOL.md lays them out. Offsets are written as numbers so that
 * each line can be held against the table there. */
#include "cscp_frame.h"
#include "wire.h"

#include <assert.h>
#include <errno.h>

/* Payloads are written in place, behind the room for the header. */
static uint8_t *payload_of(uint8_t *out) { return out + CSCP_HEADER_SIZE; }

int cscp_parse_hello(const uint8_t *p, size_t n, cscp_hello *ret) {
    if (n < 90) return -EBADMSG;
    size_t n_model = p[88];
    if (n_model > CSCP_NAME_MAX || n < 90 + n_model) return -EBADMSG;
    size_t n_firmware = p[89 + n_model];
    if (n_firmware > CSCP_NAME_MAX || n < 90 + n_model + n_firmware) return -EBADMSG;
    *ret = (cscp_hello){
        .serial = get64(p),
        .version_min = p[8],
        .version_max = p[9],
        .capabilities = get32(p + 12),
        .boot_id = get64(p + 16),
        .log_epoch = get32(p + 24),
        .capacity = get32(p + 28),
        .oldest_seq = get64(p + 32),
        .last_seq = get64(p + 40),
        .acked_seq = get64(p + 48),
        .owner_epoch_seen = get64(p + 56),
        .clock_ms = get64(p + 64),
        .n_model = (uint8_t)n_model,
        .n_firmware = (uint8_t)n_firmware,
        .model = (const char *)p + 89,
        .firmware = (const char *)p + 90 + n_model,
    };
    memcpy(ret->digest, p + 72, CSCP_DIGEST_SIZE);
    return 0;
}

size_t cscp_write_hello(uint8_t *out, const cscp_hello *in) {
    uint8_t *p = payload_of(out);
    assert(in->n_model <= CSCP_NAME_MAX && in->n_firmware <= CSCP_NAME_MAX);
    put64(p, in->serial);
    p[8] = in->version_min;
    p[9] = in->version_max;
    put16(p + 10, 0);
    put32(p + 12, in->capabilities);
    put64(p + 16, in->boot_id);
    put32(p + 24, in->log_epoch);
    put32(p + 28, in->capacity);
    put64(p + 32, in->oldest_seq);
    put64(p + 40, in->last_seq);
    put64(p + 48, in->acked_seq);
    put64(p + 56, in->owner_epoch_seen);
    put64(p + 64, in->clock_ms);
    memcpy(p + 72, in->digest, CSCP_DIGEST_SIZE);
    p[88] = in->n_model;
    memcpy(p + 89, in->model, in->n_model);
    p[89 + in->n_model] = in->n_firmware;
    memcpy(p + 90 + in->n_model, in->firmware, in->n_firmware);
    return cscp_write_frame(out, CSCP_HELLO, p, 90u + in->n_model + in->n_firmware);
}

int cscp_parse_welcome(const uint8_t *p, size_t n, cscp_welcome *ret) {
    if (n < 56) return -EBADMSG;
    cscp_welcome in = {
        .session_id = get64(p),
        .owner_epoch = get64(p + 8),
        .log_epoch = get32(p + 16),
        .k = get16(p + 20),
        .w = get16(p + 22),
        .resume_from = get64(p + 24),
        .host_time_ms = get64(p + 32),
        .t1_ms = get32(p + 40),
        .t2_ms = get32(p + 44),
        .t3_ms = get32(p + 48),
        .bulk_window = p[52],
        .flags = p[53],
    };
    bool window_ok = in.k >= 1 && in.k <= CSCP_WINDOW_MAX && in.w >= 1 && in.w <= in.k;
    bool bulk_ok = in.bulk_window >= 1 && in.bulk_window <= 4;
    if (in.session_id == 0 || in.resume_from == 0 || !window_ok || !bulk_ok) return -EBADMSG;
    *ret = in;
    return 0;
}

size_t cscp_write_welcome(uint8_t *out, const cscp_welcome *in) {
    uint8_t *p = payload_of(out);
    put64(p, in->session_id);
    put64(p + 8, in->owner_epoch);
    put32(p + 16, in->log_epoch);
    put16(p + 20, in->k);
    put16(p + 22, in->w);
    put64(p + 24, in->resume_from);
    put64(p + 32, in->host_time_ms);
    put32(p + 40, in->t1_ms);
    put32(p + 44, in->t2_ms);
    put32(p + 48, in->t3_ms);
    p[52] = in->bulk_window;
    p[53] = in->flags;
    put16(p + 54, 0);
    return cscp_write_frame(out, CSCP_WELCOME, p, 56);
}

int cscp_parse_busy(const uint8_t *p, size_t n, cscp_pair *ret) {
    if (n < 8) return -EBADMSG;
    *ret = (cscp_pair){get32(p), get32(p + 4)};
    return 0;
}

size_t cscp_write_busy(uint8_t *out, uint32_t retry_after_ms, uint32_t jitter_ms) {
    uint8_t *p = payload_of(out);
    put32(p, retry_after_ms);
    put32(p + 4, jitter_ms);
    return cscp_write_frame(out, CSCP_BUSY, p, 8);
}

int cscp_parse_goaway(const uint8_t *p, size_t n, cscp_pair *ret) {
    if (n < 8) return -EBADMSG;
    *ret = (cscp_pair){get16(p), get32(p + 4)};
    return 0;
}

size_t cscp_write_goaway(uint8_t *out, cscp_reason reason, uint32_t spread_ms) {
    uint8_t *p = payload_of(out);
    put16(p, (uint16_t)reason);
    put16(p + 2, 0);
    put32(p + 4, spread_ms);
    return cscp_write_frame(out, CSCP_GOAWAY, p, 8);
}

int cscp_parse_reject(const uint8_t *p, size_t n, cscp_reject *ret) {
    if (n < 3 || n < 3u + p[2]) return -EBADMSG;
    *ret = (cscp_reject){get16(p), p[2], (const char *)p + 3};
    return 0;
}

size_t cscp_write_reject(uint8_t *out, cscp_reason reason, const char *text) {
    uint8_t *p = payload_of(out);
    size_t n = strnlen(text, 255);
    put16(p, (uint16_t)reason);
    p[2] = (uint8_t)n;
    memcpy(p + 3, text, n);
    return cscp_write_frame(out, CSCP_REJECT, p, 3 + n);
}

int cscp_parse_event(const uint8_t *p, size_t n, cscp_event *ret) {
    if (n < 32) return -EBADMSG;
    uint16_t n_body = get16(p + 28);
    if (n_body > CSCP_EVENT_BODY_MAX || n < 32u + n_body) return -EBADMSG;
    uint64_t seq = get64(p + 8);
    if (seq == 0) return -EBADMSG;
    *ret = (cscp_event){
        .log_epoch = get32(p),
        .flags = p[4],
        .family = p[5],
        .code = get16(p + 6),
        .seq = seq,
        .occurred_at_ms = get64(p + 16),
        .source_type = get16(p + 24),
        .source_number = get16(p + 26),
        .n_body = n_body,
        .body = p + 32,
    };
    return 0;
}

size_t cscp_write_event(uint8_t *out, const cscp_event *in) {
    uint8_t *p = payload_of(out);
    assert(in->n_body <= CSCP_EVENT_BODY_MAX);
    put32(p, in->log_epoch);
    p[4] = in->flags;
    p[5] = in->family;
    put16(p + 6, in->code);
    put64(p + 8, in->seq);
    put64(p + 16, in->occurred_at_ms);
    put16(p + 24, in->source_type);
    put16(p + 26, in->source_number);
    put16(p + 28, in->n_body);
    put16(p + 30, 0);
    if (in->n_body) memcpy(p + 32, in->body, in->n_body);
    return cscp_write_frame(out, CSCP_EVENT, p, 32u + in->n_body);
}

int cscp_parse_event_ack(const uint8_t *p, size_t n, cscp_event_ack_frame *ret) {
    if (n < 16) return -EBADMSG;
    *ret = (cscp_event_ack_frame){get32(p), get64(p + 8)};
    return 0;
}

size_t cscp_write_event_ack(uint8_t *out, uint32_t log_epoch, uint64_t seq) {
    uint8_t *p = payload_of(out);
    put32(p, log_epoch);
    put32(p + 4, 0);
    put64(p + 8, seq);
    return cscp_write_frame(out, CSCP_EVENT_ACK, p, 16);
}

int cscp_parse_log_gap(const uint8_t *p, size_t n, cscp_log_gap *ret) {
    if (n < 24) return -EBADMSG;
    cscp_log_gap in = {get32(p), get64(p + 8), get64(p + 16)};
    if (in.from == 0 || in.to < in.from || in.to == UINT64_MAX) return -EBADMSG;
    *ret = in;
    return 0;
}

size_t cscp_write_log_gap(uint8_t *out, const cscp_log_gap *in) {
    uint8_t *p = payload_of(out);
    put32(p, in->log_epoch);
    put32(p + 4, 0);
    put64(p + 8, in->from);
    put64(p + 16, in->to);
    return cscp_write_frame(out, CSCP_LOG_GAP, p, 24);
}

int cscp_parse_log_reset(const uint8_t *p, size_t n, cscp_log_reset *ret) {
    if (n < 40) return -EBADMSG;
    cscp_log_reset in = {
        .old_epoch = get32(p),
        .new_epoch = get32(p + 4),
        .seq = get64(p + 8),
        .occurred_at_ms = get64(p + 16),
        .old_last_seq = get64(p + 24),
        .cause = get16(p + 32),
    };
    if (in.seq != 1 || in.new_epoch <= in.old_epoch) return -EBADMSG;
    *ret = in;
    return 0;
}

size_t cscp_write_log_reset(uint8_t *out, const cscp_log_reset *in) {
    uint8_t *p = payload_of(out);
    put32(p, in->old_epoch);
    put32(p + 4, in->new_epoch);
    put64(p + 8, in->seq);
    put64(p + 16, in->occurred_at_ms);
    put64(p + 24, in->old_last_seq);
    put16(p + 32, in->cause);
    memset(p + 34, 0, 6);
    return cscp_write_frame(out, CSCP_LOG_RESET, p, 40);
}

int cscp_parse_command(const uint8_t *p, size_t n, cscp_command_frame *ret) {
    if (n < 40) return -EBADMSG;
    uint16_t n_body = get16(p + 36);
    if (n_body > CSCP_COMMAND_BODY_MAX || n < 40u + n_body || p[34] >= CSCP_LANE_COUNT)
        return -EBADMSG;
    *ret = (cscp_command_frame){
        .owner_epoch = get64(p + 16),
        .not_after_ms = get64(p + 24),
        .code = get16(p + 32),
        .lane = p[34],
        .n_body = n_body,
        .body = p + 40,
    };
    memcpy(ret->id, p, CSCP_COMMAND_ID_SIZE);
    return 0;
}

size_t cscp_write_command(uint8_t *out, const cscp_command_frame *in) {
    uint8_t *p = payload_of(out);
    assert(in->n_body <= CSCP_COMMAND_BODY_MAX);
    memcpy(p, in->id, CSCP_COMMAND_ID_SIZE);
    put64(p + 16, in->owner_epoch);
    put64(p + 24, in->not_after_ms);
    put16(p + 32, in->code);
    p[34] = in->lane;
    p[35] = 0;
    put16(p + 36, in->n_body);
    put16(p + 38, 0);
    if (in->n_body) memcpy(p + 40, in->body, in->n_body);
    return cscp_write_frame(out, CSCP_COMMAND, p, 40u + in->n_body);
}

int cscp_parse_result(const uint8_t *p, size_t n, cscp_result *ret) {
    if (n < 28) return -EBADMSG;
    uint16_t n_body = get16(p + 24);
    uint8_t status = p[16];
    if (n_body > CSCP_RESULT_BODY_MAX || n < 28u + n_body) return -EBADMSG;
    if (status < CSCP_RESULT_DONE || status > CSCP_RESULT_EXPIRED) return -EBADMSG;
    *ret = (cscp_result){
        .status = status,
        .flags = p[17],
        .reason = get16(p + 18),
        .index = get32(p + 20),
        .n_body = n_body,
        .body = p + 28,
    };
    memcpy(ret->id, p, CSCP_COMMAND_ID_SIZE);
    return 0;
}

size_t cscp_write_result(uint8_t *out, const cscp_result *in) {
    uint8_t *p = payload_of(out);
    assert(in->n_body <= CSCP_RESULT_BODY_MAX);
    memcpy(p, in->id, CSCP_COMMAND_ID_SIZE);
    p[16] = in->status;
    p[17] = in->flags;
    put16(p + 18, in->reason);
    put32(p + 20, in->index);
    put16(p + 24, in->n_body);
    put16(p + 26, 0);
    if (in->n_body) memcpy(p + 28, in->body, in->n_body);
    return cscp_write_frame(out, CSCP_RESULT, p, 28u + in->n_body);
}

int cscp_parse_time(const uint8_t *p, size_t n, cscp_time *ret) {
    if (n < 16) return -EBADMSG;
    *ret = (cscp_time){get64(p), get32(p + 8), get32(p + 12)};
    return 0;
}

size_t cscp_write_time(uint8_t *out, const cscp_time *in) {
    uint8_t *p = payload_of(out);
    put64(p, in->host_time_ms);
    put32(p + 8, in->rtt_us);
    put32(p + 12, in->token);
    return cscp_write_frame(out, CSCP_TIME, p, 16);
}

int cscp_parse_u64(const uint8_t *p, size_t n, uint64_t *ret) {
    if (n < 8) return -EBADMSG;
    *ret = get64(p);
    return 0;
}

size_t cscp_write_u64(uint8_t *out, uint8_t type, uint64_t value) {
    uint8_t *p = payload_of(out);
    put64(p, value);
    return cscp_write_frame(out, type, p, 8);
}

static uint64_t fnv1a(uint64_t hash, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * 0x100000001B3u;
    return hash;
}

uint64_t cscp_event_fingerprint(uint64_t serial, const cscp_event *e) {
    uint8_t p[35];
    put64(p, serial);
    put32(p + 8, e->log_epoch);
    put64(p + 12, e->seq);
    put64(p + 20, e->occurred_at_ms);
    p[28] = e->family;
    put16(p + 29, e->code);
    put16(p + 31, e->source_type);
    put16(p + 33, e->source_number);
    uint64_t hash = fnv1a(0xCBF29CE484222325u, p, sizeof(p));
    return e->n_body ? fnv1a(hash, e->body, e->n_body) : hash;
}
