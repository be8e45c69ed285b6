/* The whole: made of its threads, and what is asked of all of them. */
#include "include/cscp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "attendant.h"
#include "thread.h"

/* Names it for the keeper, by generation and number. */
static int keep(cscp *self, const char *kind, uint64_t generation, uint32_t number, int fd) {
    char name[CSCP_ROW_NAME];

    if (!self->has_keeper)
        return 0;
    snprintf(name, sizeof(name), "cscp.%s.%llu.%u", kind, (unsigned long long)generation, number);
    return self->keeper.keep(self->keeper.context, name, fd);
}

static int listener(cscp *self, cscp_estate *estate, int *ret_fd) {
    uint32_t i = self->n_threads;
    uint16_t port = self->port != 0 ? self->port : self->config.port;
    int r;

    if (i < estate->n_listeners) {
        *ret_fd = estate->listeners[i];
        estate->listeners[i] = -1;
        return 0;
    }
    r = cscp_listen(&self->config, port, ret_fd, &self->port);
    if (r < 0)
        return r;
    r = keep(self, "listen", estate->generation + 1, i, *ret_fd);
    if (r < 0)
        close(*ret_fd);
    return r;
}

static int add_thread(cscp *self, cscp_estate *estate) {
    cscp_thread *thread;
    int fd, r = listener(self, estate, &fd);

    if (r < 0)
        return r;
    r = cscp_thread_new(self, self->n_threads, fd, &thread);
    if (r < 0)
        return r;
    self->threads[self->n_threads++] = thread;
    cscp_look_at_the_clocks(thread);
    return 0;
}

static int start_threads(cscp *self) {
    for (uint32_t i = 0; i < self->n_threads; i++) {
        int r = cscp_thread_start(self->threads[i]);

        if (r < 0)
            return r;
        cscp_takeover_join(&self->takeover);
    }
    return 0;
}

/* What was inherited becomes ours: from the moment the keeper has our book, the older ones are out
 * of date; and nothing is received or sent before that. */
static int take_over(cscp *self, cscp_estate *estate) {
    uint64_t generation = estate->generation + 1;
    int r = cscp_inherit_read(self, estate), settled;

    if (r == 0)
        r = start_threads(self);
    if (r == 0)
        r = cscp_inherit_settle(self, estate);
    /* Meanwhile the keeper is given what else it is to have. */
    if (r == 0 && self->has_keeper)
        r = cscp_attendant_new(&self->keeper, self->n_threads, generation, &self->attendant);
    settled = cscp_inherit_wait(self); /* in any case: what they work with is the caller's */
    if (r == 0)
        r = settled;
    if (r == 0)
        r = keep(self, "book", generation, 0, self->book.fd);
    if (r == 0 && self->has_keeper)
        for (uint32_t i = 0; i < estate->n_books; i++)
            self->keeper.drop(self->keeper.context, estate->book_names[i]);
    return r < 0 ? r : cscp_inherit_serve(self);
}

static int prepare(cscp *self) {
    self->taker_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (self->taker_fd < 0)
        return -errno;
    self->bind_address = strdup(self->config.bind_address);
    self->threads = calloc(self->config.n_io_threads, sizeof(*self->threads));
    if (!self->bind_address || !self->threads)
        return -ENOMEM;
    self->config.bind_address = self->bind_address;
    return 0;
}

static int build(cscp *self, cscp_estate *estate) {
    int r = prepare(self);

    if (r == 0)
        r = cscp_directory_new(&self->directory);
    if (r == 0)
        r = cscp_directory_new(&self->relays);
    if (r == 0)
        r = cscp_book_new(self->has_keeper, self->config.n_io_threads,
                          cscp_slots_max(&self->config), estate->generation + 1, &self->book);
    if (r == 0 && estate->n_listeners == 0)
        r = cscp_probe_port(&self->config);
    while (r == 0 && self->n_threads < self->config.n_io_threads)
        r = add_thread(self, estate);
    if (r == 0)
        r = take_over(self, estate);
    return r;
}

int cscp_new(const cscp_config *config, cscp **ret) {
    const char *why;
    cscp_estate estate;
    cscp *self;
    int r = cscp_config_check(config, &why);

    if (r < 0)
        return r;
    self = aligned_alloc(CSCP_CACHE_LINE, sizeof(*self));
    if (!self)
        return -ENOMEM;
    *self = (cscp){.config = *config, .taker_fd = -1, .book = {.fd = -1}, .orders = 1};
    if (config->n_trusted > 0)
        memcpy(self->trusted, config->trusted, config->n_trusted * sizeof(*config->trusted));
    self->config.trusted = self->trusted;
    if (config->keeper) {
        self->keeper = *config->keeper;
        self->has_keeper = true;
    }
    self->config.inherited = NULL;
    self->config.n_inherited = 0;
    self->config.keeper = NULL;
    pthread_mutex_init(&self->ranges_lock, NULL);
    cscp_takeover_init(&self->takeover);
    cscp_files_share(self);
    cscp_estate_open(self, config, &estate);
    r = build(self, &estate);
    cscp_estate_done(&estate);
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
    if (self->takeover.step != CSCP_STEP_SERVE)
        cscp_takeover_order(&self->takeover, CSCP_STEP_QUIT);
    /* All stop before the first is freed: they know each other. */
    for (uint32_t i = 0; i < self->n_threads; i++)
        cscp_mailbox_quit(&self->threads[i]->box);
    for (uint32_t i = 0; i < self->n_threads; i++)
        cscp_thread_stop(self->threads[i]);
    for (uint32_t i = 0; i < self->n_threads; i++)
        cscp_thread_free(self->threads[i]);
    cscp_attendant_free(self->attendant);
    cscp_takeover_done(&self->takeover);
    cscp_book_done(&self->book);
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

void cscp_get_resumption(const cscp *self, cscp_resumption *ret) {
    *ret = self->resumption;
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
    uint64_t before =
        atomic_exchange_explicit(&self->valid_until, boottime_ns, memory_order_acq_rel);
    struct timespec ts;
    uint64_t now;

    if (before >= boottime_ns)
        return;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    if (before <= now && now < boottime_ns)
        wake_all(self); /* those that are stalled need not wait until they are tried again */
}

void cscp_get_counters(const cscp *self, cscp_counters *ret) {
    memset(ret, 0, sizeof(*ret));
    for (uint32_t i = 0; i < self->n_threads; i++) {
        cscp_count_sum(&self->threads[i]->count, ret);
        ret->wakeups +=
            atomic_load_explicit(&self->threads[i]->box.wakeups, memory_order_relaxed);
    }
}
