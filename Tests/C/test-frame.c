/* The codec against the published vectors, against cut and broken input, and against itself. */
#include "check.h"
#include "cscp_frame.h"

#include <ctype.h>
#include <errno.h>

uint32_t cscp_crc32c_portable(uint32_t crc, const void *data, size_t n);

static uint64_t random_state = 42;
static uint64_t random_next(void) {
    uint64_t z = (random_state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static void crc_is_castagnoli_on_any_processor(void) {
    CHECK_EQ(cscp_crc32c(0, "123456789", 9), 0xE3069283u);
    CHECK_EQ(cscp_crc32c_portable(0, "123456789", 9), 0xE3069283u);
    uint8_t data[300];
    for (size_t i = 0; i < sizeof(data); i++) data[i] = (uint8_t)random_next();
    for (size_t from = 0; from < 9; from++)
        for (size_t n = 0; n + from <= sizeof(data); n++) {
            uint32_t whole = cscp_crc32c(0, data + from, n);
            CHECK_EQ(whole, cscp_crc32c_portable(0, data + from, n));
            uint32_t half = cscp_crc32c(0, data + from, n / 2);
            CHECK_EQ(whole, cscp_crc32c(half, data + from + n / 2, n - n / 2));
        }
}

/* --- the vectors: "name field=value ..." and a line of hex --- */

typedef struct vector {
    char name[64], fields[4096];
    uint8_t frame[CSCP_FRAME_MAX];
    size_t n;
} vector;

static size_t unhex(const char *text, uint8_t *out) {
    size_t n = 0;
    unsigned byte;
    while (isxdigit((unsigned char)text[2 * n]) && sscanf(text + 2 * n, "%2x", &byte) == 1)
        out[n++] = (uint8_t)byte;
    return n;
}

static bool read_vector(FILE *file, vector *v) {
    static char line[16384];
    if (!fgets(line, sizeof(line), file)) return false;
    char *space = strchr(line, ' ');
    CHECK(space != NULL);
    snprintf(v->name, sizeof(v->name), "%.*s", (int)(space - line), line);
    snprintf(v->fields, sizeof(v->fields), "%s", space);
    CHECK(fgets(line, sizeof(line), file) != NULL);
    v->n = unhex(line, v->frame);
    return true;
}

static const char *text_of(const vector *v, const char *field) {
    char key[64];
    snprintf(key, sizeof(key), " %s=", field);
    const char *at = strstr(v->fields, key);
    if (!at) fprintf(stderr, "vector %s has no field %s\n", v->name, field);
    CHECK(at != NULL);
    return at + strlen(key);
}

static uint64_t number(const vector *v, const char *field) {
    return strtoull(text_of(v, field), NULL, 10);
}

static bool bytes_are(const vector *v, const char *field, const void *data, size_t n) {
    const char *text = text_of(v, field);
    uint8_t wanted[CSCP_FRAME_MAX];
    return *text == 'x' && unhex(text + 1, wanted) == n && memcmp(wanted, data, n) == 0;
}

#define FIELD(v, s, name) CHECK_EQ(number(&v, #name), s.name)

static size_t check_handshake(const vector *at, const uint8_t *p, size_t n, uint8_t *out) {
    vector v = *at;
    cscp_hello hello;
    cscp_welcome welcome;
    cscp_pair pair;
    cscp_reject reject;
    if (!strcmp(v.name, "hello")) {
        CHECK_EQ(cscp_parse_hello(p, n, &hello), 0);
        FIELD(v, hello, serial);
        FIELD(v, hello, version_min);
        FIELD(v, hello, version_max);
        FIELD(v, hello, capabilities);
        FIELD(v, hello, boot_id);
        FIELD(v, hello, log_epoch);
        FIELD(v, hello, capacity);
        FIELD(v, hello, oldest_seq);
        FIELD(v, hello, last_seq);
        FIELD(v, hello, acked_seq);
        FIELD(v, hello, owner_epoch_seen);
        FIELD(v, hello, clock_ms);
        CHECK(bytes_are(&v, "digest", hello.digest, CSCP_DIGEST_SIZE));
        CHECK(bytes_are(&v, "model", hello.model, hello.n_model));
        CHECK(bytes_are(&v, "firmware", hello.firmware, hello.n_firmware));
        return cscp_write_hello(out, &hello);
    }
    if (!strcmp(v.name, "welcome")) {
        CHECK_EQ(cscp_parse_welcome(p, n, &welcome), 0);
        FIELD(v, welcome, session_id);
        FIELD(v, welcome, owner_epoch);
        FIELD(v, welcome, log_epoch);
        FIELD(v, welcome, k);
        FIELD(v, welcome, w);
        FIELD(v, welcome, resume_from);
        FIELD(v, welcome, host_time_ms);
        FIELD(v, welcome, t1_ms);
        FIELD(v, welcome, t2_ms);
        FIELD(v, welcome, t3_ms);
        FIELD(v, welcome, bulk_window);
        FIELD(v, welcome, flags);
        return cscp_write_welcome(out, &welcome);
    }
    if (!strcmp(v.name, "busy")) {
        CHECK_EQ(cscp_parse_busy(p, n, &pair), 0);
        CHECK_EQ(pair.a, number(&v, "retry_after_ms"));
        CHECK_EQ(pair.b, number(&v, "jitter_ms"));
        return cscp_write_busy(out, pair.a, pair.b);
    }
    if (!strcmp(v.name, "goaway")) {
        CHECK_EQ(cscp_parse_goaway(p, n, &pair), 0);
        CHECK_EQ(pair.a, number(&v, "reason"));
        CHECK_EQ(pair.b, number(&v, "spread_ms"));
        return cscp_write_goaway(out, (cscp_reason)pair.a, pair.b);
    }
    if (!strcmp(v.name, "reject")) {
        CHECK_EQ(cscp_parse_reject(p, n, &reject), 0);
        FIELD(v, reject, reason);
        CHECK(bytes_are(&v, "text", reject.text, reject.n_text));
        char text[256] = {0};
        memcpy(text, reject.text, reject.n_text);
        return cscp_write_reject(out, (cscp_reason)reject.reason, text);
    }
    return 0;
}

static size_t check_events(const vector *at, const uint8_t *p, size_t n, uint8_t *out) {
    vector v = *at;
    cscp_event event;
    cscp_event_ack_frame ack;
    cscp_log_gap gap;
    cscp_log_reset reset;
    if (!strcmp(v.name, "event") || !strcmp(v.name, "event_without_body")) {
        CHECK_EQ(cscp_parse_event(p, n, &event), 0);
        FIELD(v, event, log_epoch);
        FIELD(v, event, flags);
        FIELD(v, event, family);
        FIELD(v, event, code);
        FIELD(v, event, seq);
        FIELD(v, event, occurred_at_ms);
        FIELD(v, event, source_type);
        FIELD(v, event, source_number);
        CHECK(bytes_are(&v, "body", event.body, event.n_body));
        CHECK(number(&v, "fingerprint") == cscp_event_fingerprint(12345, &event));
        return cscp_write_event(out, &event);
    }
    if (!strcmp(v.name, "event_ack")) {
        CHECK_EQ(cscp_parse_event_ack(p, n, &ack), 0);
        FIELD(v, ack, log_epoch);
        FIELD(v, ack, seq);
        return cscp_write_event_ack(out, ack.log_epoch, ack.seq);
    }
    if (!strcmp(v.name, "log_gap")) {
        CHECK_EQ(cscp_parse_log_gap(p, n, &gap), 0);
        CHECK_EQ(gap.log_epoch, number(&v, "log_epoch"));
        CHECK_EQ(gap.from, number(&v, "first"));
        CHECK_EQ(gap.to, number(&v, "last"));
        return cscp_write_log_gap(out, &gap);
    }
    if (!strcmp(v.name, "log_reset")) {
        CHECK_EQ(cscp_parse_log_reset(p, n, &reset), 0);
        FIELD(v, reset, old_epoch);
        FIELD(v, reset, new_epoch);
        FIELD(v, reset, seq);
        FIELD(v, reset, occurred_at_ms);
        FIELD(v, reset, old_last_seq);
        FIELD(v, reset, cause);
        return cscp_write_log_reset(out, &reset);
    }
    return 0;
}

static size_t check_commands(const vector *at, const uint8_t *p, size_t n, uint8_t *out) {
    vector v = *at;
    cscp_command_frame command;
    cscp_result result;
    cscp_time time;
    if (!strcmp(v.name, "command")) {
        CHECK_EQ(cscp_parse_command(p, n, &command), 0);
        CHECK(bytes_are(&v, "id", command.id, CSCP_COMMAND_ID_SIZE));
        FIELD(v, command, owner_epoch);
        FIELD(v, command, not_after_ms);
        FIELD(v, command, code);
        FIELD(v, command, lane);
        CHECK(bytes_are(&v, "body", command.body, command.n_body));
        return cscp_write_command(out, &command);
    }
    if (!strcmp(v.name, "result")) {
        CHECK_EQ(cscp_parse_result(p, n, &result), 0);
        CHECK(bytes_are(&v, "id", result.id, CSCP_COMMAND_ID_SIZE));
        FIELD(v, result, status);
        FIELD(v, result, flags);
        FIELD(v, result, reason);
        FIELD(v, result, index);
        CHECK(bytes_are(&v, "body", result.body, result.n_body));
        return cscp_write_result(out, &result);
    }
    if (!strcmp(v.name, "time")) {
        CHECK_EQ(cscp_parse_time(p, n, &time), 0);
        FIELD(v, time, host_time_ms);
        FIELD(v, time, rtt_us);
        FIELD(v, time, token);
        return cscp_write_time(out, &time);
    }
    return 0;
}

static size_t check_and_rewrite(const vector *v, const cscp_frame *f, uint8_t *out) {
    size_t (*const checks[])(const vector *, const uint8_t *, size_t, uint8_t *) = {
        check_handshake, check_events, check_commands};
    for (size_t i = 0; i < 3; i++) {
        size_t n = checks[i](v, f->payload, f->n_payload, out);
        if (n) return n;
    }
    uint64_t value;
    if (f->type == CSCP_REDIRECT) return cscp_write_frame(out, f->type, f->payload, f->n_payload);
    CHECK_EQ(cscp_parse_u64(f->payload, f->n_payload, &value), 0);
    CHECK(value == number(v, "value"));
    return cscp_write_u64(out, f->type, value);
}

static FILE *open_vectors(void) {
    const char *path = getenv("CSCP_VECTORS");
    FILE *file = fopen(path ? path : "Tests/vectors/frames.txt", "r");
    if (!file) perror("Tests/vectors/frames.txt (run from the package's folder)");
    CHECK(file != NULL);
    return file;
}

static void every_vector_parses_and_is_written_the_same(void) {
    FILE *file = open_vectors();
    static vector v;
    unsigned n = 0;
    bool types[256] = {false};
    while (read_vector(file, &v)) {
        cscp_decoder d = {0};
        cscp_frame f;
        size_t used;
        uint8_t again[CSCP_FRAME_MAX];
        CHECK_EQ(cscp_decode(&d, v.frame, v.n, &f, &used), 1);
        CHECK_EQ(used, v.n);
        CHECK_EQ(check_and_rewrite(&v, &f, again), v.n);
        CHECK(memcmp(again, v.frame, v.n) == 0);
        types[f.type] = true;
        n++;
    }
    fclose(file);
    CHECK(n >= 18);
    static const uint8_t all[] = {1, 2, 3, 4, 5, 6, 7, 8, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x30, 0x31, 0x32};
    for (size_t i = 0; i < sizeof(all); i++) CHECK(types[all[i]]);
}

/* Short payloads of every vector must be refused, never read past (ASan watches). */
static void payloads_cut_short_are_refused(void) {
    FILE *file = open_vectors();
    static vector v;
    while (read_vector(file, &v)) {
        size_t n_payload = v.n - CSCP_HEADER_SIZE - CSCP_TRAILER_SIZE;
        uint8_t type = v.frame[3];
        for (size_t n = 0; n < n_payload; n++) {
            uint8_t *p = malloc(n ? n : 1);
            memcpy(p, v.frame + CSCP_HEADER_SIZE, n);
            union {
                cscp_hello a; cscp_welcome b; cscp_pair c; cscp_reject d; cscp_event e;
                cscp_event_ack_frame f; cscp_log_gap g; cscp_log_reset h; cscp_command_frame i;
                cscp_result j; cscp_time k; uint64_t l;
            } u;
            int r = -EBADMSG;
            switch (type) {
            case CSCP_HELLO: r = cscp_parse_hello(p, n, &u.a); break;
            case CSCP_WELCOME: r = cscp_parse_welcome(p, n, &u.b); break;
            case CSCP_BUSY: r = cscp_parse_busy(p, n, &u.c); break;
            case CSCP_GOAWAY: r = cscp_parse_goaway(p, n, &u.c); break;
            case CSCP_REJECT: r = cscp_parse_reject(p, n, &u.d); break;
            case CSCP_EVENT: r = cscp_parse_event(p, n, &u.e); break;
            case CSCP_EVENT_ACK: r = cscp_parse_event_ack(p, n, &u.f); break;
            case CSCP_LOG_GAP: r = cscp_parse_log_gap(p, n, &u.g); break;
            case CSCP_LOG_RESET: r = cscp_parse_log_reset(p, n, &u.h); break;
            case CSCP_COMMAND: r = cscp_parse_command(p, n, &u.i); break;
            case CSCP_RESULT: r = cscp_parse_result(p, n, &u.j); break;
            case CSCP_TIME: r = cscp_parse_time(p, n, &u.k); break;
            case CSCP_REDIRECT: break;
            default: r = cscp_parse_u64(p, n, &u.l); break;
            }
            CHECK_EQ(r, -EBADMSG);
            free(p);
        }
    }
    fclose(file);
}

/* --- streams --- */

typedef struct seen {
    uint32_t sum;
    unsigned frames;
    cscp_decoder decoder;
    int error;
} seen;

/* Feeds a stream in pieces of up to `piece` bytes, each from memory of exactly its size. */
static seen feed(const uint8_t *stream, size_t n, size_t piece) {
    seen s = {0};
    uint8_t *kept = malloc(n + 1);
    size_t have = 0, at = 0;
    while (at < n && !s.error) {
        size_t more = n - at < piece ? n - at : piece;
        memcpy(kept + have, stream + at, more);
        have += more;
        at += more;
        for (;;) {
            cscp_frame f;
            size_t used;
            uint8_t *exact = malloc(have ? have : 1);
            memcpy(exact, kept, have);
            int r = cscp_decode(&s.decoder, exact, have, &f, &used);
            CHECK(used <= have);
            if (r == 1) {
                s.frames++;
                s.sum = cscp_crc32c(s.sum, &f.type, 1);
                s.sum = cscp_crc32c(s.sum, f.payload, f.n_payload);
            } else if (r == 0) {
                CHECK(have - used < CSCP_FRAME_MAX);
            } else {
                s.error = r;
            }
            free(exact);
            memmove(kept, kept + used, have - used);
            have -= used;
            if (r != 1) break;
        }
    }
    free(kept);
    return s;
}

static void however_the_bytes_are_cut_the_frames_are_the_same(void) {
    static uint8_t stream[200000];
    for (int round = 0; round < 60; round++) {
        size_t n = 0;
        unsigned whole = 0;
        while (n < 20000) {
            uint8_t frame[CSCP_FRAME_MAX], payload[600];
            size_t n_payload = random_next() % sizeof(payload);
            for (size_t i = 0; i < n_payload; i++)
                payload[i] = random_next() % 3 ? (uint8_t)random_next() : 0x5C;
            size_t size = cscp_write_frame(frame, (uint8_t)random_next(), payload, n_payload);
            switch (round == 0 ? 9 : random_next() % 12) {
            case 0: /* broken off, and the next one simply begins */
                size = random_next() % size;
                break;
            case 1: /* a bit turned */
                frame[random_next() % size] ^= (uint8_t)(1 << random_next() % 8);
                break;
            case 2: /* garbage before it */
                for (size_t i = random_next() % 40; i > 0; i--) stream[n++] = (uint8_t)random_next();
                break;
            default:
                whole++;
            }
            memcpy(stream + n, frame, size);
            n += size;
        }
        seen all = feed(stream, n, n);
        if (round == 0) {
            CHECK_EQ(all.frames, whole);
            CHECK_EQ(all.decoder.resyncs, 0);
        }
        static const size_t pieces[] = {1, 2, 3, 7, 12, 13, 100, 1000};
        for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
            seen cut = feed(stream, n, pieces[i]);
            CHECK_EQ(cut.frames, all.frames);
            CHECK_EQ(cut.sum, all.sum);
            CHECK_EQ(cut.decoder.resyncs, all.decoder.resyncs);
            CHECK_EQ(cut.decoder.skipped, all.decoder.skipped);
            CHECK_EQ(cut.error, all.error);
        }
    }
}

static void a_frame_broken_off_anywhere_costs_one_resync(void) {
    uint8_t first[CSCP_FRAME_MAX], stream[2 * CSCP_FRAME_MAX];
    cscp_event event = {.log_epoch = 1, .seq = 1, .n_body = 20, .body = first};
    memset(first, 0x5C, 20);
    size_t n = cscp_write_event(stream, &event);
    memcpy(first, stream, n);
    for (size_t cut = 1; cut < n; cut++) {
        memcpy(stream, first, cut);
        size_t size = cut + cscp_write_u64(stream + cut, CSCP_PING, 7);
        size += cscp_write_u64(stream + size, CSCP_PING, 8);
        size += cscp_write_u64(stream + size, CSCP_PING, 9);
        seen s = feed(stream, size, size);
        CHECK_EQ(s.frames, 3);
        CHECK_EQ(s.decoder.resyncs, 1);
        CHECK_EQ(s.decoder.skipped, cut);
    }
}

static void a_true_header_of_another_version_or_too_long_is_final(void) {
    uint8_t header[CSCP_HEADER_SIZE];
    for (int i = 0; i < 2; i++) {
        cscp_write_frame(header, CSCP_PING, NULL, 0);
        if (i == 0) header[2] = 2;
        else header[6] = 0x10, header[7] = 0x01; /* 4,097 */
        uint32_t crc = cscp_crc32c(0, header, 8);
        for (int b = 0; b < 4; b++) header[8 + b] = (uint8_t)(crc >> (24 - 8 * b));
        CHECK_EQ(feed(header, sizeof(header), 1).error, i == 0 ? -EPROTONOSUPPORT : -EMSGSIZE);
        CHECK_EQ(feed(header, sizeof(header), 12).error, i == 0 ? -EPROTONOSUPPORT : -EMSGSIZE);
    }
}

static void every_reason_has_a_name(void) {
    for (int i = 0; i <= CSCP_REASON_MAX; i++)
        CHECK(strcmp(cscp_reason_name((cscp_reason)i), "unknown") != 0);
    CHECK(strcmp(cscp_reason_name((cscp_reason)99), "unknown") == 0);
}

int main(void) {
    RUN(crc_is_castagnoli_on_any_processor);
    RUN(every_vector_parses_and_is_written_the_same);
    RUN(payloads_cut_short_are_refused);
    RUN(however_the_bytes_are_cut_the_frames_are_the_same);
    RUN(a_frame_broken_off_anywhere_costs_one_resync);
    RUN(a_true_header_of_another_version_or_too_long_is_final);
    RUN(every_reason_has_a_name);
    return 0;
}
