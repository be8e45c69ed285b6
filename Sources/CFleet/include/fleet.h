/* A fleet of simulated door controllers: thousands in one process, each with a log of its own,
 * each speaking Docs/PROTOCOL.md. It is the project's oracle: it knows what it generated, what was
 * acknowledged and what it was made to do, and says so at the end (ADR 0007).
 *
 * Threads. fleet_new() makes everything, fleet_start() starts the worker threads, each with its
 * own share of the controllers. fleet_stop(), fleet_get_report() and fleet_wait() may be called
 * from any thread while they run; the ledger, the verification and fleet_free() only after
 * fleet_wait() returned FLEET_FINISHED.
 *
 * Errors are negative errno values; outputs (ret_...) are set on success only. */
#ifndef FLEET_H
#define FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

typedef struct fleet fleet;

typedef struct fleet_config {
    /* "HOST:PORT[,HOST:PORT...]", used in rotation. Read by fleet_new() only, like faults. */
    const char *_Nullable targets;
    const char *_Nullable faults; /* "NAME[:RATE],...", see fleet_fault_help(); NULL = none */
    uint64_t first_serial;       /* 1 ... 2^64-2 - n_controllers */
    uint32_t n_controllers;      /* 1 ... 1,000,000 */
    uint32_t n_threads;          /* 1 ... 64 */
    double event_rate;           /* events per second and controller, 0 = none */
    uint32_t burst;              /* so many events at a time; the rate stays the same */
    bool flood;                  /* as many events as the window allows; event_rate is ignored */
    double access_share;         /* 0 ... 1: part of the events that are access requests */
    uint32_t capacity;           /* records a log holds, 1 ... 1,000,000 */
    uint32_t log_epoch;          /* of every controller's first log; 0 = from the clock */
    uint64_t seed;
    double connect_rate;         /* first connects per second, 0 = all at once */
    uint32_t backoff_min_ms, backoff_max_ms;
    uint32_t connect_timeout_ms; /* until WELCOME */
    double duration_s;           /* 0 = until fleet_stop() */
    double drain_s;              /* how long to wait for acknowledgements after that */
} fleet_config;

/* Fills in the defaults; targets stays NULL. */
void fleet_config_init(fleet_config *config);

enum { FLEET_WHY_SIZE = 256 };

/* Resolves the targets, raises the descriptor limit and allocates. -EINVAL, -EMFILE (more
 * controllers than descriptors), -EHOSTUNREACH (a name that does not resolve), -ENOMEM; `ret_why`
 * then says in words what is wrong and what to do. */
int fleet_new(const fleet_config *config, fleet *_Nullable *_Nonnull ret,
              char ret_why[_Nonnull FLEET_WHY_SIZE]);
/* Closes all connections. NULL is fine. Returns NULL. */
fleet *_Nullable fleet_free(fleet *_Nullable self);

/* Blocks SIGINT, SIGTERM and SIGPIPE in the calling thread (call it before any other thread is
 * started) and starts the workers. */
int fleet_start(fleet *self);
/* Stop generating events, wait at most drain_s for acknowledgements, finish. */
void fleet_stop(fleet *self, double drain_s);

enum {
    FLEET_TIMEOUT = 0,
    FLEET_FINISHED = 1,
    FLEET_INTERRUPTED = 2, /* SIGINT or SIGTERM came; nothing has been done about it */
};

/* Waits up to timeout_ms for the end. */
int fleet_wait(fleet *self, int timeout_ms);

/* --- What happened ---------------------------------------------------------------------------- */

