/* Clocks, epoll and eventfd. */
#include "CSystem.h"

#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 256

static_assert(CSYS_READABLE == EPOLLIN, "the header repeats the kernel's numbers");
static_assert(CSYS_WRITABLE == EPOLLOUT, "the header repeats the kernel's numbers");
static_assert(CSYS_FAILED == EPOLLERR, "the header repeats the kernel's numbers");
static_assert(CSYS_HUNG_UP == EPOLLHUP, "the header repeats the kernel's numbers");
static_assert(CSYS_PEER_FINISHED == EPOLLRDHUP, "the header repeats the kernel's numbers");
static_assert(CSYS_EDGE == (uint32_t)EPOLLET, "the header repeats the kernel's numbers");

static uint64_t clock_read(clockid_t clock) {
    struct timespec t;

    /* Cannot fail: every clock here exists on every kernel since 2.6.39. */
    (void)clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t csys_clock_boottime(void) {
    return clock_read(CLOCK_BOOTTIME);
}

uint64_t csys_clock_realtime(void) {
    return clock_read(CLOCK_REALTIME);
}

uint64_t csys_clock_process_cpu(void) {
    return clock_read(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t csys_clock_thread_cpu(void) {
    return clock_read(CLOCK_THREAD_CPUTIME_ID);
}

int csys_epoll_new(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int csys_epoll_set(int epoll, int fd, uint32_t what, uint64_t tag) {
    struct epoll_event event = {.events = what, .data.u64 = tag};

    /* Changes outnumber additions by far. */
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) == 0)
        return 0;
    if (errno != ENOENT)
        return -errno;
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int csys_epoll_remove(int epoll, int fd) {
    return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

int csys_epoll_wait(int epoll, csys_event *ret_events, size_t n, int64_t timeout_ns) {
    struct epoll_event events[EVENTS_MAX];
    struct timespec timeout = {
        .tv_sec = timeout_ns / 1000000000,
        .tv_nsec = timeout_ns % 1000000000,
    };
    int most = n < EVENTS_MAX ? (int)n : EVENTS_MAX;
    int r;

    r = epoll_pwait2(epoll, events, most, timeout_ns < 0 ? NULL : &timeout, NULL);
    if (r < 0 && (errno == ENOSYS || errno == EPERM)) {
        /* A kernel or a sandbox without it. Rounded up, or a timer would spin for its last part. */
        int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;

        r = epoll_wait(epoll, events, most, ms > 86400000 ? 86400000 : (int)ms);
    }
    if (r < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < r; i++)
        ret_events[i] = (csys_event){.tag = events[i].data.u64, .what = events[i].events};
    return r;
}

int csys_bell_new(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

int csys_bell_ring(int bell) {
    uint64_t one = 1;

    /* EAGAIN: the counter is full, so the bell rings already. */
    if (write(bell, &one, sizeof one) < 0 && errno != EAGAIN)
        return -errno;
    return 0;
}

int csys_bell_clear(int bell) {
    uint64_t count;

    if (read(bell, &count, sizeof count) >= 0)
        return 1;
    return errno == EAGAIN ? 0 : -errno;
}
