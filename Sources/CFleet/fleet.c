/* Making, starting, stopping and adding up. */
#include "fleet.h"
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { DESCRIPTORS_SPARE = 64, EPOCH_BASE_S = 1704067200 /* 2024-01-01 */ };

void fleet_config_init(fleet_config *config) {
    *config = (fleet_config){
        .first_serial = 1,
        .n_controllers = 1,
        .n_threads = 1,
        .event_rate = 1,
        .burst = 1,
        .capacity = 10000,
        .seed = 1,
        .backoff_min_ms = 1000,
        .backoff_max_ms = 60000,
        .connect_timeout_ms = 60000,
        .drain_s = 30,
    };
}

static const char *check(const fleet_config *c) {
    if (c->n_controllers < 1 || c->n_controllers > 1000000)
        return "controllers must be 1 to 1,000,000";
    if (c->first_serial < 1 || c->first_serial > UINT64_MAX - 1 - c->n_controllers)
        return "first-serial must be at least 1, and the last serial below 2^64-1";
    if (c->n_threads < 1 || c->n_threads > 64)
        return "threads must be 1 to 64";
    if (!(c->event_rate >= 0 && c->event_rate <= 1e6))
        return "event-rate must be 0 to 1,000,000";
    if (c->burst < 1 || c->burst > 1000)
        return "burst must be 1 to 1,000";
    if (!(c->access_share >= 0 && c->access_share <= 1))
        return "access-share must be 0 to 1";
    if (c->capacity < 1 || c->capacity > 1000000)
        return "capacity must be 1 to 1,000,000";
    if (!(c->connect_rate >= 0 && c->connect_rate <= 1e9))
        return "connect-rate must not be negative";
    if (c->backoff_min_ms < 1 || c->backoff_max_ms < c->backoff_min_ms)
        return "backoff-min must be at least 1 ms and at most backoff-max";
    if (c->connect_timeout_ms < 1)
        return "connect-timeout must be at least 1 ms";
    if (!(c->duration_s >= 0 && c->duration_s <= 1e8) || !(c->drain_s >= 0 && c->drain_s <= 1e8))
        return "duration and drain must not be negative";
    return NULL;
}

/* As far as it may go; the rest is the operator's. */
static int raise_descriptor_limit(const fleet_config *config, char *ret_why) {
    struct rlimit limit;
    rlim_t need = config->n_controllers + DESCRIPTORS_SPARE;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur >= need)
        return 0;
    snprintf(ret_why, FLEET_WHY_SIZE,
             "%u controllers need %llu descriptors and the limit is %llu: raise it (ulimit -Hn) or "
             "run fewer",
             config->n_controllers, (unsigned long long)need, (unsigned long long)limit.rlim_cur);
    return -EMFILE;
}

static int parse_lists(fleet *self, char *ret_why) {
    const char *targets = self->config.targets ? self->config.targets : "";
    const char *faults = self->config.faults ? self->config.faults : "";
    const char *at = NULL;
    int r = fleet_targets_parse(targets, self->targets, &self->n_targets, &at);

    if (r < 0) {
        snprintf(ret_why, FLEET_WHY_SIZE,
                 r == -EHOSTUNREACH ? "connect: cannot resolve '%.*s'"
                                    : "connect: '%.*s' is not HOST:PORT (at most 64, with commas)",
                 (int)strcspn(at, ","), at);
        return r;
    }
    r = fleet_faults_parse(faults, &self->faults, &at);
    if (r < 0)
        snprintf(ret_why, FLEET_WHY_SIZE,
                 "faults: '%.*s' is not NAME or NAME:RATE of a known fault (see --help)",
                 (int)strcspn(at, ","), at);
    return r;
}

static double cpu_s(void) {
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int init(fleet *self, char *ret_why) {
    struct timespec steady;
    const char *wrong = check(&self->config);
    int r;

    self->finished_fd = self->signal_fd = -1;
    if (wrong) {
        snprintf(ret_why, FLEET_WHY_SIZE, "%s", wrong);
        return -EINVAL;
    }
    r = parse_lists(self, ret_why);
    if (r < 0)
        return r;
    r = raise_descriptor_limit(&self->config, ret_why);
    if (r < 0)
        return r;
    clock_gettime(CLOCK_MONOTONIC, &steady);
    self->start_ns = (uint64_t)steady.tv_sec * 1000000000u + (uint64_t)steady.tv_nsec;
    self->wall_base_ms = fleet_time(self).wall_ms;
    /* Another one at every run, so that a vendor app tells this run's logs from those before. */
    if (self->config.log_epoch == 0)
        self->config.log_epoch = (uint32_t)(self->wall_base_ms / 1000 - EPOCH_BASE_S);
    self->finished_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->finished_fd < 0)
        return -errno;
    self->workers = calloc(self->config.n_threads, sizeof(*self->workers));
    if (!self->workers)
        return -ENOMEM;
    for (uint32_t i = 0; i < self->config.n_threads; i++)
        self->workers[i].epoll_fd = -1;
    for (uint32_t i = 0; i < self->config.n_threads && r == 0; i++)
        r = fleet_worker_init(&self->workers[i], self, i);
    return r;
}

int fleet_new(const fleet_config *config, fleet **ret, char ret_why[FLEET_WHY_SIZE]) {
    fleet *self = calloc(1, sizeof(*self));
    int r;

    snprintf(ret_why, FLEET_WHY_SIZE, "no memory");
    if (!self)
        return -ENOMEM;
    self->config = *config;
    r = init(self, ret_why);
    if (r < 0) {
        fleet_free(self);
        return r;
    }
    *ret = self;
    return 0;
}

