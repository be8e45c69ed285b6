/* The process title.
 *
 * The kernel shows as command line what stands in the memory between arg_start and arg_end, and,
 * when the last byte there is not NUL, goes on into the environment's memory behind it up to the
 * first NUL. So both areas together are room for one string, once what lies there has moved to
 * the heap. Their borders are read from /proc/self/stat: the argv a Swift program is shown is a
 * copy, and changing the borders themselves (PR_SET_MM) asks for a capability.
 *
 * The state is static because the thing itself is one per process. */
#include "CSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_BYTES 16u

static pthread_mutex_t title_lock = PTHREAD_MUTEX_INITIALIZER;
static char *title_area;
static size_t title_room; /* 0 until csys_title_init(); includes the NUL */
static char title_name[NAME_BYTES];

struct areas {
    char *arg_start, *arg_end, *env_start, *env_end;
};

/* Fields 48 to 51, counted from the one behind the name's closing bracket, which is the third. */
static int areas_read(struct areas *ret) {
    unsigned long borders[4];
    char text[2048];
    const char *at;
    ssize_t n;
    int fd;

    fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (n <= 0)
        return -ENODATA;
    text[n] = '\0';
    at = strrchr(text, ')');
    for (int field = 2; at && field < 48; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return -ENODATA;
    if (sscanf(at, "%lu %lu %lu %lu", &borders[0], &borders[1], &borders[2], &borders[3]) != 4)
        return -ENODATA;
    for (int i = 0; i < 4; i++)
        if (borders[i] == 0 || (i > 0 && borders[i] < borders[i - 1]))
            return -ENODATA;
    *ret = (struct areas){(char *)borders[0], (char *)borders[1], (char *)borders[2],
                          (char *)borders[3]};
    return 0;
}

/* Moves *string to the heap if it lies within. What is moved stays for the life of the process. */
static int string_move(char **string, const char *start, const char *end) {
    char *copy;

    if (!*string || *string < start || *string >= end)
        return 0;
    copy = strdup(*string);
    if (!copy)
        return -ENOMEM;
    *string = copy;
    return 0;
}

ssize_t csys_title_init(int argc, char **argv) {
    struct areas areas;
    char *end;
    int r;

    if (title_room > 0)
        return (ssize_t)title_room - 1;
    r = areas_read(&areas);
    if (r < 0)
        return r;
    /* As a rule the environment follows the arguments; if not, theirs is all the room there is. */
    end = areas.env_start == areas.arg_end ? areas.env_end : areas.arg_end;
    if (end - areas.arg_start < 2)
        return -ENODATA;

    for (char **variable = environ; r == 0 && variable && *variable; variable++)
        r = string_move(variable, areas.arg_start, end);
    for (int i = 0; r == 0 && argv && i < argc; i++)
        r = string_move(&argv[i], areas.arg_start, end);
    if (r == 0)
        r = string_move(&program_invocation_short_name, areas.arg_start, end);
    if (r == 0)
        r = string_move(&program_invocation_name, areas.arg_start, end);
    if (r < 0)
        return r;
    title_area = areas.arg_start;
    title_room = (size_t)(end - areas.arg_start);
    return (ssize_t)title_room - 1;
}

/* The main thread's name is the process's; prctl() would name the calling thread. */
static void name_set(const char *title) {
    const char *end = title + strcspn(title, " ");
    char name[NAME_BYTES] = {0};
    const char *start = end;
    size_t n;
    int fd;

    while (start > title && start[-1] != '/')
        start--;
    n = (size_t)(end - start);
    memcpy(name, start, n < NAME_BYTES - 1 ? n : NAME_BYTES - 1);
    if (name[0] == '\0' || strcmp(name, title_name) == 0)
        return;
    fd = open("/proc/self/comm", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, name, strlen(name)) > 0)
        memcpy(title_name, name, NAME_BYTES);
    (void)close(fd);
}

ssize_t csys_title_set(const char *title) {
    size_t n = strlen(title);

    (void)pthread_mutex_lock(&title_lock);
    if (title_room == 0) {
        (void)pthread_mutex_unlock(&title_lock);
        return -ENODATA;
    }
    if (n > title_room - 1)
        n = title_room - 1;
    memcpy(title_area, title, n);
    /* NUL to the end: where the arguments end there must be one for a short title to be all that
     * shows, and no rest of an older or longer one may follow it. */
    memset(title_area + n, 0, title_room - n);
    name_set(title);
    (void)pthread_mutex_unlock(&title_lock);
    return (ssize_t)n;
}
