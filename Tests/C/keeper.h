/* A keeper of descriptors in this process: the service manager's store, and nothing else of it. */
#ifndef KEEPER_H
#define KEEPER_H

#include "check.h"
#include "cscp.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

enum { KEPT_MAX = 256, KEPT_NAME = 64, KEPT_FDS = 400 };

typedef struct keeper {
    cscp_keeper as_keeper;
    pthread_mutex_t lock;
    unsigned n, n_kept_ever;
    int fds[KEPT_MAX];
    char names[KEPT_MAX][KEPT_NAME];
    int error; /* what keep() says instead of keeping, if not 0 */
} keeper;

static inline int keeper_keep(void *context, const char *name, int fd) {
    keeper *self = context;
    int r;

    pthread_mutex_lock(&self->lock);
    r = self->error;
    if (r == 0) {
        CHECK(self->n < KEPT_MAX && strlen(name) < KEPT_NAME && !strchr(name, ':'));
        for (unsigned i = 0; i < self->n; i++)
            CHECK(strcmp(self->names[i], name) != 0);
        self->fds[self->n] = fcntl(fd, F_DUPFD_CLOEXEC, KEPT_FDS);
        CHECK(self->fds[self->n] >= 0);
        strcpy(self->names[self->n++], name);
        self->n_kept_ever++;
    }
    pthread_mutex_unlock(&self->lock);
    return r;
}

static inline int keeper_drop(void *context, const char *name) {
    keeper *self = context;

    pthread_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->n; i++)
        if (strcmp(self->names[i], name) == 0) {
            close(self->fds[i]);
            self->n--;
            self->fds[i] = self->fds[self->n];
            memmove(self->names[i], self->names[self->n], KEPT_NAME);
            break;
        }
    pthread_mutex_unlock(&self->lock);
    return 0;
}

static inline void keeper_init(keeper *self) {
    *self = (keeper){.as_keeper = {.keep = keeper_keep, .drop = keeper_drop, .context = self}};
    pthread_mutex_init(&self->lock, NULL);
}

static inline void keeper_done(keeper *self) {
    while (self->n > 0)
        close(self->fds[--self->n]);
}

static inline unsigned keeper_count(keeper *self, const char *prefix) {
    unsigned n = 0;

    pthread_mutex_lock(&self->lock);
    for (unsigned i = 0; i < self->n; i++)
        n += strncmp(self->names[i], prefix, strlen(prefix)) == 0;
    pthread_mutex_unlock(&self->lock);
    return n;
}

/* One of what it has whose name begins so. */
static inline int keeper_fd(keeper *self, const char *prefix) {
    for (unsigned i = 0; i < self->n; i++)
        if (strncmp(self->names[i], prefix, strlen(prefix)) == 0)
            return self->fds[i];
    return -1;
}

/* Copies for the next host, which owns them. `names` stay good while nothing is kept or dropped. */
static inline uint32_t keeper_hand_out(keeper *self, cscp_inherited out[KEPT_MAX],
                                       char names[KEPT_MAX][KEPT_NAME]) {
    for (unsigned i = 0; i < self->n; i++) {
        strcpy(names[i], self->names[i]);
        out[i].name = names[i];
        out[i].fd = fcntl(self->fds[i], F_DUPFD_CLOEXEC, 0);
        CHECK(out[i].fd >= 0);
    }
    return self->n;
}

#endif
