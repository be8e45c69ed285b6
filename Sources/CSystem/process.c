/* Memory, limits, randomness. */
#include "CSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

const char *csys_program_path(void) { return (const char *)getauxval(AT_EXECFN); }

const char *csys_error_text(int error) {
    const char *text = strerrordesc_np(error < 0 ? -error : error);

    return text ? text : "unknown error";
}

int64_t csys_memory_rss(void) {
    char text[128];
    char *end;
    ssize_t n;
    int fd;

    fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    n = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (n <= 0)
        return -EIO;
    text[n] = '\0';
    /* "size resident shared ...", in pages */
    (void)strtoll(text, &end, 10);
    return strtoll(end, NULL, 10) * sysconf(_SC_PAGESIZE);
}

int64_t csys_files_raise(void) {
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return -errno;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            return -errno;
    }
    return limit.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
}

int csys_random_fill(void *ret_bytes, size_t n) {
    ssize_t r;

    if (n > 256)
        return -EINVAL;
    do {
        /* Up to 256 bytes come whole. */
        r = getrandom(ret_bytes, n, 0);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}
