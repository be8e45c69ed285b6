/* The report, for programs and for people. */
#include "fleet.h"
#include "worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define U64 "%" PRIu64

static void print_quantiles(const char *name, const fleet_quantiles *q, FILE *file) {
    fprintf(file, ",\"%s\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f,\"count\":" U64 "}", name,
            q->p50, q->p99, q->max, q->count);
}

static void print_one(const char *name, uint64_t value, FILE *file) {
    fprintf(file, ",\"%s\":" U64, name, value);
}

static void print_json(const fleet_report *r, FILE *file) {
    fprintf(file,
            "{\"connected\":" U64 ",\"sent\":" U64 ",\"acked\":" U64 ",\"lost\":" U64
            ",\"duplicated\":" U64 ",\"reconnects\":" U64,
            r->connected, r->sent, r->acked, r->lost, r->duplicated, r->reconnects);
    print_quantiles("gap_ms", &r->gap, file);
    fprintf(file,
            ",\"commands\":{\"executed\":" U64 ",\"duplicate\":" U64 ",\"late\":" U64
            ",\"stale_epoch\":" U64 ",\"received\":" U64 ",\"refused\":" U64 ",\"expired\":" U64
            ",\"repeated\":" U64 ",\"late_max_ms\":" U64 "}",
            r->commands_executed, r->commands_duplicate, r->commands_late, r->commands_stale_epoch,
            r->commands_received, r->commands_refused, r->commands_expired, r->commands_repeated,
            r->late_max_ms);
    print_quantiles("ack_ms", &r->ack, file);
    print_quantiles("outage_ms", &r->outage, file);
#define ONE(name) print_one(#name, r->name, file)
    ONE(controllers);
    ONE(controllers_welcomed);
    ONE(generated);
    ONE(pending);
    ONE(resent);
    ONE(overwritten);
    ONE(reset_lost);
    ONE(resets);
    ONE(gaps);
    ONE(gap_records);
    ONE(advisories);
    ONE(connects);
    ONE(connect_failures);
    ONE(welcomes);
    ONE(handovers);
    ONE(sessions_ended);
    ONE(closed_by_host);
    ONE(timeouts);
    ONE(busy);
    ONE(redirects);
    ONE(rejects);
    ONE(goaways);
    ONE(superseded);
    ONE(pings);
    ONE(times);
    ONE(acks);
    ONE(acks_invalid);
    ONE(acks_early);
    ONE(acks_old_log);
    ONE(resume_invalid);
    ONE(resume_below_acked);
    ONE(stale_refused);
    ONE(protocol_errors);
    ONE(resyncs);
    ONE(bytes_in);
    ONE(bytes_out);
#undef ONE
    fprintf(file,
            ",\"configurations\":{\"begun\":" U64 ",\"resumed\":" U64 ",\"applied\":" U64
            ",\"bad\":" U64 ",\"chunks\":" U64 ",\"bytes\":" U64 "}",
            r->configurations_begun, r->configurations_resumed, r->configurations_applied,
            r->configurations_bad, r->configuration_chunks, r->configuration_bytes);
    fprintf(file,
            ",\"access\":{\"requests\":" U64 ",\"answered\":" U64 ",\"unanswered\":" U64 "}",
            r->access_requests, r->access_answered, r->access_unanswered);
    fprintf(file,
            ",\"faults\":{\"disconnect\":" U64 ",\"half-open\":" U64 ",\"reboot\":" U64
            ",\"reboot-lost\":" U64 ",\"log-clear\":" U64 ",\"slow-reader\":" U64
            ",\"malformed\":" U64 ",\"clock-skew\":" U64 "}",
            r->fault_disconnect, r->fault_half_open, r->fault_reboot, r->fault_reboot_lost,
            r->fault_log_clear, r->fault_slow_reader, r->fault_malformed, r->fault_clock_skew);
    if (r->verified)
        fprintf(file,
                ",\"verify\":{\"logs\":" U64 ",\"lost\":" U64 ",\"duplicated\":" U64
                ",\"corrupt\":" U64 "}",
                r->verify_logs, r->verify_lost, r->verify_duplicated, r->verify_corrupt);
    fprintf(file, ",\"elapsed_s\":%.3f,\"cpu_s\":%.3f,\"rss_kib\":" U64 ",\"clean\":%s}\n",
            r->elapsed_s, r->cpu_s, r->rss_kib, fleet_report_is_clean(r) ? "true" : "false");
}

static void print_times(const char *name, const fleet_quantiles *q, FILE *file) {
    if (q->count > 0)
        fprintf(file, "%-12s p50 %.1f ms, p99 %.1f ms, max %.1f ms (" U64 ")\n", name, q->p50,
                q->p99, q->max, q->count);
}

