/* The directory and the ranges: who has a serial, and may have it. */
#include "check.h"
#include "../../Sources/CSCP/directory.h"
#include "../../Sources/CSCP/ranges.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>

static void claims_publishes_and_releases_follow_each_other(void) {
    cscp_directory *d;
    uint64_t older;
    int error = 0;
    CHECK_EQ(cscp_directory_new(&d), 0);
    CHECK_EQ(cscp_directory_reserve(d, 7, 1, 10, 100, &error), 0);
    CHECK_EQ(error, -ENOTCONN);
    CHECK_EQ(cscp_directory_claim(d, 7, 100, &older), 0);
    CHECK_EQ(older, 0);
    CHECK_EQ(cscp_directory_reserve(d, 7, 1, 10, 100, &error), 0); /* claimed is not welcomed */
    CHECK_EQ(cscp_directory_publish(d, 7, 100), 0);
    CHECK_EQ(cscp_directory_reserve(d, 7, 1, 10, 100, &error), 100);
    CHECK_EQ(cscp_directory_claim(d, 7, 200, &older), 0);
    CHECK_EQ(older, 100); /* told once */
    CHECK_EQ(cscp_directory_publish(d, 7, 100), -ESTALE);
    CHECK_EQ(cscp_directory_retract(d, 7, 100, 101), -ESTALE);
    cscp_directory_release(d, 7, 100); /* too late to matter */
    CHECK_EQ(cscp_directory_publish(d, 7, 200), 0);
    CHECK_EQ(cscp_directory_retract(d, 7, 200, 201), 0);
    CHECK_EQ(cscp_directory_reserve(d, 7, 1, 10, 100, &error), 0);
    CHECK_EQ(cscp_directory_publish(d, 7, 201), 0);
    cscp_directory_release(d, 7, 201);
    CHECK_EQ(cscp_directory_claim(d, 7, 300, &older), 0);
    CHECK_EQ(older, 0);
    cscp_directory_free(d);
}

static void places_for_commands_are_limited_in_number_and_bytes(void) {
    cscp_directory *d;
    uint64_t older;
    int error = 0;
    CHECK_EQ(cscp_directory_new(&d), 0);
    CHECK_EQ(cscp_directory_claim(d, 7, 100, &older), 0);
    CHECK_EQ(cscp_directory_publish(d, 7, 100), 0);
    CHECK_EQ(cscp_directory_reserve(d, 7, 60, 3, 100, &error), 100);
    CHECK_EQ(cscp_directory_reserve(d, 7, 60, 3, 100, &error), 0);
    CHECK_EQ(error, -ENOBUFS);
    CHECK_EQ(cscp_directory_reserve(d, 7, 40, 3, 100, &error), 100);
    CHECK_EQ(cscp_directory_reserve(d, 7, 0, 3, 100, &error), 100);
    CHECK_EQ(cscp_directory_reserve(d, 7, 0, 3, 100, &error), 0);
    cscp_directory_unreserve(d, 7, 100, 60, 0); /* sent: the bytes are free, the place is not */
    CHECK_EQ(cscp_directory_reserve(d, 7, 0, 3, 100, &error), 0);
    cscp_directory_unreserve(d, 7, 100, 0, 1);
    CHECK_EQ(cscp_directory_reserve(d, 7, 60, 3, 100, &error), 100);
    cscp_directory_unreserve(d, 7, 99, 60, 1); /* of an older session */
    CHECK_EQ(cscp_directory_reserve(d, 7, 0, 3, 100, &error), 0);
    cscp_directory_free(d);
}

/* Against an array, with serials that meet in the table. */
static void it_agrees_with_a_plain_array(void) {
    enum { N = 3000 };
    static uint64_t claims[N + 1];
    static bool sessions[N + 1];
    cscp_directory *d;
    uint64_t seed = 5;
    CHECK_EQ(cscp_directory_new(&d), 0);
    for (uint64_t step = 1; step < 200000; step++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t serial = 1 + (seed >> 33) % N, older;
        switch ((seed >> 20) % 4) {
        case 0:
            CHECK_EQ(cscp_directory_claim(d, serial, step, &older), 0);
            CHECK_EQ(older, claims[serial]);
            claims[serial] = step;
            sessions[serial] = false;
            break;
        case 1:
            CHECK_EQ(cscp_directory_publish(d, serial, claims[serial]),
                     claims[serial] ? 0 : -ESTALE);
            sessions[serial] = claims[serial] != 0;
            break;
        default:
            cscp_directory_release(d, serial, claims[serial]);
            claims[serial] = 0;
            sessions[serial] = false;
        }
    }
    for (uint64_t from = 0; from < N; from += 700)
        for (size_t n = 1; n <= N; n = n * 3 + 1) {
            static cscp_directory_item items[N + 1];
            int found = cscp_directory_list(d, from, items, n), i = 0;
            for (uint64_t serial = from; serial <= N && i < (int)n; serial++)
                if (serial > 0 && sessions[serial]) {
                    CHECK(i < found);
                    CHECK_EQ(items[i].serial, serial);
                    CHECK_EQ(items[i].handle, claims[serial]);
                    i++;
                }
            CHECK_EQ(found, i);
        }
    cscp_directory_free(d);
}

static cscp_directory *shared;

static void *fight(void *argument) {
    uint64_t me = (uintptr_t)argument, wins = 0;
    for (uint64_t i = 1; i <= 20000; i++) {
        uint64_t serial = 1 + i % 3, handle = me << 32 | i, older;
        CHECK_EQ(cscp_directory_claim(shared, serial, handle, &older), 0);
        CHECK(older != handle);
        if (cscp_directory_publish(shared, serial, handle) == 0) {
            int error;
            uint64_t got = cscp_directory_reserve(shared, serial, 1, 5, 5, &error);
            if (got != 0) cscp_directory_unreserve(shared, serial, got, 1, 1);
            wins++;
        }
        cscp_directory_release(shared, serial, handle);
    }
    return (void *)(uintptr_t)wins;
}

