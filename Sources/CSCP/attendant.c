#include "attendant.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { THREADS_MAX = 64, RETRY_S = 1 };

struct cscp_attendant {
    cscp_keeper keeper;
    uint64_t generation, n_rows;
    uint32_t n_threads;
    pthread_t pthread;
    bool started;

    pthread_mutex_t lock; /* of what follows; never held while the keeper is talked to */
    pthread_cond_t changed;
    cscp_row *spares[THREADS_MAX];
    cscp_row *retired;
    bool quit;
};

static int make_row(cscp_attendant *self, cscp_row **ret) {
    cscp_row *row;
    int r = cscp_row_new(&row);

    if (r < 0)
        return r;
    snprintf(row->name, sizeof(row->name), "cscp.lot.%llu.%llu",
             (unsigned long long)self->generation, (unsigned long long)++self->n_rows);
    r = self->keeper.keep(self->keeper.context, row->name, row->out_fd);
    if (r < 0) {
        cscp_row_free(row);
        return r;
    }
    *ret = row;
    return 0;
}

static uint32_t next_without(const cscp_attendant *self) {
    uint32_t i = 0;

    while (i < self->n_threads && self->spares[i])
        i++;
    return i;
}

/* The lock is held, and again afterwards. */
static void supply(cscp_attendant *self, uint32_t thread) {
    struct timespec until;
    cscp_row *row;
    int r;

    pthread_mutex_unlock(&self->lock);
    r = make_row(self, &row);
    pthread_mutex_lock(&self->lock);
    if (r == 0) {
        self->spares[thread] = row;
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += RETRY_S;
    while (!self->quit && r != ETIMEDOUT)
        r = pthread_cond_clockwait(&self->changed, &self->lock, CLOCK_MONOTONIC, &until);
}

static void *attend(void *argument) {
    cscp_attendant *self = argument;

    pthread_mutex_lock(&self->lock);
    while (!self->quit) {
        uint32_t thread = next_without(self);
        cscp_row *row = self->retired;

        if (thread < self->n_threads) {
            supply(self, thread);
        } else if (row) {
            self->retired = row->next;
            pthread_mutex_unlock(&self->lock);
            self->keeper.drop(self->keeper.context, row->name);
            cscp_row_free(row);
            pthread_mutex_lock(&self->lock);
        } else {
            pthread_cond_wait(&self->changed, &self->lock);
        }
    }
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

static int start(cscp_attendant *self) {
    sigset_t all, before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&self->pthread, NULL, attend, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return -r;
    self->started = true;
    pthread_setname_np(self->pthread, "cscp-attendant");
    return 0;
}

int cscp_attendant_new(const cscp_keeper *keeper, uint32_t n_threads, uint64_t generation,
                       cscp_attendant **ret) {
    cscp_attendant *self = malloc(sizeof(*self));
    int r = 0;

    if (!self)
        return -ENOMEM;
    *self = (cscp_attendant){
        .keeper = *keeper,
        .generation = generation,
        .n_threads = n_threads,
    };
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
    for (uint32_t i = 0; i < n_threads && r == 0; i++)
        r = make_row(self, &self->spares[i]);
    if (r == 0)
        r = start(self);
    if (r < 0) {
        cscp_attendant_free(self);
        return r;
    }
    *ret = self;
    return 0;
}

cscp_attendant *cscp_attendant_free(cscp_attendant *self) {
    if (!self)
        return NULL;
    if (self->started) {
        pthread_mutex_lock(&self->lock);
        self->quit = true;
        pthread_cond_signal(&self->changed);
        pthread_mutex_unlock(&self->lock);
        pthread_join(self->pthread, NULL);
    }
    for (uint32_t i = 0; i < self->n_threads; i++)
        cscp_row_free(self->spares[i]);
    while (self->retired) {
        cscp_row *row = self->retired;

        self->retired = row->next;
        cscp_row_free(row);
    }
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->changed);
    free(self);
    return NULL;
}

cscp_row *cscp_attendant_take(cscp_attendant *self, uint32_t thread) {
    cscp_row *row;

    pthread_mutex_lock(&self->lock);
    row = self->spares[thread];
    self->spares[thread] = NULL;
    if (row)
        pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
    return row;
}

void cscp_attendant_retire(cscp_attendant *self, cscp_row *row) {
    pthread_mutex_lock(&self->lock);
    row->next = self->retired;
    self->retired = row;
    pthread_cond_signal(&self->changed);
    pthread_mutex_unlock(&self->lock);
}
