#include "directory.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

enum {
    SHARDS = 64,
    ENTRIES_MIN = 16,
};

typedef struct entry {
    uint64_t serial; /* 0 = empty */
    uint64_t claimant;
    uint64_t session; /* the claimant's handle once it was welcomed, else 0 */
    uint32_t n_commands, n_bytes;
} entry;

/* Open addressing, linear probing; deleting shifts back, so there are no tombstones. */
typedef struct shard {
    _Alignas(64) pthread_mutex_t lock;
    entry *entries;
    size_t n, capacity; /* a power of two */
} shard;

struct cscp_directory {
    shard shards[SHARDS];
};

static uint64_t hash(uint64_t x) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static shard *lock_shard(cscp_directory *self, uint64_t serial) {
    shard *s = &self->shards[hash(serial) >> 58];

    pthread_mutex_lock(&s->lock);
    return s;
}

static void unlock(shard *s) {
    pthread_mutex_unlock(&s->lock);
}

/* Where the serial is, or the empty place where it belongs. */
static entry *locate(const shard *s, uint64_t serial) {
    size_t i = hash(serial) & (s->capacity - 1);

    while (s->entries[i].serial != 0 && s->entries[i].serial != serial)
        i = (i + 1) & (s->capacity - 1);
    return &s->entries[i];
}

static entry *find(const shard *s, uint64_t serial) {
    entry *e;

    if (s->n == 0)
        return NULL;
    e = locate(s, serial);
    return e->serial == serial ? e : NULL;
}

static int make_room(shard *s) {
    shard larger = {.n = s->n};

    if ((s->n + 1) * 4 <= s->capacity * 3)
        return 0;
    larger.capacity = s->capacity ? s->capacity * 2 : ENTRIES_MIN;
    larger.entries = calloc(larger.capacity, sizeof(*larger.entries));
    if (!larger.entries)
        return -ENOMEM;
    for (size_t i = 0; i < s->capacity; i++)
        if (s->entries[i].serial != 0)
            *locate(&larger, s->entries[i].serial) = s->entries[i];
    free(s->entries);
    s->entries = larger.entries;
    s->capacity = larger.capacity;
    return 0;
}

static void erase(shard *s, entry *e) {
    size_t mask = s->capacity - 1;
    size_t hole = (size_t)(e - s->entries);

    for (size_t i = (hole + 1) & mask; s->entries[i].serial != 0; i = (i + 1) & mask) {
        size_t home = hash(s->entries[i].serial) & mask;

        if (((i - home) & mask) < ((i - hole) & mask))
            continue; /* it would land before its home */
        s->entries[hole] = s->entries[i];
        hole = i;
    }
    s->entries[hole] = (entry){0};
    s->n--;
}

int cscp_directory_new(cscp_directory **ret) {
    cscp_directory *self = aligned_alloc(64, sizeof(*self));

    if (!self)
        return -ENOMEM;
    for (size_t i = 0; i < SHARDS; i++) {
        self->shards[i] = (shard){0};
        pthread_mutex_init(&self->shards[i].lock, NULL);
    }
    *ret = self;
    return 0;
}

cscp_directory *cscp_directory_free(cscp_directory *self) {
    if (!self)
        return NULL;
    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_destroy(&self->shards[i].lock);
        free(self->shards[i].entries);
    }
    free(self);
    return NULL;
}

int cscp_directory_claim(cscp_directory *self, uint64_t serial, uint64_t handle,
                         uint64_t *ret_older) {
    shard *s = lock_shard(self, serial);
    int r = make_room(s);

    if (r == 0) {
        entry *e = locate(s, serial);

        if (e->serial == 0)
            s->n++;
        *ret_older = e->claimant;
        *e = (entry){.serial = serial, .claimant = handle};
    }
    unlock(s);
    return r;
}

void cscp_directory_release(cscp_directory *self, uint64_t serial, uint64_t handle) {
    shard *s = lock_shard(self, serial);
    entry *e = find(s, serial);

    if (e && e->claimant == handle)
        erase(s, e);
    unlock(s);
}