static void threads_may_fight_over_a_serial(void) {
    pthread_t threads[3];
    CHECK_EQ(cscp_directory_new(&shared), 0);
    for (uintptr_t i = 0; i < 3; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, fight, (void *)(i + 1)), 0);
    for (int i = 0; i < 3; i++) {
        void *wins;
        pthread_join(threads[i], &wins);
        CHECK((uintptr_t)wins > 0);
    }
    cscp_directory_free(shared);
}

static cscp_route route_to(uint64_t first, uint64_t last, const char *address, uint16_t port) {
    cscp_route route = {.first = first, .last = last, .epoch = 7};
    struct sockaddr_in6 *in6 = (void *)&route.address;
    struct sockaddr_in *in = (void *)&route.address;
    if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
    } else {
        CHECK_EQ(inet_pton(AF_INET, address, &in->sin_addr), 1);
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
    }
    return route;
}

static void routes_lead_somewhere_or_are_refused(void) {
    cscp_ways *ways;
    cscp_target mapped;
    cscp_route good[] = {route_to(1, 9, "192.0.2.7", 5001), route_to(10, 10, "2001:db8::7", 5002)};
    cscp_route no_port = route_to(1, 9, "192.0.2.7", 0), no_family = {.first = 1, .last = 9, .epoch = 1};
    cscp_route backwards = route_to(9, 1, "192.0.2.7", 1), no_epoch = route_to(1, 9, "::1", 1);
    cscp_route overlapping[] = {route_to(1, 9, "192.0.2.7", 1), route_to(9, 10, "192.0.2.7", 1)};
    CHECK_EQ(cscp_ways_new(good, 2, &ways), 0);
    CHECK_EQ(ways->items[0].target.port, 5001);
    CHECK(IN6_IS_ADDR_V4MAPPED(&ways->items[0].target.address));
    CHECK(!cscp_target_is(&ways->items[0].target, &ways->items[1].target));
    good[0] = route_to(1, 9, "::ffff:192.0.2.7", 5001); /* the same, said otherwise */
    CHECK_EQ(cscp_target_from(&good[0].address, &mapped), 0);
    CHECK(cscp_target_is(&ways->items[0].target, &mapped));
    free(ways);
    no_epoch.epoch = 0;
    CHECK_EQ(cscp_ways_new(&no_port, 1, &ways), -EINVAL);
    CHECK_EQ(cscp_ways_new(&no_family, 1, &ways), -EINVAL);
    CHECK_EQ(cscp_ways_new(&backwards, 1, &ways), -EINVAL);
    CHECK_EQ(cscp_ways_new(&no_epoch, 1, &ways), -EINVAL);
    CHECK_EQ(cscp_ways_new(overlapping, 2, &ways), -EINVAL);
    CHECK_EQ(cscp_ways_new(NULL, 0, &ways), 0);
    free(ways);
}

static void ranges_are_found_by_serial(void) {
    cscp_range items[] = {{10, 19, 1}, {20, 20, 2}, {30, UINT64_MAX - 1, 3}};
    cscp_route routes[] = {route_to(15, 25, "192.0.2.7", 1), route_to(26, 26, "192.0.2.8", 2)};
    cscp_ranges *ranges;
    cscp_ways *ways;
    CHECK_EQ(cscp_ways_new(routes, 2, &ways), 0);
    CHECK_EQ(cscp_ranges_new(items, 3, ways, true, 1, &ranges), 0);
    CHECK(!cscp_ranges_find(ranges, 9));
    CHECK_EQ(cscp_ranges_find(ranges, 10)->epoch, 1);
    CHECK_EQ(cscp_ranges_find(ranges, 19)->epoch, 1);
    CHECK_EQ(cscp_ranges_find(ranges, 20)->epoch, 2);
    CHECK(!cscp_ranges_find(ranges, 21));
    CHECK_EQ(cscp_ranges_find(ranges, UINT64_MAX - 1)->epoch, 3);
    CHECK(!cscp_ranges_find(NULL, 1));
    CHECK(!cscp_ranges_find_way(ranges, 14));
    CHECK_EQ(cscp_ranges_find_way(ranges, 15)->target.port, 1);
    CHECK_EQ(cscp_ranges_find_way(ranges, 25)->target.port, 1);
    CHECK_EQ(cscp_ranges_find_way(ranges, 26)->target.port, 2);
    CHECK(!cscp_ranges_find_way(ranges, 27));
    CHECK(!cscp_ranges_find_way(NULL, 1));
    cscp_ranges_ref(ranges);
    cscp_ranges_unref(ranges);
    cscp_ranges_unref(ranges);
    CHECK_EQ(cscp_ranges_new(NULL, 0, NULL, true, 1, &ranges), 0);
    CHECK(!cscp_ranges_find(ranges, 1));
    CHECK(!cscp_ranges_find_way(ranges, 1));
    cscp_ranges_unref(ranges);
}

int main(void) {
    RUN(claims_publishes_and_releases_follow_each_other);
    RUN(places_for_commands_are_limited_in_number_and_bytes);
    RUN(it_agrees_with_a_plain_array);
    RUN(threads_may_fight_over_a_serial);
    RUN(routes_lead_somewhere_or_are_refused);
    RUN(ranges_are_found_by_serial);
    return 0;
}
