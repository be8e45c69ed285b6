#include "chttp2/poller.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

// Tokens are the caller's; the eventfd is told apart by one no caller may use.
#define TOKEN_WAKE UINT64_MAX
#define MAX_READY 256

struct CH2Poller {
    int epoll_fd;
    int wake_fd;
};

CH2Poller *ch2_poller_free(CH2Poller *poller) {
    if (!poller)
        return NULL;
    if (poller->wake_fd >= 0)
        close(poller->wake_fd);
    if (poller->epoll_fd >= 0)
        close(poller->epoll_fd);
    free(poller);
    return NULL;
}

int ch2_poller_new(CH2Poller **ret) {
    CH2Poller *poller = malloc(sizeof *poller);
    if (!poller)
        return -ENOMEM;
    poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    poller->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (poller->epoll_fd < 0 || poller->wake_fd < 0) {
        int r = -errno;
        ch2_poller_free(poller);
        return r;
    }
    // Edge-triggered: a wake needs no read() to be absorbed, only the next write raises it again.
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = TOKEN_WAKE};
    if (epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, poller->wake_fd, &event) < 0) {
        int r = -errno;
        ch2_poller_free(poller);
        return r;
    }
    *ret = poller;
    return 0;
}

static int control(CH2Poller *poller, int operation, int fd, uint64_t token, uint32_t events) {
    struct epoll_event event = {.data.u64 = token};
    if (events & CH2_READABLE)
        event.events |= EPOLLIN | EPOLLRDHUP;
    if (events & CH2_WRITABLE)
        event.events |= EPOLLOUT;
    return epoll_ctl(poller->epoll_fd, operation, fd, &event) < 0 ? -errno : 0;
}

int ch2_poller_add(CH2Poller *poller, int fd, uint64_t token, uint32_t events) {
    return control(poller, EPOLL_CTL_ADD, fd, token, events);
}

int ch2_poller_modify(CH2Poller *poller, int fd, uint64_t token, uint32_t events) {
    return control(poller, EPOLL_CTL_MOD, fd, token, events);
}

int ch2_poller_remove(CH2Poller *poller, int fd) {
    return epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

int ch2_poller_wait(CH2Poller *poller, CH2Ready *ready, size_t n_ready, int timeout_ms) {
    struct epoll_event events[MAX_READY];
    int capacity = n_ready < MAX_READY ? (int) n_ready : MAX_READY;

    int n = epoll_wait(poller->epoll_fd, events, capacity, timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;

    int n_out = 0;
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == TOKEN_WAKE)
            continue;
        uint32_t set = 0;
        if (events[i].events & (EPOLLIN | EPOLLRDHUP))
            set |= CH2_READABLE;
        if (events[i].events & EPOLLOUT)
            set |= CH2_WRITABLE;
        if (events[i].events & (EPOLLERR | EPOLLHUP))
            set |= CH2_BROKEN;
        ready[n_out++] = (CH2Ready){.token = events[i].data.u64, .events = set};
    }
    return n_out;
}

void ch2_poller_wake(CH2Poller *poller) {
    uint64_t one = 1;
    // The only failure is a counter at its maximum: then a wake is pending anyway.
    ssize_t n = write(poller->wake_fd, &one, sizeof one);
    if (n < 0) {
        uint64_t drained;
        n = read(poller->wake_fd, &drained, sizeof drained);
        n = write(poller->wake_fd, &one, sizeof one);
    }
    (void) n;
}

uint64_t ch2_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

void ch2_enter_thread(const char *name) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_setname_np(pthread_self(), name);
}

void ch2_error_text(int code, char *text, size_t n) {
    // GNU's strerror_r() may return a text of its own instead of filling the buffer.
    char buffer[128];
    snprintf(text, n, "%s", strerror_r(code, buffer, sizeof buffer));
}
