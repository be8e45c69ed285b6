/* clang -std=gnu17 -D_GNU_SOURCE -Wall -Wextra -Wconversion -Werror -ISources/CSystem/include \
 *   -ITests/C Tests/C/test-csystem.c Sources/CSystem/[a-z]*.c -pthread -o test-csystem && ./test-csystem */
#include "CSystem.h"
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SECOND 1000000000ll

static void test_clocks(void) {
    uint64_t a = csys_clock_boottime(), b = csys_clock_boottime();

    CHECK(a > 0 && b >= a && b - a < (uint64_t)SECOND);
    CHECK(csys_clock_realtime() > 1700000000ull * (uint64_t)SECOND);
    CHECK(csys_clock_process_cpu() > 0 && csys_clock_thread_cpu() > 0);
}

static void test_bell_and_epoll(void) {
    int epoll = csys_epoll_new(), bell = csys_bell_new();
    csys_event events[4];
    uint64_t before;

    CHECK(epoll >= 0 && bell >= 0);
    CHECK(csys_epoll_remove(epoll, bell) == -ENOENT);
    CHECK(csys_epoll_set(epoll, bell, CSYS_READABLE, 0x1234567890abcdefull) == 0);
    before = csys_clock_boottime();
    CHECK(csys_epoll_wait(epoll, events, 4, 3000000) == 0);
    CHECK(csys_clock_boottime() - before >= 3000000);
    CHECK(csys_bell_ring(bell) == 0 && csys_bell_ring(bell) == 0);
    CHECK(csys_epoll_wait(epoll, events, 4, -1) == 1);
    CHECK(events[0].tag == 0x1234567890abcdefull && events[0].what == CSYS_READABLE);
    CHECK(csys_bell_clear(bell) == 1 && csys_bell_clear(bell) == 0);
    CHECK(csys_epoll_set(epoll, bell, CSYS_WRITABLE, 7) == 0);
    CHECK(csys_epoll_wait(epoll, events, 4, 0) == 1 && events[0].tag == 7);
    CHECK(csys_epoll_remove(epoll, bell) == 0);
    CHECK(csys_fd_close(bell) == -1 && csys_fd_close(epoll) == -1 && csys_fd_close(-1) == -1);
}

static void wait_for(int fd, uint32_t what) {
    int epoll = csys_epoll_new();
    csys_event event;

    CHECK(csys_epoll_set(epoll, fd, what, 0) == 0);
    CHECK(csys_epoll_wait(epoll, &event, 1, 5 * SECOND) == 1);
    (void)csys_fd_close(epoll);
}

/* Connects to a listener and passes a few bytes. */
static void exchange(int listener, const csys_address *address) {
    csys_address peer;
    char text[16];
    int near, far;

    CHECK(csys_socket_accept(listener, NULL) == -EAGAIN);
    near = csys_socket_connect(address);
    CHECK(near >= 0);
    wait_for(near, CSYS_WRITABLE);
    CHECK(csys_socket_error(near) == 0);
    wait_for(listener, CSYS_READABLE);
    far = csys_socket_accept(listener, &peer);
    CHECK(far >= 0 && peer.storage.ss_family == address->storage.ss_family);
    CHECK(csys_socket_receive(far, text, sizeof text) == -EAGAIN);
    CHECK(csys_socket_send(near, "hello", 5) == 5);
    wait_for(far, CSYS_READABLE);
    CHECK(csys_socket_receive(far, text, sizeof text) == 5 && memcmp(text, "hello", 5) == 0);
    (void)csys_fd_close(near);
    wait_for(far, CSYS_READABLE);
    CHECK(csys_socket_receive(far, text, sizeof text) == 0);
    (void)csys_socket_send(far, "x", 1);
    (void)csys_socket_send(far, "x", 1); /* no SIGPIPE */
    (void)csys_fd_close(far);
}

static void test_discard(int listener, const csys_address *address) {
    char text[16];
    int near = csys_socket_connect(address), far;

    wait_for(near, CSYS_WRITABLE);
    wait_for(listener, CSYS_READABLE);
    far = csys_socket_accept(listener, NULL);
    CHECK(csys_socket_discard(near) == 0);
    (void)csys_fd_close(near);
    wait_for(far, CSYS_READABLE);
    CHECK(csys_socket_receive(far, text, sizeof text) == -ECONNRESET);
    (void)csys_fd_close(far);
}

