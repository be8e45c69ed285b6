/* The whole: made of its threads, and what is asked of all of them. */
#include "include/cscp.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "thread.h"

static int add_thread(cscp *self) {
    cscp_thread *thread;
    uint16_t port = self->n_threads > 0 ? self->port : self->config.port;
    int fd, r;

    r = cscp_listen(&self->config, port, &fd, &self->port);
    if (r < 0)
        return r;
    r = cscp_thread_new(self, self->n_threads, fd, &thread);
    if (r < 0)
        return r;
    self->threads[self->n_threads++] = thread;
    return 0;
}

static int build(cscp *self) {
    int r;

    self->taker_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->taker_fd < 0)
        return -errno;
    self->bind_address = strdup(self->config.bind_address);
    self->threads = calloc(self->config.n_io_threads, sizeof(*self->threads));
    if (!self->bind_address || !self->threads)
        return -ENOMEM;
    self->config.bind_address = self->bind_address;
    r = cscp_directory_new(&self->directory);
    if (r == 0)
        r = cscp_directory_new(&self->relays);
    if (r == 0)
        r = cscp_probe_port(&self->config);
    while (r == 0 && self->n_threads < self->config.n_io_threads)
        r = add_thread(self);
    for (uint32_t i = 0; r == 0 && i < self->n_threads; i++)
        r = cscp_thread_start(self->threads[i]);
    return r;
}

int cscp_new(const cscp_config *config, cscp **ret) {
    const char *why;
    cscp *self;
    int r = cscp_config_check(config, &why);

    if (r < 0)
        return r;
    self = aligned_alloc(CSCP_CACHE_LINE, sizeof(*self));
    if (!self)
        return -ENOMEM;
    *self = (cscp){.config = *config, .taker_fd = -1};
    if (config->n_trusted > 0)
        memcpy(self->trusted, config->trusted, config->n_trusted * sizeof(*config->trusted));
    self->config.trusted = self->trusted;
    pthread_mutex_init(&self->ranges_lock, NULL);
    r = build(self);
    if (r < 0) {
        cscp_free(self);
        return r;
    }
    *ret = self;
    return 0;
}

cscp *cscp_free(cscp *self) {
    if (!self)
        return NULL;
    /* All stop before the first is freed: they know each other. */
    for (uint32_t i = 0; i < self->n_threads; i++)
        cscp_thread_stop(self->threads[i]);
    for (uint32_t i = 0; i < self->n_threads; i++)
        cscp_thread_free(self->threads[i]);
    free(self->threads);
    cscp_directory_free(self->directory);
    cscp_directory_free(self->relays);
    cscp_ranges_unref(self->ranges);
    pthread_mutex_destroy(&self->ranges_lock);
    if (self->taker_fd >= 0)
        close(self->taker_fd);
    free(self->bind_address);
    free(self);
    return NULL;
}

uint16_t cscp_port(const cscp *self) {
    return self->port;
}

void cscp_stop_accepting(cscp *self, bool goaway, uint32_t spread_ms) {
    for (uint32_t i = 0; i < self->n_threads; i++)
        cscp_mailbox_stop_accepting(&self->threads[i]->box, goaway, spread_ms);
}

/* Publishes the next snapshot; takes `ways` on success. The lock is held. */
static int replace(cscp *self, const cscp_range *ranges, size_t n, cscp_ways *ways, bool known) {
    uint64_t version =
        atomic_load_explicit(&self->ranges_version, memory_order_relaxed) + 1;
    cscp_ranges *older = self->ranges, *newer;
    int r = cscp_ranges_new(ranges, n, ways, known, version, &newer);

    if (r < 0)
        return r;
    self->ranges = newer;
    cscp_ranges_unref(older);
    /* From here on every fence is closed that has not taken the new ones. */
    atomic_store_explicit(&self->ranges_version, version, memory_order_seq_cst);
    return 0;
}

static void wake_all(cscp *self) {
    for (uint32_t i = 0; i < self->n_threads; i++)
        cscp_mailbox_wake(&self->threads[i]->box);
}

int cscp_set_ownership(cscp *self, const cscp_range *ranges, size_t n, const cscp_route *routes,
                       size_t n_routes) {
    cscp_ways *ways;
    int r = cscp_ways_new(routes, n_routes, &ways);

    if (r < 0)
        return r;
    pthread_mutex_lock(&self->ranges_lock);
    r = replace(self, ranges, n, ways, true);
    pthread_mutex_unlock(&self->ranges_lock);
    if (r < 0)
        free(ways);
    else
        wake_all(self);
    return r;
}

/* The ways are copied: a snapshot may outlive the one they come from. */
static int copy_ways(const cscp_ways *ways, cscp_ways **ret) {
    size_t n = ways ? ways->n : 0;
    cscp_ways *copy = malloc(sizeof(*copy) + n * sizeof(*copy->items));

    if (!copy)
        return -ENOMEM;
    copy->n = n;
    if (n > 0)
        memcpy(copy->items, ways->items, n * sizeof(*copy->items));
    *ret = copy;
    return 0;
}

int cscp_set_ranges(cscp *self, const cscp_range *ranges, size_t n) {
    cscp_ways *ways;
    int r;

    pthread_mutex_lock(&self->ranges_lock);
    r = copy_ways(self->ranges ? self->ranges->ways : NULL, &ways);
    if (r == 0) {
        r = replace(self, ranges, n, ways, true);
        if (r < 0)
            free(ways);
    }
    pthread_mutex_unlock(&self->ranges_lock);
    if (r == 0)
        wake_all(self);
    return r;
}

int cscp_set_routes(cscp *self, const cscp_route *routes, size_t n) {
    const cscp_ranges *now;
    cscp_ways *ways;
    int r = cscp_ways_new(routes, n, &ways);

    if (r < 0)
        return r;
    pthread_mutex_lock(&self->ranges_lock);
    now = self->ranges;
    r = replace(self, now ? now->items : NULL, now ? now->n : 0, ways, now && now->known);
    pthread_mutex_unlock(&self->ranges_lock);
    if (r < 0)
        free(ways);
    else
        wake_all(self);
    return r;
}

void cscp_set_valid_until(cscp *self, uint64_t boottime_ns) {
    atomic_store_explicit(&self->valid_until, boottime_ns, memory_order_release);
}

void cscp_get_counters(const cscp *self, cscp_counters *ret) {
    memset(ret, 0, sizeof(*ret));
    for (uint32_t i = 0; i < self->n_threads; i++) {
        cscp_count_sum(&self->threads[i]->count, ret);
        ret->wakeups +=
            atomic_load_explicit(&self->threads[i]->box.wakeups, memory_order_relaxed);
    }
}