/* The counters, each the sum over all controllers. */
#define FLEET_COUNTERS(X)                                                                          \
    X(generated)          /* records written into the logs */                                      \
    X(sent)               /* record frames sent, repeats included */                               \
    X(resent)             /* of them sent again after a WELCOME */                                 \
    X(acked)              /* records acknowledged */                                               \
    X(overwritten)        /* records the log overwrote before they were acknowledged */            \
    X(reset_lost)         /* unacknowledged records that went with a log that was lost */          \
    X(resets)             /* logs begun anew */                                                    \
    X(gaps)               /* LOG_GAPs acknowledged */                                              \
    X(gap_records)        /* records they declared gone */                                         \
    X(advisories)                                                                                  \
    X(connects)           /* TCP connections made */                                               \
    X(connect_failures)                                                                            \
    X(welcomes)           /* WELCOMEs accepted */                                                  \
    X(handovers)          /* of them on a connection that had been welcomed before */              \
    X(reconnects)         /* of them on a new connection of a controller welcomed before */        \
    X(controllers_welcomed) /* controllers that were welcomed at least once */                     \
    X(sessions_ended)     /* welcomed connections that ended */                                    \
    X(busy)                                                                                        \
    X(redirects)                                                                                   \
    X(rejects)                                                                                     \
    X(goaways)                                                                                     \
    X(superseded)                                                                                  \
    X(closed_by_host)     /* connections the host closed or reset */                               \
    X(timeouts)           /* connections given up: no WELCOME, no answer to a PING */              \
    X(pings)                                                                                       \
    X(times)                                                                                       \
    X(acks)               /* EVENT_ACK frames */                                                   \
    X(acks_invalid)       /* of a record never sent, or of a log that never was */                 \
    X(acks_early)         /* of one sent before the last WELCOME and not anew yet: ignored */      \
    X(acks_old_log)       /* of a log that has been lost since */                                  \
    X(resume_invalid)     /* WELCOMEs to resume from a record never sent, or another log */        \
    X(resume_below_acked) /* WELCOMEs to resume from before what the host had acknowledged */      \
    X(stale_refused)      /* STALE sent */                                                         \
    X(protocol_errors)    /* frames from the host that were malformed or out of turn */            \
    X(resyncs)                                                                                     \
    X(commands_received)                                                                           \
    X(commands_executed)                                                                           \
    X(commands_duplicate) /* executed although the same id had been executed before */             \
    X(commands_late)      /* executed at or after not_after */                                     \
    X(commands_stale_epoch) /* commands and WELCOMEs received under a lower epoch than seen */     \
    X(commands_refused)                                                                            \
    X(commands_expired)                                                                            \
    X(commands_repeated)  /* answered from memory */                                               \
    X(configurations_begun)   /* transfers from their first byte on */                             \
    X(configurations_resumed) /* begun again where they had been left */                           \
    X(configurations_applied) /* put in force */                                                   \
    X(configurations_bad)     /* whole, and of another digest */                                   \
    X(configuration_chunks)   /* taken; none twice within a transfer */                            \
    X(configuration_bytes)                                                                         \
    X(access_requests)                                                                             \
    X(access_answered)                                                                             \
    X(access_unanswered)  /* no answer within 5 s */                                               \
    X(bytes_in)                                                                                    \
    X(bytes_out)                                                                                   \
    X(fault_disconnect)                                                                            \
    X(fault_half_open)                                                                             \
    X(fault_reboot)                                                                                \
    X(fault_reboot_lost)                                                                           \
    X(fault_log_clear)                                                                             \
    X(fault_slow_reader)                                                                           \
    X(fault_malformed)                                                                             \
    X(fault_clock_skew)

typedef struct fleet_quantiles {
    uint64_t count;
    double p50, p99, max; /* ms */
} fleet_quantiles;

typedef struct fleet_report {
#define X(name) uint64_t name;
    FLEET_COUNTERS(X)
#undef X
    uint64_t controllers;
    uint64_t connected;  /* welcomed now */
    uint64_t lost;       /* written until the generator stopped, not acknowledged; + verify_lost */
    uint64_t pending;    /* written since (commands still came), not acknowledged yet */
    uint64_t duplicated; /* stored more than once, as far as verified */
    uint64_t late_max_ms;
    fleet_quantiles gap;    /* last ack before a disturbance -> next ack, per controller */
    fleet_quantiles ack;    /* event -> ack */
    fleet_quantiles outage; /* connection lost -> welcomed again */
    double elapsed_s, cpu_s;
    uint64_t rss_kib;
    bool verified;
    uint64_t verify_logs, verify_lost, verify_duplicated, verify_corrupt;
} fleet_report;

/* Sums as of now; every counter is exact, the set of them is not of one instant. After the end,
 * executions of one command by controllers of different threads count as duplicates too. */
void fleet_get_report(const fleet *self, fleet_report *ret);

/* Nothing lost, duplicated, late, stale or corrupt. */
bool fleet_report_is_clean(const fleet_report *report);

/* One line of JSON, or a page for people, or a line for people while it runs. */
void fleet_report_print_json(const fleet_report *report, int fd);
void fleet_report_print_text(const fleet *self, const fleet_report *report, int fd);
void fleet_report_print_progress(const fleet_report *report, int fd);
void fleet_report_print_progress_json(const fleet_report *report, int fd);

/* A line of JSON per controller and log: serial, log_epoch, first, last, acked, gaps,
 * fingerprint_sum, and the ids of the commands executed under it. */
int fleet_write_ledger(const fleet *self, const char *path);
/* A line of JSON per command executed. */
int fleet_write_commands(const fleet *self, const char *path);

/* --- Against what is stored ------------------------------------------------------------------- */

/* What the vendor app says of one log (LogAudit in vendor_query.proto). */
typedef struct fleet_audit {
    uint64_t serial;
    uint32_t log_epoch;
    uint64_t first_seq, last_seq;
    uint64_t gap_records, holes, fingerprint_sum, duplicates;
} fleet_audit;

/* Compares it with the log of the controller it belongs to; others are passed over. The last call
 * is fleet_verify_finish(), which counts logs nothing was said about. The report has the sums. */
void fleet_verify_log(fleet *self, const fleet_audit *audit);
void fleet_verify_finish(fleet *self);

/* --- Help ------------------------------------------------------------------------------------- */

/* A line per fault: name, rate when none is given, what it does. Static. */
const char *fleet_fault_help(void);

#pragma clang assume_nonnull end
#endif