static void test_tcp(void) {
    csys_address any, address;
    char text[64];
    int listener, port, fd;

    CHECK(csys_address_parse("127.0.0.1", 0, &any) == 0);
    listener = csys_socket_listen(&any, 16, 0);
    CHECK(listener >= 0);
    port = csys_socket_port(listener);
    CHECK(port > 0);
    CHECK(csys_address_resolve("localhost", (uint16_t)port, &address, 1) == 1);
    CHECK(csys_address_parse("127.0.0.1", (uint16_t)port, &address) == 0);
    exchange(listener, &address);
    test_discard(listener, &address);
    CHECK(csys_address_print(&address, text, sizeof text) == strlen(text));
    CHECK(strncmp(text, "127.0.0.1:", 10) == 0 && atoi(text + 10) == port);
    CHECK(csys_address_print(&address, text, 5) == 4 && strcmp(text, "127.") == 0);
    fd = csys_socket_connect(&address);
    CHECK(csys_socket_keepalive(fd, 10, 5, 3) == 0 && csys_socket_user_timeout(fd, 20000) == 0);
    (void)csys_fd_close(fd);
    CHECK(csys_socket_listen(&address, 16, 0) == -EADDRINUSE);
    (void)csys_fd_close(listener);

    fd = csys_socket_connect(&address); /* nobody there any more */
    if (fd >= 0) {
        wait_for(fd, CSYS_WRITABLE);
        CHECK(csys_socket_error(fd) == -ECONNREFUSED);
        (void)csys_fd_close(fd);
    } else {
        CHECK(fd == -ECONNREFUSED);
    }
}

static void test_addresses(void) {
    csys_address address;
    char text[128];

    CHECK(csys_address_parse("[::1]", 80, &address) == 0);
    CHECK(csys_address_print(&address, text, sizeof text) > 0 && strcmp(text, "[::1]:80") == 0);
    CHECK(csys_address_parse("::1", 80, &address) == 0);
    CHECK(csys_address_parse("localhost", 80, &address) == -EINVAL);
    CHECK(csys_address_parse("", 80, &address) == -EINVAL);
    CHECK(csys_address_parse("[]", 80, &address) == -EINVAL);
    CHECK(csys_address_resolve("no-such-host.invalid", 80, &address, 1) < 0);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CHECK(csys_address_unix(text, &address) == -ENAMETOOLONG);
    CHECK(csys_address_unix("", &address) == -EINVAL);
}

static void test_unix(const char *folder) {
    csys_address address;
    char path[96];
    struct stat st;
    int listener, fd;

    CHECK(snprintf(path, sizeof path, "%s/socket", folder) > 0);
    CHECK(csys_address_unix(path, &address) == 0);
    CHECK(csys_socket_connect(&address) == -ENOENT);
    listener = csys_socket_listen(&address, 16, 0666);
    CHECK(listener >= 0);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0666);
    exchange(listener, &address);
    CHECK(csys_socket_listen(&address, 16, 0600) == -EADDRINUSE);
    (void)csys_fd_close(listener);
    listener = csys_socket_listen(&address, 16, 0600); /* over the corpse */
    CHECK(listener >= 0);
    exchange(listener, &address);
    (void)csys_fd_close(listener);
    CHECK(unlink(path) == 0);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(csys_socket_listen(&address, 16, 0600) == -EADDRINUSE);
    CHECK(stat(path, &st) == 0 && S_ISREG(st.st_mode));
    (void)csys_fd_close(fd);
    CHECK(unlink(path) == 0);

    CHECK(csys_address_unix("@csystem-test", &address) == 0);
    CHECK(csys_address_print(&address, path, sizeof path) == 13);
    CHECK(strcmp(path, "@csystem-test") == 0);
}

static void thread_body(void *context) {
    char *name = context;
    sigset_t mask;

    CHECK(prctl(PR_GET_NAME, name) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0 && sigismember(&mask, SIGTERM) == 1);
}

static void test_threads_and_signals(void) {
    const int wanted[] = {SIGUSR1, SIGTERM};
    char name[16] = "";
    csys_thread thread;
    int fd;

    CHECK(csys_thread_start("a-rather-long-name", thread_body, name, &thread) == 0);
    CHECK(!csys_thread_is_current(thread));
    CHECK(csys_thread_join(thread) == 0 && strcmp(name, "a-rather-long-n") == 0);

    fd = csys_signals_open(wanted, 2);
    CHECK(fd >= 0 && csys_signals_read(fd) == -EAGAIN);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    wait_for(fd, CSYS_READABLE);
    CHECK(csys_signals_read(fd) == SIGUSR1);
    (void)csys_fd_close(fd);
    fd = 0xffff;
    CHECK(csys_signals_block(&fd, 1) == -EINVAL);
    CHECK(csys_sigpipe_ignore() == 0 && raise(SIGPIPE) == 0);
}

