/* The simulated controller's configuration, held to the published vectors and to Docs/PROTOCOL.md. */
#include "fleet-rig.h"

#include <ctype.h>

enum { BEGIN = 16, CHUNK = 17, COMMIT = 18, SIZE = 300 };
enum { WRONG_OFFSET = 6, NO_TRANSFER = 7, BAD_DIGEST = 8, TOO_LARGE = 9 };

static void content_of(uint8_t *content, size_t n, unsigned seed, uint8_t *digest) {
    cscp_digest sum;

    for (size_t i = 0; i < n; i++)
        content[i] = (uint8_t)(i * 7 + seed);
    cscp_digest_begin(&sum);
    cscp_digest_add(&sum, content, n);
    cscp_digest_get(&sum, digest);
}

static void put32(uint8_t *p, uint32_t v) {
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint32_t offset_in(cscp_result result) {
    CHECK_EQ(result.n_body, 4);
    return (uint32_t)result.body[0] << 24 | (uint32_t)result.body[1] << 16 |
           (uint32_t)result.body[2] << 8 | result.body[3];
}

static uint32_t number;

static cscp_result begin(rig *r, const uint8_t *digest, uint32_t size) {
    uint8_t body[20];

    memcpy(body, digest, 16);
    put32(body + 16, size);
    return command(r, ++number, 1, 0, BEGIN, body, sizeof(body));
}

static cscp_result chunk(rig *r, const uint8_t *digest, uint32_t offset, const uint8_t *content,
                         uint16_t n) {
    uint8_t body[CSCP_COMMAND_BODY_MAX];

    memcpy(body, digest, 16);
    put32(body + 16, offset);
    memcpy(body + 20, content + offset, n);
    return command(r, ++number, 1, 0, CHUNK, body, (uint16_t)(20 + n));
}

static cscp_result commit(rig *r, const uint8_t *digest) {
    return command(r, ++number, 1, 0, COMMIT, digest, 16);
}

static rig *welcomed(void) {
    rig *r = rig_new(1, 1000);

    connect_now(r);
    welcome(r, 1, 1, 8);
    return r;
}

static size_t read_frame(FILE *file, uint8_t *frame) {
    static char line[16384];
    size_t n = 0;
    unsigned byte;

    if (!fgets(line, sizeof(line), file) || !fgets(line, sizeof(line), file))
        return 0;
    while (isxdigit((unsigned char)line[2 * n]) && sscanf(line + 2 * n, "%2x", &byte) == 1)
        frame[n++] = (uint8_t)byte;
    return n;
}

/* Of the vectors from the first command in the bulk lane on: what the host sends, and the answer. */
static void a_transfer_goes_as_in_the_vectors(void) {
    const char *path = getenv("CSCP_VECTORS");
    FILE *file = fopen(path ? path : "Tests/vectors/frames.txt", "r");
    uint8_t sent[CSCP_FRAME_MAX], wanted[CSCP_FRAME_MAX], digest[16];
    uint8_t content[SIZE];
    rig *r = rig_new(1, 1000);
    unsigned n_steps = 0;
    size_t n;

    CHECK(file != NULL);
    connect_now(r);
    welcome(r, 9, 1, 8);
    while ((n = read_frame(file, sent)) > 0) {
        cscp_command_frame command;
        if (sent[3] != CSCP_COMMAND ||
            cscp_parse_command(sent + 12, n - 16, &command) < 0 || command.lane != CSCP_LANE_BULK)
            continue;
        say(r, sent, n);
        n = read_frame(file, wanted);
        CHECK_EQ(r->frames[0].n_payload, n - 16);
        CHECK(memcmp(r->frames[0].payload, wanted + 12, n - 16) == 0);
        n_steps++;
    }
    fclose(file);
    CHECK_EQ(n_steps, 5);
    CHECK_EQ(r->tally.configurations_applied, 1);
    CHECK_EQ(r->tally.configuration_chunks, 2);
    CHECK_EQ(r->tally.configuration_bytes, SIZE);
    CHECK_EQ(r->n_frames, 2);
    content_of(content, SIZE, 0, digest);
    cscp_event applied = event_at(r, 1);
    CHECK(applied.family == 4 && applied.code == 6 && applied.source_type == 5);
    CHECK(applied.n_body == 16 && memcmp(applied.body, digest, 16) == 0);
    close_now(r);
    cscp_hello hello = connect_now(r);
    CHECK(memcmp(hello.digest, digest, 16) == 0);
    CHECK(hello.capabilities & 1 << 2);
    rig_free(r);
}

static void a_digest_is_the_same_however_it_is_cut(void) {
    static uint8_t content[1000];
    uint8_t whole[16], cut[16];

    for (size_t n = 0; n < 300; n++) {
        content_of(content, n, 3, whole);
        for (size_t part = 1; part < 130; part += 7) {
            cscp_digest sum;
            cscp_digest_begin(&sum);
            for (size_t at = 0; at < n; at += part)
                cscp_digest_add(&sum, content + at, at + part < n ? part : n - at);
            cscp_digest_get(&sum, cut);
            CHECK(memcmp(whole, cut, 16) == 0);
        }
    }
}

static void a_transfer_goes_on_after_a_break_and_begins_anew_after_a_restart(void) {
    rig *r = welcomed();
    uint8_t content[SIZE], digest[16];

    content_of(content, SIZE, 1, digest);
    CHECK_EQ(offset_in(begin(r, digest, SIZE)), 0);
    CHECK_EQ(offset_in(chunk(r, digest, 0, content, 120)), 120);
    close_now(r);
    connect_now(r);
    welcome(r, 1, 1, 8);
    CHECK_EQ(offset_in(begin(r, digest, SIZE)), 120);
    CHECK_EQ(r->tally.configurations_begun, 1);
    CHECK_EQ(r->tally.configurations_resumed, 1);
    /* One that is there already is done, and changes nothing. */
    CHECK_EQ(chunk(r, digest, 0, content, 100).status, CSCP_RESULT_DONE);
    CHECK_EQ(r->tally.configuration_chunks, 1);
    close_now(r);
    fleet_controller_reboot(&r->c, &r->world, false, r->now);
    connect_now(r);
    welcome(r, 1, 1, 8);
    CHECK_EQ(chunk(r, digest, 120, content, 100).reason, NO_TRANSFER);
    CHECK_EQ(offset_in(begin(r, digest, SIZE)), 0);
    CHECK_EQ(offset_in(chunk(r, digest, 0, content, SIZE)), SIZE);
    CHECK_EQ(commit(r, digest).status, CSCP_RESULT_DONE);
    /* What is in force needs no bytes, and is not put in force again. */
    close_now(r);
    fleet_controller_reboot(&r->c, &r->world, false, r->now);
    CHECK(memcmp(connect_now(r).digest, digest, 16) == 0);
    welcome(r, 1, 1, 8);
    CHECK_EQ(offset_in(begin(r, digest, SIZE)), SIZE);
    CHECK_EQ(commit(r, digest).status, CSCP_RESULT_DONE);
    CHECK_EQ(r->tally.configurations_applied, 1);
    rig_free(r);
}

static void what_is_wrong_is_refused_with_what_is_wanted(void) {
    static uint8_t content[4000];
    rig *r = welcomed();
    uint8_t digest[16], other[16], none[16] = {0}, false_one[16];
    cscp_result result;

    content_of(content, SIZE, 2, other);
    content_of(content, 4000, 1, digest);
    CHECK_EQ(chunk(r, digest, 0, content, 10).reason, NO_TRANSFER);
    CHECK_EQ(commit(r, digest).reason, NO_TRANSFER);
    CHECK_EQ(begin(r, none, SIZE).reason, 2);
    CHECK_EQ(commit(r, none).reason, NO_TRANSFER);
    CHECK_EQ(begin(r, digest, 0).reason, 2);
    CHECK_EQ(begin(r, digest, (1 << 20) + 1).reason, TOO_LARGE);
    CHECK_EQ(command(r, ++number, 1, 0, BEGIN, digest, 16).reason, 2);
    CHECK_EQ(begin(r, digest, SIZE).status, CSCP_RESULT_DONE);
    CHECK_EQ(command(r, ++number, 1, 0, CHUNK, digest, 16).reason, 2);
    CHECK_EQ(chunk(r, digest, 0, content, 0).reason, 2);
    CHECK_EQ(chunk(r, other, 0, content, 10).reason, NO_TRANSFER);
    result = chunk(r, digest, 0, content, SIZE + 1);
    CHECK(result.reason == WRONG_OFFSET && offset_in(result) == 0);
    CHECK_EQ(offset_in(chunk(r, digest, 0, content, 100)), 100);
    result = chunk(r, digest, 50, content, 100);
    CHECK(result.reason == WRONG_OFFSET && offset_in(result) == 100);
    result = commit(r, digest);
    CHECK(result.reason == WRONG_OFFSET && offset_in(result) == 100);
    /* Another one takes its place, and is not what it says. */
    memcpy(false_one, other, 16);
    false_one[0] ^= 1;
    CHECK_EQ(offset_in(begin(r, false_one, SIZE)), 0);
    CHECK_EQ(chunk(r, digest, 100, content, 100).reason, NO_TRANSFER);
    CHECK_EQ(offset_in(chunk(r, false_one, 0, content, SIZE)), SIZE);
    CHECK_EQ(commit(r, false_one).reason, BAD_DIGEST);
    CHECK_EQ(r->tally.configurations_bad, 1);
    CHECK_EQ(r->tally.configurations_applied, 0);
    CHECK_EQ(commit(r, false_one).reason, NO_TRANSFER);
    CHECK_EQ(offset_in(begin(r, false_one, SIZE)), 0);
    rig_free(r);
}

static void a_transfer_pushes_no_results_out_of_memory(void) {
    static uint8_t content[1000];
    rig *r = welcomed();
    uint8_t digest[16];
    uint32_t first = ++number;

    content_of(content, sizeof(content), 1, digest);
    CHECK_EQ(command(r, first, 1, 0, UNLOCK, unlock_2, 8).status, CSCP_RESULT_DONE);
    CHECK_EQ(begin(r, digest, sizeof(content)).status, CSCP_RESULT_DONE);
    for (uint32_t offset = 0; offset < sizeof(content); offset += 10)
        CHECK_EQ(chunk(r, digest, offset, content, 10).status, CSCP_RESULT_DONE);
    CHECK_EQ(commit(r, digest).status, CSCP_RESULT_DONE);
    CHECK_EQ(command(r, first, 1, 0, UNLOCK, unlock_2, 8).flags, CSCP_RESULT_REPEATED);
    /* The commit is remembered like any other, and of them alone it says what was carried out. */
    CHECK_EQ(command(r, number, 1, 0, COMMIT, digest, 16).flags, CSCP_RESULT_REPEATED);
    CHECK_EQ(r->tally.commands_executed, 2);
    CHECK_EQ(r->tally.commands_duplicate, 0);
    rig_free(r);
}

static void nothing_is_taken_after_the_deadline(void) {
    rig *r = welcomed();
    uint8_t content[SIZE], digest[16], body[20 + SIZE];

    content_of(content, SIZE, 1, digest);
    begin(r, digest, SIZE);
    memcpy(body, digest, 16);
    put32(body + 16, 0);
    memcpy(body + 20, content, SIZE);
    CHECK_EQ(command(r, ++number, 1, 1, CHUNK, body, sizeof(body)).status, CSCP_RESULT_EXPIRED);
    CHECK_EQ(offset_in(begin(r, digest, SIZE)), 0);
    CHECK_EQ(chunk(r, digest, 0, content, SIZE).status, CSCP_RESULT_DONE);
    CHECK_EQ(command(r, ++number, 1, 1, COMMIT, digest, 16).status, CSCP_RESULT_EXPIRED);
    CHECK_EQ(r->tally.configurations_applied, 0);
    rig_free(r);
}

int main(void) {
    RUN(a_transfer_goes_as_in_the_vectors);
    RUN(a_digest_is_the_same_however_it_is_cut);
    RUN(a_transfer_goes_on_after_a_break_and_begins_anew_after_a_restart);
    RUN(what_is_wrong_is_refused_with_what_is_wanted);
    RUN(a_transfer_pushes_no_results_out_of_memory);
    RUN(nothing_is_taken_after_the_deadline);
    return 0;
}