static void join(fleet *self) {
    for (uint32_t i = 0; !self->joined && i < self->config.n_threads; i++)
        if (self->workers[i].started)
            pthread_join(self->workers[i].thread, NULL);
    self->joined = true;
}

fleet *fleet_free(fleet *self) {
    if (!self)
        return NULL;
    if (self->workers) {
        fleet_stop(self, 0);
        join(self);
        for (uint32_t i = 0; i < self->config.n_threads; i++)
            fleet_worker_clear(&self->workers[i]);
        free(self->workers);
    }
    if (self->finished_fd >= 0)
        close(self->finished_fd);
    if (self->signal_fd >= 0)
        close(self->signal_fd);
    free(self);
    return NULL;
}

int fleet_start(fleet *self) {
    sigset_t stops;
    int r;

    sigemptyset(&stops);
    sigaddset(&stops, SIGINT);
    sigaddset(&stops, SIGTERM);
    self->signal_fd = signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK);
    if (self->signal_fd < 0)
        return -errno;
    sigaddset(&stops, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &stops, NULL);
    self->cpu_before_s = cpu_s();
    self->stop_at_us = self->config.duration_s > 0
                           ? fleet_time(self).us + (uint64_t)(self->config.duration_s * 1e6)
                           : FLEET_NEVER;
    self->drain_us = (uint64_t)(self->config.drain_s * 1e6);
    self->n_running = self->config.n_threads;
    for (uint32_t i = 0; i < self->config.n_threads; i++) {
        r = pthread_create(&self->workers[i].thread, NULL, fleet_worker_run, &self->workers[i]);
        if (r != 0) {
            __atomic_sub_fetch(&self->n_running, self->config.n_threads - i, __ATOMIC_ACQ_REL);
            return -r;
        }
        self->workers[i].started = true;
    }
    return 0;
}

void fleet_stop(fleet *self, double drain_s) {
    uint64_t now = fleet_time(self).us;

    __atomic_store_n(&self->drain_us, (uint64_t)(drain_s * 1e6), __ATOMIC_RELAXED);
    if (__atomic_load_n(&self->stop_at_us, __ATOMIC_ACQUIRE) > now)
        __atomic_store_n(&self->stop_at_us, now, __ATOMIC_RELEASE);
}

/* Commands that controllers of different workers have both executed. */
static void count_across(fleet *self) {
    for (uint32_t i = 1; i < self->config.n_threads; i++) {
        const fleet_registry *registry = &self->workers[i].registry;
        for (size_t j = 0; j < registry->n; j++) {
            bool known = registry->executions[j].duplicate;
            for (uint32_t other = 0; other < i && !known; other++) {
                known = fleet_registry_has(&self->workers[other].registry,
                                           registry->executions[j].id);
                self->extra_duplicates += known;
            }
        }
    }
}

int fleet_wait(fleet *self, int timeout_ms) {
    struct pollfd fds[2] = {
        {.fd = self->finished_fd, .events = POLLIN},
        {.fd = self->signal_fd, .events = POLLIN},
    };
    struct signalfd_siginfo info;

    if (poll(fds, 2, timeout_ms) <= 0)
        return FLEET_TIMEOUT;
    if (fds[1].revents & POLLIN && read(self->signal_fd, &info, sizeof(info)) == sizeof(info))
        return FLEET_INTERRUPTED;
    if (!(fds[0].revents & POLLIN))
        return FLEET_TIMEOUT;
    if (!self->joined) {
        join(self);
        count_across(self);
    }
    return FLEET_FINISHED;
}

static uint64_t resident_kib(void) {
    unsigned long long size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file) {
        if (fscanf(file, "%llu %llu", &size, &resident) != 2)
            resident = 0;
        fclose(file);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

void fleet_get_report(const fleet *self, fleet_report *ret) {
    fleet_histogram gap = {0}, ack = {0}, outage = {0};
    uint64_t finished_us = __atomic_load_n(&self->finished_us, __ATOMIC_ACQUIRE);
    uint64_t now_us = finished_us > 0 ? finished_us : fleet_time(self).us;

    *ret = (fleet_report){.controllers = self->config.n_controllers};
    for (uint32_t i = 0; i < self->config.n_threads; i++)
        fleet_tally_add(&self->workers[i].tally, ret, &gap, &ack, &outage);
    fleet_histogram_quantiles(&gap, &ret->gap);
    fleet_histogram_quantiles(&ack, &ret->ack);
    fleet_histogram_quantiles(&outage, &ret->outage);
    ret->connected = ret->welcomes - ret->handovers - ret->sessions_ended;
    ret->elapsed_s = (double)now_us / 1e6;
    ret->cpu_s = cpu_s() - self->cpu_before_s;
    ret->rss_kib = resident_kib();
    if (!self->joined)
        return;
    for (uint32_t i = 0; i < self->config.n_threads; i++)
        for (uint32_t j = 0; j < self->workers[i].n_peers; j++) {
            const fleet_log *log = &self->workers[i].peers[j].controller.log;
            uint64_t lost = fleet_log_unacked_before(log, self->workers[i].stopped_us);
            ret->lost += lost;
            ret->pending += fleet_log_unacked(log) - lost;
        }
    ret->commands_duplicate += self->extra_duplicates;
    ret->verified = self->verified;
    ret->verify_logs = self->verify_logs;
    ret->verify_lost = self->verify_lost;
    ret->verify_duplicated = self->verify_duplicated;
    ret->verify_corrupt = self->verify_corrupt;
    ret->lost += self->verify_lost;
    ret->duplicated = self->verify_duplicated;
}

bool fleet_report_is_clean(const fleet_report *report) {
    return report->lost == 0 && report->duplicated == 0 && report->commands_duplicate == 0 &&
           report->commands_late == 0 && report->commands_stale_epoch == 0 &&
           report->verify_corrupt == 0;
}
