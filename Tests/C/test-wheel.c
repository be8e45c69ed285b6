/* The timer wheel against a list of times. */
#include "check.h"
#include "../../Sources/CSCP/wheel.h"

enum { N = 500 };

static uint64_t state = 1;
static uint64_t random_below(uint64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 33) % n;
}

static void timers_fire_once_in_time_and_not_before(void) {
    static cscp_wheel wheel;
    static cscp_timer timers[N];
    static bool armed[N];
    static uint64_t due_ms[N]; /* a time that has passed is as good as now */
    uint64_t now = 123457;
    cscp_wheel_init(&wheel, now);
    for (int i = 0; i < N; i++) cscp_timer_init(&timers[i]);
    for (int step = 0; step < 20000; step++) {
        cscp_list due;
        int i = (int)random_below(N);
        /* Often near, sometimes turns of the wheel ahead, sometimes past. */
        uint64_t ahead = random_below(4) ? random_below(2000) : random_below(100000);
        if (random_below(5) == 0) {
            cscp_timer_disarm(&timers[i]);
            armed[i] = false;
        } else {
            cscp_wheel_arm(&wheel, &timers[i], random_below(50) ? now + ahead : now - 100);
            armed[i] = true;
            due_ms[i] = timers[i].at_ms > now ? timers[i].at_ms : now;
        }
        uint64_t wait = cscp_wheel_wait_ms(&wheel, now);
        uint64_t earliest = UINT64_MAX;
        for (int j = 0; j < N; j++)
            if (armed[j] && timers[j].at_ms < earliest) earliest = timers[j].at_ms;
        if (earliest != UINT64_MAX) /* never too late to be told */
            CHECK(wait <= (earliest > now ? earliest - now : 0) + CSCP_WHEEL_TICK_MS);
        now += random_below(100) ? random_below(60) : random_below(60000);
        cscp_list_init(&due);
        cscp_wheel_advance(&wheel, now, &due);
        while (!cscp_list_is_empty(&due)) {
            cscp_timer *timer = CSCP_CONTAINER(due.next, cscp_timer, link);
            cscp_timer_disarm(timer);
            CHECK(armed[timer - timers]);
            CHECK(timer->at_ms <= now);
            armed[timer - timers] = false;
        }
        for (int j = 0; j < N; j++) /* at most a tick late */
            CHECK(!armed[j] || due_ms[j] + CSCP_WHEEL_TICK_MS > now);
    }
}

static void an_empty_wheel_waits_for_ever(void) {
    static cscp_wheel wheel;
    cscp_timer timer;
    cscp_list due;
    cscp_wheel_init(&wheel, 5000);
    CHECK(cscp_wheel_wait_ms(&wheel, 5000) == UINT64_MAX);
    cscp_timer_init(&timer);
    cscp_wheel_arm(&wheel, &timer, 5100);
    CHECK(cscp_wheel_wait_ms(&wheel, 5000) <= 100 + CSCP_WHEEL_TICK_MS);
    CHECK(cscp_wheel_wait_ms(&wheel, 5000) >= 100);
    cscp_timer_disarm(&timer);
    cscp_timer_disarm(&timer);
    cscp_list_init(&due);
    cscp_wheel_advance(&wheel, 6000, &due);
    CHECK(cscp_list_is_empty(&due));
    CHECK(cscp_wheel_wait_ms(&wheel, 6000) == UINT64_MAX);
}

static void a_timer_that_is_due_can_still_be_disarmed(void) {
    static cscp_wheel wheel;
    cscp_timer a, b;
    cscp_list due;
    cscp_wheel_init(&wheel, 0);
    cscp_timer_init(&a);
    cscp_timer_init(&b);
    cscp_wheel_arm(&wheel, &a, 10);
    cscp_wheel_arm(&wheel, &b, 10);
    cscp_list_init(&due);
    cscp_wheel_advance(&wheel, 100, &due);
    cscp_timer_disarm(&a);
    CHECK(due.next == &b.link && due.prev == &b.link);
    cscp_wheel_arm(&wheel, &b, 200); /* or armed again */
    CHECK(cscp_list_is_empty(&due));
    cscp_wheel_advance(&wheel, 300, &due);
    CHECK(due.next == &b.link);
    cscp_timer_disarm(&b);
}

int main(void) {
    RUN(timers_fire_once_in_time_and_not_before);
    RUN(an_empty_wheel_waits_for_ever);
    RUN(a_timer_that_is_due_can_still_be_disarmed);
    return 0;
}
