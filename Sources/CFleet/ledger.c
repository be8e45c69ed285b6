/* Everything the fleet knows at the end, a line of JSON each, for tests to compare. */
#include "worker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define U64 "%" PRIu64

static int by_log(const void *a, const void *b) {
    const fleet_execution *x = *(const fleet_execution *const *)a;
    const fleet_execution *y = *(const fleet_execution *const *)b;

    if (x->serial != y->serial)
        return x->serial < y->serial ? -1 : 1;
    if (x->log_epoch != y->log_epoch)
        return x->log_epoch < y->log_epoch ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void print_id(const uint8_t id[16], FILE *file) {
    for (int i = 0; i < 16; i++)
        fprintf(file, "%02x", id[i]);
}

/* The executions of one worker, grouped by log. */
typedef struct sorted {
    const fleet_execution **p;
    size_t n, at;
} sorted;

static int sort(const fleet_registry *registry, sorted *ret) {
    const fleet_execution **p = calloc(registry->n + 1, sizeof(*p));

    if (!p)
        return -ENOMEM;
    for (size_t i = 0; i < registry->n; i++)
        p[i] = &registry->executions[i];
    qsort(p, registry->n, sizeof(*p), by_log);
    *ret = (sorted){.p = p, .n = registry->n};
    return 0;
}

typedef struct line {
    uint64_t serial;
    uint32_t log_epoch;
    uint64_t last, acked, gap_records, n_uncertain, fingerprint_sum;
    bool is_past;
} line;

static void print_line(const line *l, sorted *executions, FILE *file) {
    bool first = true;

    fprintf(file,
            "{\"serial\":" U64 ",\"log_epoch\":%" PRIu32 ",\"first\":1,\"last\":" U64
            ",\"acked\":" U64 ",\"gaps\":" U64 ",\"uncertain\":" U64
            ",\"fingerprint_sum\":\"%016" PRIx64 "\",\"past\":%s,\"commands\":[",
            l->serial, l->log_epoch, l->last, l->acked, l->gap_records, l->n_uncertain,
            l->fingerprint_sum, l->is_past ? "true" : "false");
    while (executions->at < executions->n) {
        const fleet_execution *e = executions->p[executions->at];
        if (e->serial != l->serial || e->log_epoch != l->log_epoch)
            break;
        fprintf(file, first ? "\"" : ",\"");
        print_id(e->id, file);
        fprintf(file, "\"");
        first = false;
        executions->at++;
    }
    fprintf(file, "]}\n");
}

static void print_controller(const fleet_controller *controller, sorted *executions, FILE *file) {
    const fleet_log *log = &controller->log;

    for (uint32_t i = 0; i < log->n_past; i++) {
        const fleet_log_past *past = &log->past[i];
        print_line(&(line){controller->serial, past->epoch, past->last, past->acked,
                           past->gap_records, past->n_uncertain, past->fingerprint_sum, true},
                   executions, file);
    }
    print_line(&(line){controller->serial, log->epoch, log->last, log->acked, log->gap_records,
                       log->n_uncertain, log->fingerprint_sum, false},
               executions, file);
}

static int finish(FILE *file, int r) {
    if (ferror(file) && r == 0)
        r = -EIO;
    if (fclose(file) != 0 && r == 0)
        r = -errno;
    return r;
}

int fleet_write_ledger(const fleet *self, const char *path) {
    FILE *file = fopen(path, "we");
    int r = 0;

    if (!file)
        return -errno;
    for (uint32_t i = 0; i < self->config.n_threads && r == 0; i++) {
        const fleet_worker *worker = &self->workers[i];
        sorted executions;

        r = sort(&worker->registry, &executions);
        if (r < 0)
            break;
        for (uint32_t j = 0; j < worker->n_peers; j++)
            print_controller(&worker->peers[j].controller, &executions, file);
        free(executions.p);
    }
    return finish(file, r);
}

static void print_execution(const fleet_execution *e, FILE *file) {
    fprintf(file, "{\"id\":\"");
    print_id(e->id, file);
    fprintf(file,
            "\",\"serial\":" U64 ",\"code\":%u,\"at_ms\":" U64 ",\"not_after_ms\":" U64
            ",\"owner_epoch\":" U64 ",\"duplicate\":%s,\"late\":%s}\n",
            e->serial, e->code, e->at_ms, e->not_after_ms, e->owner_epoch,
            e->duplicate ? "true" : "false", e->late ? "true" : "false");
}

int fleet_write_commands(const fleet *self, const char *path) {
    FILE *file = fopen(path, "we");

    if (!file)
        return -errno;
    for (uint32_t i = 0; i < self->config.n_threads; i++)
        for (size_t j = 0; j < self->workers[i].registry.n; j++)
            print_execution(&self->workers[i].registry.executions[j], file);
    return finish(file, 0);
}
