#include "takeover.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

void cscp_takeover_init(cscp_takeover *self) {
    *self = (cscp_takeover){0};
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->changed, NULL);
}

void cscp_takeover_clear(cscp_takeover *self) {
    for (uint32_t i = 0; i < self->n_finds; i++) {
        cscp_find *find = &self->finds[i];

        for (uint32_t j = 0; j < find->n; j++)
            if (find->sockets[j].fd >= 0)
                close(find->sockets[j].fd);
        free(find->sockets);
    }
    free(self->finds);
    self->finds = NULL;
    self->n_finds = 0;
    free(self->disputes);
    self->disputes = NULL;
    self->n_disputes = 0;
    cscp_heirs_done(&self->heirs);
}

void cscp_takeover_done(cscp_takeover *self) {
    cscp_takeover_clear(self);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->changed);
}

void cscp_takeover_join(cscp_takeover *self) {
    pthread_mutex_lock(&self->lock);
    self->n_threads++;
    pthread_mutex_unlock(&self->lock);
}

void cscp_takeover_order(cscp_takeover *self, cscp_step step) {
    pthread_mutex_lock(&self->lock);
    self->step = step;
    self->n_busy = self->n_threads;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

int cscp_takeover_wait(cscp_takeover *self) {
    int r;

    pthread_mutex_lock(&self->lock);
    while (self->n_busy > 0)
        pthread_cond_wait(&self->changed, &self->lock);
    r = self->error;
    pthread_mutex_unlock(&self->lock);
    return r;
}

static cscp_step next_step(cscp_takeover *self, cscp_step former) {
    cscp_step step;

    pthread_mutex_lock(&self->lock);
    while (self->step == former)
        pthread_cond_wait(&self->changed, &self->lock);
    step = self->step;
    pthread_mutex_unlock(&self->lock);
    return step;
}

static void report(cscp_takeover *self, int r) {
    pthread_mutex_lock(&self->lock);
    if (r < 0 && self->error == 0)
        self->error = r;
    if (--self->n_busy == 0)
        pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

bool cscp_takeover_follow(cscp_takeover *self, cscp_thread *t) {
    cscp_step step = CSCP_STEP_NONE;

    for (;;) {
        step = next_step(self, step);
        switch (step) {
        case CSCP_STEP_LOOK:
            report(self, cscp_look(self, t));
            break;
        case CSCP_STEP_SETTLE:
            report(self, cscp_settle(self, t));
            break;
        case CSCP_STEP_SERVE:
            return true;
        case CSCP_STEP_NONE:
        case CSCP_STEP_QUIT:
            return false;
        }
    }
}

int cscp_takeover_dispute(cscp_takeover *self, uint64_t handle, uint64_t older) {
    cscp_dispute *more;
    int r = -ENOMEM;

    pthread_mutex_lock(&self->lock);
    more = realloc(self->disputes, (self->n_disputes + 1) * sizeof(*more));
    if (more) {
        more[self->n_disputes++] = (cscp_dispute){.handles = {handle, older}};
        self->disputes = more;
        r = 0;
    }
    pthread_mutex_unlock(&self->lock);
    return r;
}
