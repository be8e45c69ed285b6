/* A circular, doubly linked, intrusive list. A node that is in no list points to itself. */
#ifndef CSCP_LIST_H
#define CSCP_LIST_H

#include <stdbool.h>
#include <stddef.h>

enum { CSCP_CACHE_LINE = 64 };

typedef struct cscp_list {
    struct cscp_list *prev, *next;
} cscp_list;

/* A node in a list of several kinds of things. */
typedef struct cscp_owed {
    cscp_list link;
    bool of_command; /* else of a connection */
} cscp_owed;

#define CSCP_CONTAINER(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void cscp_list_init(cscp_list *list) {
    list->prev = list;
    list->next = list;
}

static inline bool cscp_list_is_empty(const cscp_list *list) {
    return list->next == list;
}

/* For a node: is it in some list? */
static inline bool cscp_list_is_linked(const cscp_list *node) {
    return node->next != node;
}

static inline void cscp_list_remove(cscp_list *node) {
    node->prev->next = node->next;
    node->next->prev = node->prev;
    cscp_list_init(node);
}

static inline void cscp_list_append(cscp_list *list, cscp_list *node) {
    node->prev = list->prev;
    node->next = list;
    list->prev->next = node;
    list->prev = node;
}

/* Moves all of `from` to the end of `list`. */
static inline void cscp_list_splice(cscp_list *list, cscp_list *from) {
    if (cscp_list_is_empty(from))
        return;
    from->next->prev = list->prev;
    list->prev->next = from->next;
    from->prev->next = list;
    list->prev = from->prev;
    cscp_list_init(from);
}

#endif
