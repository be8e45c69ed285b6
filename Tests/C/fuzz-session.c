/* libFuzzer: bytes of a controller, cut anywhere, between everything else that happens to a
 * session. The input is a list of steps; a step's first byte says what it is. */
#include "session_watch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t types[] = {CSCP_HELLO, CSCP_EVENT, CSCP_EVENT, CSCP_EVENT, CSCP_LOG_GAP,
                                CSCP_LOG_RESET, CSCP_RESULT, CSCP_STALE, CSCP_PING, CSCP_PONG,
                                CSCP_WELCOME, 0x55, 0x99};

static uint8_t buffer[1 << 16];
static size_t n_buffer;

static void feed(watch *w, const uint8_t *bytes, size_t n) {
    if (n_buffer + n > sizeof(buffer)) return;
    memcpy(buffer + n_buffer, bytes, n);
    n_buffer += n;
    size_t used = watch_read(w, buffer, n_buffer);
    memmove(buffer, buffer + used, n_buffer - used);
    n_buffer -= used;
}

/* A sound frame, made of few bytes: the fuzzer need not find CRCs. */
static void feed_frame(watch *w, uint8_t kind, const uint8_t *data, size_t n) {
    uint8_t frame[CSCP_FRAME_MAX], payload[160] = {0};
    uint64_t seq = w->s.next + (n > 0 ? data[0] % 5 : 0) - (n > 1 ? data[1] % 3 : 0);
    cscp_event event = {.log_epoch = w->s.log_epoch, .seq = seq, .family = 1, .body = payload};
    cscp_log_gap gap = {.log_epoch = w->s.log_epoch, .from = seq,
                        .to = seq + (n > 2 ? data[2] : 0)};
    cscp_log_reset reset = {.new_epoch = w->s.log_epoch + (n > 3 ? data[3] % 3 : 1), .seq = 1,
                            .cause = 1};
    switch (kind % 4) {
    case 0:
        feed(w, frame, cscp_write_event(frame, &event));
        return;
    case 1:
        feed(w, frame, cscp_write_log_gap(frame, &gap));
        return;
    case 2:
        if (reset.new_epoch > 0) feed(w, frame, cscp_write_log_reset(frame, &reset));
        return;
    default:
        memcpy(payload, data, n < sizeof(payload) ? n : sizeof(payload));
        feed(w, frame,
             cscp_write_frame(frame, types[kind / 4 % sizeof(types)], payload,
                              n < sizeof(payload) ? n : sizeof(payload)));
        return;
    }
}

static void feed_hello(watch *w, const uint8_t *data, size_t n) {
    uint8_t frame[CSCP_FRAME_MAX];
    cscp_hello hello = {
        .serial = 1, .version_min = 1, .version_max = 1, .log_epoch = n > 0 ? data[0] : 1,
        .capacity = 10, .oldest_seq = 1, .last_seq = n > 1 ? data[1] : 0, .model = "m",
        .firmware = "f", .n_model = 1, .n_firmware = 1,
        .owner_epoch_seen = n > 2 ? data[2] : 0,
    };
    if (n > 3) hello.acked_seq = data[3];
    feed(w, frame, cscp_write_hello(frame, &hello));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    watch w;
    watch_init(&w);
    n_buffer = 0;
    while (size >= 2) {
        uint8_t step = data[0];
        size_t n = data[1] < size - 2 ? data[1] : size - 2;
        const uint8_t *argument = data + 2;
        switch (step % 12) {
        case 0:
            feed(&w, argument, n);
            break;
        case 1:
            feed_hello(&w, argument, n);
            break;
        case 2:
        case 3:
            feed_frame(&w, step / 12, argument, n);
            break;
        case 4:
            watch_welcome(&w, w.s.owner_epoch + step / 12 % 3);
            break;
        case 5:
            watch_suspend(&w);
            break;
        case 6:
            watch_ack(&w, w.s.log_epoch - (n > 1 && argument[1] == 0),
                      w.s.acked + (n > 0 ? argument[0] : 1));
            break;
        case 7:
            watch_tick(&w, (uint64_t)step * step, step & 16);
            break;
        case 8:
            watch_write(&w, true);
            break;
        case 9:
            watch_relay(&w, w.s.owner_epoch + step / 12 % 3);
            break;
        case 10:
            watch_relayed_ack(&w, w.s.log_epoch - (n > 1 && argument[1] == 0),
                              w.s.acked + (n > 0 ? argument[0] : 1));
            break;
        default:
            watch_write(&w, false);
            break;
        }
        data += 2 + n;
        size -= 2 + n;
    }
    return 0;
}