int cscp_directory_publish(cscp_directory *self, uint64_t serial, uint64_t handle) {
    shard *s = lock_shard(self, serial);
    entry *e = find(s, serial);
    bool mine = e && e->claimant == handle;

    if (mine) {
        e->session = handle;
        e->n_commands = 0;
        e->n_bytes = 0;
    }
    unlock(s);
    return mine ? 0 : -ESTALE;
}

int cscp_directory_retract(cscp_directory *self, uint64_t serial, uint64_t handle,
                           uint64_t new_handle) {
    shard *s = lock_shard(self, serial);
    entry *e = find(s, serial);
    bool mine = e && e->claimant == handle;

    if (mine)
        *e = (entry){.serial = serial, .claimant = new_handle};
    unlock(s);
    return mine ? 0 : -ESTALE;
}

uint64_t cscp_directory_reserve(cscp_directory *self, uint64_t serial, uint32_t n,
                                uint32_t commands_max, uint32_t bytes_max, int *ret_error) {
    shard *s = lock_shard(self, serial);
    entry *e = find(s, serial);
    uint64_t handle = 0;

    if (!e || e->session == 0)
        *ret_error = -ENOTCONN;
    else if (e->n_commands >= commands_max || (e->n_bytes > 0 && e->n_bytes + n > bytes_max))
        *ret_error = -ENOBUFS;
    else {
        e->n_commands++;
        e->n_bytes += n;
        handle = e->session;
    }
    unlock(s);
    return handle;
}

void cscp_directory_unreserve(cscp_directory *self, uint64_t serial, uint64_t handle, uint32_t n,
                              int done) {
    shard *s = lock_shard(self, serial);
    entry *e = find(s, serial);

    if (e && e->session == handle) {
        e->n_bytes -= n;
        e->n_commands -= done ? 1 : 0;
    }
    unlock(s);
}

/* A heap with the highest serial at the top keeps the n lowest met so far. */
static void sift_down(cscp_directory_item *heap, size_t n, size_t i) {
    for (;;) {
        size_t child = 2 * i + 1;
        cscp_directory_item swapped;

        if (child >= n)
            return;
        if (child + 1 < n && heap[child + 1].serial > heap[child].serial)
            child++;
        if (heap[i].serial >= heap[child].serial)
            return;
        swapped = heap[i];
        heap[i] = heap[child];
        heap[child] = swapped;
        i = child;
    }
}

static void sift_up(cscp_directory_item *heap, size_t i) {
    while (i > 0 && heap[(i - 1) / 2].serial < heap[i].serial) {
        cscp_directory_item swapped = heap[i];

        heap[i] = heap[(i - 1) / 2];
        heap[(i - 1) / 2] = swapped;
        i = (i - 1) / 2;
    }
}

static int by_serial(const void *a, const void *b) {
    uint64_t x = ((const cscp_directory_item *)a)->serial;
    uint64_t y = ((const cscp_directory_item *)b)->serial;

    return x < y ? -1 : x > y;
}

int cscp_directory_list(cscp_directory *self, uint64_t from, cscp_directory_item *ret_items,
                        size_t n) {
    size_t found = 0;

    for (size_t i = 0; i < SHARDS && n > 0; i++) {
        shard *s = &self->shards[i];

        pthread_mutex_lock(&s->lock);
        for (size_t j = 0; j < s->capacity; j++) {
            const entry *e = &s->entries[j];

            if (e->session == 0 || e->serial < from)
                continue;
            if (found < n) {
                ret_items[found] = (cscp_directory_item){e->serial, e->session};
                sift_up(ret_items, found++);
            } else if (e->serial < ret_items[0].serial) {
                ret_items[0] = (cscp_directory_item){e->serial, e->session};
                sift_down(ret_items, n, 0);
            }
        }
        unlock(s);
    }
    qsort(ret_items, found, sizeof(*ret_items), by_serial);
    return (int)found;
}