static ssize_t file_read(const char *path, char *ret, size_t n) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t r = read(fd, ret, n - 1);

    CHECK(r >= 0);
    ret[r] = '\0';
    (void)csys_fd_close(fd);
    return r;
}

static void title_is(const char *title, const char *name) {
    char text[8192];

    CHECK(file_read("/proc/self/cmdline", text, sizeof text) >= (ssize_t)strlen(title));
    CHECK(strcmp(text, title) == 0);
    (void)file_read("/proc/self/comm", text, sizeof text);
    CHECK(strncmp(text, name, strlen(name)) == 0 && text[strlen(name)] == '\n');
}

static void test_title(int argc, char **argv) {
    char *path_before = strdup(getenv("PATH"));
    char *self_before = strdup(argv[0]);
    char *title;
    ssize_t room;

    CHECK(csys_title_set("early") == -ENODATA);
    room = csys_title_init(argc, argv);
    CHECK(room > 64 && csys_title_init(argc, argv) == room);
    CHECK(csys_title_set("/usr/bin/cluster-driver v1.0.0 port: 5001") == 41);
    title_is("/usr/bin/cluster-driver v1.0.0 port: 5001", "cluster-driver");

    title = malloc((size_t)room + 100);
    memset(title, 'x', (size_t)room + 99);
    memcpy(title, "long ", 5);
    title[room + 99] = '\0';
    CHECK(csys_title_set(title) == room);
    title[room] = '\0';
    title_is(title, "long");
    free(title);
    CHECK(csys_title_set("a") == 1);
    title_is("a", "a");

    CHECK(strcmp(getenv("PATH"), path_before) == 0 && strcmp(argv[0], self_before) == 0);
    CHECK(strcmp(program_invocation_name, self_before) == 0);
    CHECK(setenv("AFTER_TITLE", "x", 1) == 0 && strcmp(getenv("AFTER_TITLE"), "x") == 0);
    free(path_before);
    free(self_before);
}

static void test_process(void) {
    unsigned char a[256], b[256];

    CHECK(strcmp(csys_error_text(-ECONNREFUSED), "Connection refused") == 0);
    CHECK(strcmp(csys_error_text(ECONNREFUSED), "Connection refused") == 0);
    CHECK(strcmp(csys_error_text(-100000), "unknown error") == 0);
    CHECK(csys_program_path() != NULL && strstr(csys_program_path(), "test-csystem") != NULL);
    CHECK(csys_memory_rss() > 100000);
    CHECK(csys_files_raise() >= 1024);
    CHECK(csys_random_fill(a, sizeof a) == 0 && csys_random_fill(b, sizeof b) == 0);
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK(csys_random_fill(a, 257) == -EINVAL);
}

/* A datagram socket at a path, as the service manager's. */
static int manager_new(const char *path) {
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memcpy(un.sun_path, path, strlen(path) + 1);
    CHECK(bind(fd, (struct sockaddr *)&un, sizeof un) == 0);
    return fd;
}

static void test_notify(const char *folder) {
    char path[96], text[256], control[128];
    struct iovec piece = {.iov_base = text, .iov_len = sizeof text};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    char pid[16];
    int manager, n, fds[2];

    CHECK(unsetenv("NOTIFY_SOCKET") == 0 && csys_notify_send("READY=1", NULL, 0) == 0);
    CHECK(snprintf(path, sizeof path, "%s/notify", folder) > 0);
    manager = manager_new(path);
    CHECK(setenv("NOTIFY_SOCKET", path, 1) == 0);
    CHECK(csys_notify_send("READY=1\nSTATUS=well", NULL, 0) == 1);
    CHECK(recv(manager, text, sizeof text, 0) == 19);
    CHECK(memcmp(text, "READY=1\nSTATUS=well", 19) == 0);

    fds[0] = csys_bell_new();
    fds[1] = csys_bell_new();
    CHECK(csys_notify_send("FDSTORE=1", fds, 2) == 1);
    CHECK(recvmsg(manager, &message, MSG_CMSG_CLOEXEC) == 9);
    CHECK(CMSG_FIRSTHDR(&message)->cmsg_len == CMSG_LEN(2 * sizeof(int)));

    for (n = 0; n < 100000; n++)
        if (csys_notify_send("STATUS=a flood", NULL, 0) != 1)
            break;
    CHECK(csys_notify_send("STATUS=a flood", NULL, 0) == -EAGAIN);
    (void)csys_fd_close(manager);
    CHECK(csys_notify_send("READY=1", NULL, 0) == -ECONNREFUSED);
    CHECK(unsetenv("NOTIFY_SOCKET") == 0 && unlink(path) == 0);

    CHECK(csys_notify_watchdog() == 0);
    CHECK(setenv("WATCHDOG_USEC", "5000000", 1) == 0 && csys_notify_watchdog() == 5 * SECOND);
    CHECK(setenv("WATCHDOG_PID", "1", 1) == 0 && csys_notify_watchdog() == 0);
    CHECK(snprintf(pid, sizeof pid, "%d", getpid()) > 0 && setenv("WATCHDOG_PID", pid, 1) == 0);
    CHECK(csys_notify_watchdog() == 5 * SECOND);
    CHECK(setenv("WATCHDOG_USEC", "5s", 1) == 0 && csys_notify_watchdog() == 0);
}

