/* The session machine: what it says without being asked. */
#include "session-rig.h"

static void answer_ping(watch *w) {
    uint8_t bytes[CSCP_FRAME_MAX];
    uint64_t token = w->s.ping_at_us;
    CHECK(token != 0);
    watch_read(w, bytes, cscp_write_u64(bytes, CSCP_PONG, token));
    CHECK_EQ(w->s.owe, CSCP_OWE_TIME);
    CHECK_EQ(w->s.rtt_token, (uint32_t)token);
    watch_write(w, true);
    CHECK_EQ(w->s.owe, 0);
}

static void time_is_told_when_the_hosts_clock_steps_and_now_and_then(void) {
    watch w;
    enter(&w, CSCP_OPEN);
    watch_tick(&w, 1000, false);
    CHECK_EQ(w.s.owe, 0); /* WELCOME's PING is not answered yet */
    answer_ping(&w);
    for (int64_t step_ms = 3600000; step_ms >= -7200000; step_ms -= 10800000) {
        w.now.utc_ms += (uint64_t)step_ms;
        watch_tick(&w, 1000, false);
        CHECK_EQ(w.s.owe, CSCP_OWE_PING);
        watch_write(&w, true);
        watch_tick(&w, 1000, false);
        CHECK_EQ(w.s.owe, 0); /* once is enough */
        answer_ping(&w);
        watch_tick(&w, 1000, false);
        CHECK_EQ(w.s.owe, 0);
    }
    for (uint64_t ms = 0; ms < CSCP_TIME_INTERVAL_MS - 10000; ms += 10000) {
        uint8_t bytes[CSCP_FRAME_MAX];
        watch_read(&w, bytes, cscp_write_u64(bytes, CSCP_PONG, 1)); /* a sign of life */
        watch_tick(&w, 10000, false);
        CHECK_EQ(w.s.owe, 0);
    }
    watch_tick(&w, 10000, false);
    CHECK_EQ(w.s.owe, CSCP_OWE_PING);
}

static void after_a_restart_the_time_can_wait(void) {
    watch w;
    watch_init(&w);
    w.s.serial = 5;
    w.s.session_id = 1;
    w.log_epoch = 1;
    cscp_session_resume(&w.s, true, 1, 0, &w.now);
    watch_welcome(&w, 2);
    CHECK_EQ(w.s.owe, CSCP_OWE_WELCOME);
    watch_write(&w, true);
    watch_tick(&w, CSCP_TIME_RESUMED_MS - 1, false);
    CHECK_EQ(w.s.owe, 0);
    watch_tick(&w, 1, false);
    CHECK_EQ(w.s.owe, CSCP_OWE_PING);
    watch_write(&w, true);
    answer_ping(&w);
    watch_suspend(&w);
    watch_welcome(&w, 3); /* another host may have had it */
    CHECK(w.s.owe & CSCP_OWE_PING);
}

static void silence_is_answered_by_a_ping_and_then_by_the_end(void) {
    watch w;
    uint8_t bytes[CSCP_FRAME_MAX];
    enter(&w, CSCP_OPEN);
    watch_tick(&w, w.config.t3_ms - 1, false);
    CHECK_EQ(w.s.owe, 0);
    watch_tick(&w, 1, false);
    CHECK(w.s.owe & CSCP_OWE_PING);
    watch_write(&w, true);
    watch_tick(&w, w.config.t1_ms - 1, false);
    CHECK(!w.closed);
    watch_read(&w, bytes, make_event(bytes, 1, 1)); /* anything will do */
    watch_tick(&w, 1, false);
    CHECK(!w.closed);
    watch_tick(&w, w.config.t3_ms - 1, false);
    watch_write(&w, true);
    watch_tick(&w, 2 * (uint64_t)w.config.t1_ms, true); /* it may have answered: not read yet */
    CHECK(!w.closed);
    CHECK(w.s.owe & CSCP_OWE_PING); /* and it must not lose patience with us */
    watch_write(&w, true);
    watch_tick(&w, w.config.t1_ms - 1, false);
    CHECK(!w.closed);
    watch_tick(&w, 1, false);
    CHECK(w.closed);
}

int main(void) {
    RUN(time_is_told_when_the_hosts_clock_steps_and_now_and_then);
    RUN(after_a_restart_the_time_can_wait);
    RUN(silence_is_answered_by_a_ping_and_then_by_the_end);
    return 0;
}
