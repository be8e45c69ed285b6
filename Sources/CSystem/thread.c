/* Threads and signals. A signal is taken by a signalfd or not at all: threads block them from their
 * first instruction, so that no handler ever runs in one. */
#include "CSystem.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define STACK_BYTES (1024u * 1024u)
#define NAME_BYTES 16u

struct start {
    void (*body)(void *context);
    void *context;
    char name[NAME_BYTES];
};

static void *thread_run(void *argument) {
    struct start start = *(struct start *)argument;

    free(argument);
    (void)pthread_setname_np(pthread_self(), start.name);
    start.body(start.context);
    return NULL;
}

static int thread_create(struct start *start, bool detached, pthread_t *ret) {
    pthread_attr_t attributes;
    int r;

    r = pthread_attr_init(&attributes);
    if (r != 0)
        return -r;
    r = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (r == 0 && detached)
        r = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (r == 0)
        r = pthread_create(ret, &attributes, thread_run, start);
    (void)pthread_attr_destroy(&attributes);
    return -r;
}

int csys_thread_start(const char *name, void (*body)(void *context), void *context,
                      csys_thread *ret) {
    struct start *start;
    sigset_t all, before;
    pthread_t thread;
    int r;

    start = calloc(1, sizeof *start);
    if (!start)
        return -ENOMEM;
    start->body = body;
    start->context = context;
    (void)strncpy(start->name, name, NAME_BYTES - 1);

    /* A new thread inherits the mask; setting it inside would leave a moment for a handler. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    r = thread_create(start, ret == NULL, &thread);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r < 0) {
        free(start);
        return r;
    }
    if (ret)
        ret->handle = thread;
    return 0;
}

int csys_thread_join(csys_thread thread) {
    return -pthread_join(thread.handle, NULL);
}

bool csys_thread_is_current(csys_thread thread) {
    return pthread_equal(thread.handle, pthread_self()) != 0;
}

static int signals_block(const int *signals, size_t n, sigset_t *ret_set) {
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < n; i++)
        if (sigaddset(&set, signals[i]) < 0)
            return -errno;
    *ret_set = set;
    return -pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int csys_signals_block(const int *signals, size_t n) {
    sigset_t set;

    return signals_block(signals, n, &set);
}

int csys_signals_open(const int *signals, size_t n) {
    sigset_t set;
    int fd, r;

    r = signals_block(signals, n, &set);
    if (r < 0)
        return r;
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int csys_signals_read(int fd) {
    struct signalfd_siginfo info;
    ssize_t n;

    do {
        n = read(fd, &info, sizeof info);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return n == (ssize_t)sizeof info ? (int)info.ssi_signo : -EIO;
}

int csys_sigpipe_ignore(void) {
    struct sigaction action = {.sa_handler = SIG_IGN};

    return sigaction(SIGPIPE, &action, NULL) < 0 ? -errno : 0;
}