/* What the journal would receive is seen where no journal listens: bound by the test itself. */
static void test_journal(void) {
    const char path[] = "/run/systemd/journal/socket";
    const csys_field bad = {.name = "_PID", .value = "1", .n_value = 1};
    csys_field fields[] = {
        {.name = "MESSAGE", .value = "two\nlines", .n_value = 9},
        {.name = "PRIORITY", .value = "6", .n_value = 1},
    };
    const char expected[] = "MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nPRIORITY=6\n";
    char text[256], stream[64];
    int journal = csys_journal_open(), receiver;
    struct stat st;

    CHECK(journal >= 0);
    CHECK(csys_journal_send(journal, &bad, 1) == -EINVAL);
    CHECK(csys_journal_send(journal, fields, 0) == -EINVAL);
    CHECK(unsetenv("JOURNAL_STREAM") == 0 && !csys_journal_is(2));
    CHECK(fstat(2, &st) == 0);
    CHECK(snprintf(stream, sizeof stream, "%lu:%lu", st.st_dev, st.st_ino) > 0);
    CHECK(setenv("JOURNAL_STREAM", stream, 1) == 0);
    CHECK(csys_journal_is(2) && !csys_journal_is(journal));

    if (access(path, F_OK) == 0 || geteuid() != 0) {
        (void)csys_fd_close(journal);
        return; /* a real journal, or no right to play one */
    }
    (void)mkdir("/run/systemd", 0755);
    (void)mkdir("/run/systemd/journal", 0755);
    receiver = manager_new(path);
    CHECK(csys_journal_send(journal, fields, 2) == 0);
    CHECK(recv(receiver, text, sizeof text, 0) == (ssize_t)sizeof expected - 1);
    CHECK(memcmp(text, expected, sizeof expected - 1) == 0);

    /* Larger than any datagram: a sealed file arrives instead. */
    fields[0].n_value = 3000000;
    fields[0].value = calloc(1, fields[0].n_value);
    CHECK(csys_journal_send(journal, fields, 2) == 0);
    {
        char control[CMSG_SPACE(sizeof(int))];
        struct iovec piece = {.iov_base = text, .iov_len = sizeof text};
        struct msghdr message = {.msg_iov = &piece,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof control};
        int fd;

        CHECK(recvmsg(receiver, &message, MSG_CMSG_CLOEXEC) == 0);
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
        CHECK(fstat(fd, &st) == 0 && st.st_size == 3000000 + 8 + 1 + 11);
        CHECK((fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE) != 0);
        (void)csys_fd_close(fd);
    }
    free((void *)fields[0].value);
    (void)csys_fd_close(receiver);
    CHECK(unlink(path) == 0);
    (void)rmdir("/run/systemd/journal");
    CHECK(csys_journal_send(journal, fields + 1, 1) == -ENOENT);
    (void)csys_fd_close(journal);
}

int main(int argc, char **argv) {
    char folder[] = "/tmp/csystem-XXXXXX";

    CHECK(mkdtemp(folder) != NULL);
    test_title(argc, argv);
    test_clocks();
    test_bell_and_epoll();
    test_tcp();
    test_addresses();
    test_unix(folder);
    test_threads_and_signals();
    test_process();
    test_notify(folder);
    test_journal();
    CHECK(rmdir(folder) == 0);
    puts("ok");
    return 0;
}
