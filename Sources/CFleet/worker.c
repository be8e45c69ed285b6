/* The loop of one thread. */
#include "worker.h"
#include "random.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, IDLE_MAX_MS = 50, AFTERMATH_US = 1000000 };

fleet_now fleet_time(const fleet *self) {
    struct timespec steady, wall;

    clock_gettime(CLOCK_MONOTONIC, &steady);
    clock_gettime(CLOCK_REALTIME, &wall);
    return (fleet_now){
        .us = ((uint64_t)steady.tv_sec * 1000000000u + (uint64_t)steady.tv_nsec - self->start_ns) /
              1000,
        .wall_ms = (uint64_t)wall.tv_sec * 1000u + (uint64_t)wall.tv_nsec / 1000000u,
    };
}

int fleet_worker_init(fleet_worker *self, fleet *fleet, uint32_t index) {
    const fleet_config *config = &fleet->config;
    uint32_t n = config->n_controllers, step = config->n_threads;
    fleet_now now = fleet_time(fleet);

    self->fleet = fleet;
    self->index = index;
    self->random = fleet_mix(config->seed + index);
    self->world = (fleet_world){
        .config = config,
        .wall_base_ms = fleet->wall_base_ms,
        .generating = true,
        .sync_reconnect = fleet->faults.rates[FLEET_FAULT_SYNC_RECONNECT] > 0,
        .tally = &self->tally,
        .registry = &self->registry,
    };
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll_fd < 0)
        return -errno;
    self->n_peers = n / step + (index < n % step);
    self->peers = calloc(self->n_peers + 1, sizeof(*self->peers));
    self->in = malloc(FLEET_IN_SIZE);
    self->out = (fleet_out){.p = malloc(FLEET_OUT_SIZE), .size = FLEET_OUT_SIZE};
    if (!self->peers || !self->in || !self->out.p)
        return -ENOMEM;
    for (uint32_t i = 0; i < self->n_peers; i++) {
        uint64_t number = index + (uint64_t)i * step;
        uint64_t at_us = 0;

        if (config->connect_rate > 0)
            at_us = (uint64_t)((double)number * 1e6 / config->connect_rate);
        self->peers[i].fd = -1;
        fleet_controller_init(&self->peers[i].controller, &self->world,
                              config->first_serial + number, at_us, now);
        fleet_peer_rearm(self, &self->peers[i]);
    }
    return 0;
}

void fleet_worker_clear(fleet_worker *self) {
    for (uint32_t i = 0; self->peers && i < self->n_peers; i++) {
        fleet_peer *peer = &self->peers[i];
        if (peer->fd >= 0)
            close(peer->fd);
        free(peer->kept);
        free(peer->unsent);
        fleet_controller_clear(&peer->controller);
    }
    for (uint32_t i = 0; i < self->n_leftovers; i++)
        close(self->leftovers[i].fd);
    if (self->epoll_fd >= 0)
        close(self->epoll_fd);
    free(self->peers);
    free(self->in);
    free(self->out.p);
    fleet_registry_clear(&self->registry);
}

static void close_leftovers(fleet_worker *self, fleet_now now) {
    for (uint32_t i = 0; i < self->n_leftovers;) {
        if (self->leftovers[i].until_us > now.us) {
            i++;
            continue;
        }
        close(self->leftovers[i].fd);
        self->leftovers[i] = self->leftovers[--self->n_leftovers];
    }
}

static bool all_acked(const fleet_worker *self, uint64_t before_us) {
    for (uint32_t i = 0; i < self->n_peers; i++)
        if (fleet_log_unacked_before(&self->peers[i].controller.log, before_us) > 0)
            return false;
    return true;
}

/* Running until stop_at, then draining; true when it is over. */
static bool over(fleet_worker *self, fleet_now now, uint64_t *look_at_us) {
    uint64_t stop_at = __atomic_load_n(&self->fleet->stop_at_us, __ATOMIC_ACQUIRE);

    if (now.us < stop_at)
        return false;
    self->world.generating = false;
    if (self->stopped_us == 0)
        self->stopped_us = now.us + 1;
    if (now.us - stop_at >= __atomic_load_n(&self->fleet->drain_us, __ATOMIC_RELAXED))
        return true;
    if (now.us < *look_at_us)
        return false;
    *look_at_us = now.us + 20000;
    /* Commands that still come write into the logs: those records need not be waited for long. */
    return all_acked(self, now.us - stop_at < AFTERMATH_US ? FLEET_NEVER : self->stopped_us);
}

static void turn(fleet_worker *self, fleet_now now) {
    struct epoll_event events[EVENTS_MAX];
    fleet_timer *timer;
    int n = epoll_wait(self->epoll_fd, events, EVENTS_MAX,
                       fleet_wheel_idle_ms(&self->wheel, now.us, IDLE_MAX_MS));

    now = fleet_time(self->fleet);
    for (int i = 0; i < n; i++) {
        fleet_peer *peer = &self->peers[(uint32_t)events[i].data.u64];
        /* Of a socket that has been closed since, or of the one before. */
        if (peer->state == FLEET_SOCKET_NONE ||
            peer->n_connects != (uint32_t)(events[i].data.u64 >> 32))
            continue;
        fleet_peer_event(self, peer, events[i].events, now);
    }
    while ((timer = fleet_wheel_take(&self->wheel, now.us)) != NULL)
        fleet_peer_due(self, (fleet_peer *)((char *)timer - offsetof(fleet_peer, timer)), now);
}

void *fleet_worker_run(void *argument) {
    fleet_worker *self = argument;
    fleet *fleet = self->fleet;
    fleet_now now = fleet_time(fleet);
    uint64_t look_at_us = 0;

    fleet_worker_schedule_faults(self, now);
    while (!over(self, now, &look_at_us)) {
        turn(self, now);
        now = fleet_time(fleet);
        if (self->world.generating)
            fleet_worker_inject(self, now);
        if (self->n_leftovers > 0)
            close_leftovers(self, now);
    }
    if (__atomic_sub_fetch(&fleet->n_running, 1, __ATOMIC_ACQ_REL) == 0) {
        __atomic_store_n(&fleet->finished_us, now.us, __ATOMIC_RELEASE);
        eventfd_write(fleet->finished_fd, 1);
    }
    return NULL;
}
