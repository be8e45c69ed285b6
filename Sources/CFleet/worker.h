/* A thread with its share of the controllers: their sockets, timers and faults. */
#ifndef FLEET_WORKER_H
#define FLEET_WORKER_H

#include "controller.h"
#include "faults.h"
#include "fleet.h"
#include "targets.h"
#include "wheel.h"

#include <pthread.h>

typedef enum fleet_socket_state {
    FLEET_SOCKET_NONE,
    FLEET_SOCKET_CONNECTING,
    FLEET_SOCKET_OPEN,
} fleet_socket_state;

/* A controller and its connection. Buffers exist only while something is in them. */
typedef struct fleet_peer {
    fleet_controller controller;
    fleet_timer timer;
    int fd;
    uint8_t state;
    uint32_t watched;    /* the epoll events asked for */
    uint32_t n_connects; /* ever; also tells late epoll events of older sockets */
    uint64_t connect_until_us;
    uint64_t slow_until_us; /* reads nothing until then; 0 = reads */
    cscp_decoder decoder;
    uint8_t *kept; /* the beginning of a frame */
    uint32_t n_kept;
    uint8_t *unsent;
    uint32_t n_unsent;
} fleet_peer;

/* A socket left open by a half-open connection. */
typedef struct fleet_leftover {
    int fd;
    uint64_t until_us;
} fleet_leftover;

enum {
    FLEET_IN_SIZE = 64 * 1024 + CSCP_FRAME_MAX,
    FLEET_OUT_SIZE = 160 * 1024,
    FLEET_LEFTOVERS_MAX = 256,
};

typedef struct fleet_worker {
    fleet *fleet;
    uint32_t index;
    pthread_t thread;
    bool started;
    int epoll_fd;
    fleet_world world;
    fleet_peer *peers;
    uint32_t n_peers;
    fleet_wheel wheel;
    fleet_tally tally;
    fleet_registry registry;
    uint64_t random;
    uint64_t stopped_us; /* records written from then on are not the generator's; 0 = it runs */
    uint64_t fault_at_us[FLEET_FAULT_COUNT];
    fleet_leftover leftovers[FLEET_LEFTOVERS_MAX];
    uint32_t n_leftovers;
    uint8_t *in;
    fleet_out out;
} fleet_worker;

/* What the workers share. */
struct fleet {
    fleet_config config;
    fleet_target targets[FLEET_TARGETS_MAX];
    unsigned n_targets;
    fleet_faults faults;
    uint64_t start_ns;     /* CLOCK_MONOTONIC when `us` was 0 */
    uint64_t wall_base_ms;
    double cpu_before_s;
    uint64_t stop_at_us;   /* atomic; end of generating */
    uint64_t drain_us;     /* atomic; how long to wait after it */
    uint32_t n_running;    /* atomic; workers */
    uint64_t finished_us;  /* atomic; 0 = running */
    int finished_fd, signal_fd;
    bool joined;
    uint64_t extra_duplicates; /* executed by controllers of different workers */
    bool verified;
    uint64_t verify_logs, verify_lost, verify_duplicated, verify_corrupt;
    char examples[8][96]; /* what the verification found first */
    unsigned n_examples;
    fleet_worker *workers;
};

fleet_now fleet_time(const fleet *self);

int fleet_worker_init(fleet_worker *self, fleet *fleet, uint32_t index);
void fleet_worker_clear(fleet_worker *self);
void *fleet_worker_run(void *worker);

/* peer.c. The worker's `out` is empty between calls. */
void fleet_peer_due(fleet_worker *self, fleet_peer *peer, fleet_now now);
void fleet_peer_event(fleet_worker *self, fleet_peer *peer, uint32_t events, fleet_now now);
void fleet_peer_close(fleet_worker *self, fleet_peer *peer, fleet_why why, bool reset,
                      fleet_now now);
void fleet_peer_rearm(fleet_worker *self, fleet_peer *peer);
/* Closes nothing: the socket goes to the leftovers. False when there is no room. */
bool fleet_peer_abandon(fleet_worker *self, fleet_peer *peer, fleet_now now);
/* Sends what is in `out`, and of the log what may be sent. */
void fleet_peer_flush(fleet_worker *self, fleet_peer *peer, fleet_now now);
void fleet_peer_slow_down(fleet_worker *self, fleet_peer *peer, uint64_t until_us);

/* inject.c */
void fleet_worker_schedule_faults(fleet_worker *self, fleet_now now);
void fleet_worker_inject(fleet_worker *self, fleet_now now);

#endif
