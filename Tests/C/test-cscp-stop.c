/* A host process that is stopped (SIGSTOP, a frozen machine) and goes on: it must not act on what
 * it knew before, and must not take its own absence for the controllers' silence. */
#include "host.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* A host in a child process, that acknowledges whatever it takes. Tells its port, and then the
 * number of sessions that ended. */
static pid_t spawn(const cscp_config *config, uint64_t lease_ms, uint16_t *ret_port, int *ret_fd) {
    int fds[2];
    CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        cscp *host = host_new(config);
        uint16_t port = cscp_port(host);
        uint32_t n_ended = 0;
        cscp_message message;
        if (lease_ms > 0) cscp_set_valid_until(host, boot_ns() + lease_ms * 1000000);
        CHECK_EQ(write(fds[1], &port, sizeof(port)), sizeof(port));
        for (;;) {
            if (cscp_get_message(host, &message, -1) != 1) continue;
            if (message.kind == CSCP_MSG_EVENT) host_ack(host, &message);
            if (message.kind != CSCP_MSG_DISCONNECTED) continue;
            n_ended++;
            CHECK_EQ(write(fds[1], &n_ended, sizeof(n_ended)), sizeof(n_ended));
        }
    }
    close(fds[1]);
    CHECK_EQ(read(fds[0], ret_port, sizeof(*ret_port)), sizeof(*ret_port));
    *ret_fd = fds[0];
    return pid;
}

static void end(pid_t pid, int fd) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(fd);
}

static void join_port(peer *p, uint16_t port, uint64_t serial) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    *p = (peer){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .next = 1, .log_epoch = 1};
    CHECK_EQ(connect(p->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    peer_hello(p, serial);
    peer_expect_welcome(p);
}

static void a_host_that_was_stopped_beyond_its_lease_sends_nothing_when_it_wakes(void) {
    cscp_config config = host_config();
    config.window_w = 1;
    config.t2_ms = 20;
    uint8_t bytes[CSCP_FRAME_MAX];
    uint16_t port;
    cscp_frame frame;
    peer p;
    int fd;
    uint64_t begin = now_ms();
    pid_t pid = spawn(&config, 2000, &port, &fd);
    join_port(&p, port, 5);
    for (int i = 0; i < 20; i++) peer_event(&p); /* some may be acknowledged, some not */
    CHECK_EQ(kill(pid, SIGSTOP), 0);
    CHECK_EQ(waitpid(pid, NULL, WUNTRACED), pid);
    CHECK(now_ms() - begin < 1900);
    for (int i = 0; i < 20; i++) peer_event(&p);
    while (peer_read(&p, &frame, 0) == 1) /* sent before it was stopped */
        CHECK_EQ(frame.type, CSCP_EVENT_ACK);
    usleep((useconds_t)(2100 - (now_ms() - begin)) * 1000);
    CHECK_EQ(peer_read(&p, &frame, 0), -1);
    CHECK_EQ(kill(pid, SIGCONT), 0);
    peer_write(&p, bytes, cscp_write_u64(bytes, CSCP_PING, 1));
    peer_expect(&p, CSCP_PONG); /* it is awake, and has read all of it */
    peer_expect_silence(&p, 300);
    end(pid, fd);
}

enum { N = 1500 }; /* more than epoll reports at once */

static void answer(peer *peers, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        uint8_t bytes[CSCP_U64_FRAME];
        cscp_frame frame;
        uint64_t token;
        int r;
        while ((r = peer_read(&peers[i], &frame, 0)) == 1)
            if (frame.type == CSCP_PING) {
                CHECK_EQ(cscp_parse_u64(frame.payload, frame.n_payload, &token), 0);
                peer_write(&peers[i], bytes, cscp_write_u64(bytes, CSCP_PONG, token));
            }
        CHECK_EQ(r, -1);
    }
}

static void a_host_that_was_stopped_does_not_take_it_for_silence(void) {
    cscp_config config = host_config();
    config.t1_ms = 1500;
    config.t2_ms = 20;
    config.t3_ms = 300;
    static peer peers[N];
    uint16_t port;
    uint32_t n_ended;
    int fd;
    pid_t pid = spawn(&config, 0, &port, &fd);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (unsigned i = 0; i < N; i++) {
        join_port(&peers[i], port, i + 1);
        if (i % 100 == 0) answer(peers, i);
    }
    for (int round = 0; round < 3; round++) {
        for (uint64_t until = now_ms() + 500; now_ms() < until;) answer(peers, N);
        usleep(500000); /* now all of them are being asked */
        CHECK_EQ(kill(pid, SIGSTOP), 0);
        CHECK_EQ(waitpid(pid, NULL, WUNTRACED), pid);
        answer(peers, N); /* they do what they should, while nobody looks */
        for (unsigned i = 0; i < N; i++) peer_event(&peers[i]);
        usleep(2000000);
        CHECK_EQ(kill(pid, SIGCONT), 0);
    }
    for (uint64_t until = now_ms() + 500; now_ms() < until;) answer(peers, N);
    CHECK(read(fd, &n_ended, sizeof(n_ended)) < 0); /* not one */
    for (unsigned i = 0; i < N; i++) peer_close(&peers[i]);
    end(pid, fd);
}

int main(void) {
    RUN(a_host_that_was_stopped_beyond_its_lease_sends_nothing_when_it_wakes);
    RUN(a_host_that_was_stopped_does_not_take_it_for_silence);
    return 0;
}
