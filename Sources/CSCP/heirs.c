#include "heirs.h"

#include <errno.h>
#include <stdlib.h>

static bool make_room(cscp_heirs *self, size_t *n_max) {
    size_t n = *n_max > 0 ? *n_max * 2 : 256;
    cscp_heir *more;

    if (self->n < *n_max)
        return true;
    more = realloc(self->items, n * sizeof(*more));
    if (!more)
        return false;
    self->items = more;
    *n_max = n;
    return true;
}

static uint32_t *place_of(const cscp_heirs *self, uint64_t cookie) {
    size_t i = (cookie * 0x9e3779b97f4a7c15u) >> 32 & (self->n_places - 1);

    while (self->places[i] != 0 && self->items[self->places[i] - 1].cookie != cookie)
        i = (i + 1) & (self->n_places - 1);
    return &self->places[i];
}

int cscp_heirs_read(const cscp_book *book, cscp_heirs *ret) {
    cscp_book_cursor cursor = {0};
    cscp_ticket ticket;
    size_t n_max = 0;

    *ret = (cscp_heirs){.book = book};
    while (book->bytes && cscp_book_next(book, &cursor, &ticket, NULL, &ret->unsound)) {
        if (!make_room(ret, &n_max))
            return -ENOMEM;
        ret->items[ret->n++] = (cscp_heir){.cookie = ticket.cookie,
                                           .at = {.share = cursor.share, .i = cursor.i - 1}};
        if (ticket.order > ret->orders)
            ret->orders = ticket.order;
    }
    for (ret->n_places = 16; ret->n_places < ret->n * 2; ret->n_places *= 2)
        ;
    ret->places = calloc(ret->n_places, sizeof(*ret->places));
    if (!ret->places)
        return -ENOMEM;
    for (size_t i = 0; i < ret->n; i++)
        *place_of(ret, ret->items[i].cookie) = (uint32_t)i + 1;
    return 0;
}

void cscp_heirs_done(cscp_heirs *self) {
    free(self->items);
    free(self->places);
    *self = (cscp_heirs){0};
}

cscp_heir *cscp_heirs_look(const cscp_heirs *self, uint64_t cookie) {
    uint32_t place = *place_of(self, cookie);

    return place != 0 ? &self->items[place - 1] : NULL;
}

bool cscp_heir_take(cscp_heir *heir) {
    return !atomic_exchange_explicit(&heir->found, true, memory_order_relaxed);
}

void cscp_heirs_copy(const cscp_heirs *self, const cscp_heir *heir, cscp_ticket *ret,
                     char ret_name[CSCP_TLS_NAME_MAX + 1]) {
    cscp_book_cursor at = heir->at;
    uint32_t unsound = 0;

    /* It was sound, and nobody writes to this book any more. */
    cscp_book_next(self->book, &at, ret, ret_name, &unsound);
}

uint32_t cscp_heirs_left(const cscp_heirs *self) {
    uint32_t n = 0;

    for (size_t i = 0; i < self->n; i++)
        n += !atomic_load_explicit(&self->items[i].found, memory_order_relaxed);
    return n;
}
