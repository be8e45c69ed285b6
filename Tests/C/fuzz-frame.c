/* libFuzzer: whatever the bytes and however they are cut, the decoder and every payload parser stay within
 * their input, and the frames found do not depend on the cutting. The first byte says how to cut. */
#include "cscp_frame.h"

#include <stdlib.h>
#include <string.h>

static void parse(const cscp_frame *f) {
    union {
        cscp_hello a; cscp_welcome b; cscp_pair c; cscp_reject d; cscp_event e;
        cscp_event_ack_frame f; cscp_log_gap g; cscp_log_reset h; cscp_command_frame i;
        cscp_result j; cscp_time k; uint64_t l;
    } u;
    cscp_parse_hello(f->payload, f->n_payload, &u.a);
    cscp_parse_welcome(f->payload, f->n_payload, &u.b);
    cscp_parse_busy(f->payload, f->n_payload, &u.c);
    cscp_parse_goaway(f->payload, f->n_payload, &u.c);
    cscp_parse_reject(f->payload, f->n_payload, &u.d);
    if (cscp_parse_event(f->payload, f->n_payload, &u.e) == 0) cscp_event_fingerprint(1, &u.e);
    cscp_parse_event_ack(f->payload, f->n_payload, &u.f);
    cscp_parse_log_gap(f->payload, f->n_payload, &u.g);
    cscp_parse_log_reset(f->payload, f->n_payload, &u.h);
    cscp_parse_command(f->payload, f->n_payload, &u.i);
    cscp_parse_result(f->payload, f->n_payload, &u.j);
    cscp_parse_time(f->payload, f->n_payload, &u.k);
    cscp_parse_u64(f->payload, f->n_payload, &u.l);
}

static uint64_t run(const uint8_t *data, size_t n, size_t piece) {
    cscp_decoder d = {0};
    uint8_t *kept = malloc(n + 1);
    size_t have = 0;
    uint64_t digest = 0;
    for (size_t at = 0; at < n;) {
        size_t more = n - at < piece ? n - at : piece;
        memcpy(kept + have, data + at, more);
        at += more;
        have += more;
        int r;
        do {
            cscp_frame f;
            size_t used = 0;
            uint8_t *exact = malloc(have ? have : 1);
            memcpy(exact, kept, have);
            r = cscp_decode(&d, exact, have, &f, &used);
            if (used > have) abort();
            if (r == 1) {
                parse(&f);
                digest = digest * 31 + f.type + cscp_crc32c(0, f.payload, f.n_payload);
            } else if (r < 0) {
                digest = digest * 31 + (uint64_t)-r;
            } else if (have - used >= CSCP_FRAME_MAX) {
                abort();
            }
            free(exact);
            memmove(kept, kept + used, have - used);
            have -= used;
        } while (r == 1);
        if (r < 0) break;
    }
    free(kept);
    return digest * 31 + d.skipped * 7 + d.resyncs;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n < 2) return 0;
    size_t piece = data[0] % 64u + 1;
    if (run(data + 1, n - 1, n) != run(data + 1, n - 1, piece)) abort();
    return 0;
}