static void print_text(const fleet *self, const fleet_report *r, FILE *file) {
    double per_event = r->acked > 0 ? r->cpu_s * 1e6 / (double)r->acked : 0;

    fprintf(file,
            "controllers  " U64 " of " U64 " connected, " U64 " reconnects, " U64 " handovers\n",
            r->connected, r->controllers, r->reconnects, r->handovers);
    fprintf(file,
            "records      " U64 " generated, " U64 " acked, " U64 " lost, " U64 " duplicated\n",
            r->generated, r->acked, r->lost, r->duplicated);
    if (r->overwritten > 0 || r->reset_lost > 0)
        fprintf(file, "             " U64 " overwritten, " U64 " gone with a lost log\n",
                r->overwritten, r->reset_lost);
    print_times("gap", &r->gap, file);
    print_times("event to ack", &r->ack, file);
    print_times("outage", &r->outage, file);
    fprintf(file,
            "commands     " U64 " executed, " U64 " duplicate, " U64 " late, " U64
            " of a stale epoch; " U64 " refused, " U64 " expired, " U64 " repeated\n",
            r->commands_executed, r->commands_duplicate, r->commands_late, r->commands_stale_epoch,
            r->commands_refused, r->commands_expired, r->commands_repeated);
    if (r->configurations_begun > 0)
        fprintf(file,
                "configurations " U64 " begun, " U64 " resumed, " U64 " applied, " U64
                " bad; " U64 " chunks, " U64 " bytes\n",
                r->configurations_begun, r->configurations_resumed, r->configurations_applied,
                r->configurations_bad, r->configuration_chunks, r->configuration_bytes);
    if (r->protocol_errors + r->acks_invalid + r->resume_invalid + r->resume_below_acked > 0)
        fprintf(file,
                "host's faults: " U64 " frames, " U64 " acks and " U64 " resumes not valid, " U64
                " resumes below what was acked\n",
                r->protocol_errors, r->acks_invalid, r->resume_invalid, r->resume_below_acked);
    if (r->verified) {
        fprintf(file,
                "stored       " U64 " logs: " U64 " lost, " U64 " duplicated, " U64 " corrupt\n",
                r->verify_logs, r->verify_lost, r->verify_duplicated, r->verify_corrupt);
        for (unsigned i = 0; i < self->n_examples; i++)
            fprintf(file, "             %s\n", self->examples[i]);
    }
    fprintf(file, "cost         %.2f s CPU in %.1f s, %.2f us per acked record, %.1f MB\n",
            r->cpu_s, r->elapsed_s, per_event, (double)r->rss_kib / 1024);
    fprintf(file, "%s\n", fleet_report_is_clean(r) ? "clean" : "NOT CLEAN");
}

static void print_progress(const fleet_report *r, FILE *file) {
    fprintf(file,
            "\r\x1b[K%.0f s: " U64 "/" U64 " connected, " U64 " generated, " U64
            " acked, ack p99 %.1f ms, " U64 " commands, " U64 " reconnects",
            r->elapsed_s, r->connected, r->controllers, r->generated, r->acked, r->ack.p99,
            r->commands_executed, r->reconnects);
}

static void print_progress_json(const fleet_report *r, FILE *file) {
    fprintf(file,
            "{\"elapsed_s\":%.3f,\"connected\":" U64 ",\"generated\":" U64 ",\"sent\":" U64
            ",\"acked\":" U64 ",\"reconnects\":" U64
            ",\"ack_ms\":{\"p50\":%.3f,\"p99\":%.3f},\"commands\":{\"executed\":" U64 "}"
            ",\"configurations\":{\"applied\":" U64 ",\"chunks\":" U64 "}}\n",
            r->elapsed_s, r->connected, r->generated, r->sent, r->acked, r->reconnects, r->ack.p50,
            r->ack.p99, r->commands_executed, r->configurations_applied, r->configuration_chunks);
}

static FILE *begin(int fd) {
    return fdopen(dup(fd), "w");
}

void fleet_report_print_json(const fleet_report *report, int fd) {
    FILE *file = begin(fd);

    if (!file)
        return;
    print_json(report, file);
    fclose(file);
}

void fleet_report_print_text(const fleet *self, const fleet_report *report, int fd) {
    FILE *file = begin(fd);

    if (!file)
        return;
    print_text(self, report, file);
    fclose(file);
}

void fleet_report_print_progress(const fleet_report *report, int fd) {
    FILE *file = begin(fd);

    if (!file)
        return;
    print_progress(report, file);
    fclose(file);
}

void fleet_report_print_progress_json(const fleet_report *report, int fd) {
    FILE *file = begin(fd);

    if (!file)
        return;
    print_progress_json(report, file);
    fclose(file);
}
