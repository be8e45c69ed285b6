/* The checks of the C tests. A failed one says where and what, and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "%s:%d: %s: not true: %s\n", __FILE__, __LINE__, __func__, #condition); \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

#define CHECK_EQ(a, b)                                                                         \
    do {                                                                                       \
        long long check_a = (long long)(a), check_b = (long long)(b);                          \
        if (check_a != check_b) {                                                              \
            fprintf(stderr, "%s:%d: %s: %s is %lld, not %s = %lld\n", __FILE__, __LINE__,      \
                    __func__, #a, check_a, #b, check_b);                                       \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

/* Runs a test function and says so. */
#define RUN(test)                                                                              \
    do {                                                                                       \
        test();                                                                                \
        printf("ok %s\n", #test);                                                              \
    } while (0)

#endif
