/* What the tests of the session machine say to it, and how they bring it into a state. */
#ifndef SESSION_RIG_H
#define SESSION_RIG_H

#include "session_watch.h"

static inline size_t make_event(uint8_t *out, uint32_t log_epoch, uint64_t seq) {
    cscp_event event = {.log_epoch = log_epoch, .seq = seq, .family = 1, .code = 1,
                        .body = (const uint8_t *)""};
    return cscp_write_event(out, &event);
}

static inline size_t make_hello(uint8_t *out, uint64_t last, uint64_t acked, uint64_t epoch_seen) {
    cscp_hello hello = {.serial = 1, .version_min = 1, .version_max = 1, .log_epoch = 1,
                        .capacity = 10, .oldest_seq = 1, .last_seq = last, .acked_seq = acked,
                        .owner_epoch_seen = epoch_seen, .model = "", .firmware = ""};
    return cscp_write_hello(out, &hello);
}

static inline void enter(watch *w, cscp_session_state state) {
    uint8_t bytes[CSCP_FRAME_MAX];
    watch_init(w);
    if (state == CSCP_AWAIT_HELLO) return;
    watch_read(w, bytes, make_hello(bytes, 0, 0, 0));
    if (state == CSCP_AWAIT_WELCOME) return;
    watch_welcome(w, 1);
    watch_write(w, true);
    if (state == CSCP_SUSPENDED || state == CSCP_RELAYED) watch_suspend(w);
    if (state == CSCP_RELAYED) watch_relay(w, 2);
    CHECK_EQ(w->s.state, state);
}

#endif
