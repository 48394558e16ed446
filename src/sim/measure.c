#include "sim/measure.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum {
	LINE_BYTES = 256,
	IPERF3_COOKIE_BYTES = 37, /* what each of its TCP connections begins with */
	IPERF3_HELLO_BYTES = 4    /* the datagram that announces a UDP stream */
};

static const struct measure_range unsaid = { .min = 0, .max = -1 };

static struct measure_range exactly(int64_t value)
{
	return (struct measure_range){ .min = value, .max = value };
}

void measure_init(struct measure *measure)
{
	*measure = (struct measure){ .rtt_p50_ms = -1,
				     .rtt_p99_ms = -1,
				     .mbit_per_s = -1,
				     .loss = -1,
				     .gap_ms = -1,
				     .jitter_ms = -1,
				     .seconds = -1,
				     .sent = -1,
				     .received = -1,
				     .retransmits = -1,
				     .said = { .port = -1,
					       .packets_sent = unsaid,
					       .packets_received = unsaid,
					       .payload_sent = unsaid,
					       .payload_received = unsaid } };
}

/* ---- ping ---- */

/* The number behind a word of a line, < 0 where it does not stand there. */
static double number_after(const char *line, const char *word)
{
	const char *at = strstr(line, word);
	char *end;
	double value;

	if (at == NULL)
		return -1;
	value = strtod(at + strlen(word), &end);
	return end == at + strlen(word) ? -1 : value;
}

struct answers {
	double *rtt_ms;
	size_t count;
	size_t again;  /* answers that came twice */
	double last_s; /* time of the latest, 0 = none yet */
	double last_seq;
	double gap_s;
};

/* "[1763695000.123456] 64 bytes from 10.1.0.2: icmp_seq=1 ttl=64 time=0.043 ms" */
static void ping_line(const char *line, struct answers *answers)
{
	double seq = number_after(line, "icmp_seq=");
	double rtt_ms = number_after(line, "time=");
	double at_s = number_after(line, "[");

	if (*line != '[' || seq < 0 || rtt_ms < 0 || at_s < 0)
		return;
	if (strstr(line, "(DUP!)") != NULL) {
		answers->again++;
		return;
	}
	answers->rtt_ms[answers->count++] = rtt_ms;
	if (answers->last_s > 0 && at_s - answers->last_s > answers->gap_s)
		answers->gap_s = at_s - answers->last_s;
	answers->last_s = at_s;
	if (seq > answers->last_seq)
		answers->last_seq = seq;
}

static size_t count_lines(const char *text)
{
	size_t count = 1;

	for (; *text != '\0'; text++)
		count += *text == '\n';
	return count;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Smallest value that a share of all does not exceed. */
static double quantile(const double *sorted, size_t count, double share)
{
	size_t at = (size_t)(share * (double)count);

	HAUL_ASSERT(count > 0);
	return sorted[at < count ? at : count - 1];
}

/* What was sent last and has had no time for an answer when ping ended is left out: it was not
 * lost. A tail longer than the slowest answers is silence. */
static void ping_figures(struct answers *answers, double sent, uint32_t interval_ms,
			 struct measure *measure)
{
	double tail = sent - answers->last_seq;

	if (answers->count > 0) {
		qsort(answers->rtt_ms, answers->count, sizeof *answers->rtt_ms, compare_doubles);
		measure->rtt_p50_ms = quantile(answers->rtt_ms, answers->count, 0.5);
		measure->rtt_p99_ms = quantile(answers->rtt_ms, answers->count, 0.99);
		if (tail * interval_ms <= measure->rtt_p99_ms + interval_ms)
			sent -= tail;
	}
	measure->sent = (int64_t)sent;
	measure->received = (int64_t)answers->count;
	measure->loss = sent > 0 ? 1 - (double)answers->count / sent : 1;
	measure->gap_ms = answers->gap_s * 1000;
	if ((sent - answers->last_seq) * interval_ms > measure->gap_ms)
		measure->gap_ms = (sent - answers->last_seq) * interval_ms;
}

int measure_ping(const char *output, uint32_t interval_ms, struct measure *ret_measure,
		 struct haul_err *err)
{
	struct answers answers = { .count = 0 };
	char line[LINE_BYTES];
	double sent = -1;

	answers.rtt_ms = calloc(count_lines(output), sizeof *answers.rtt_ms);
	if (answers.rtt_ms == NULL)
		return haul_err_set(err, -ENOMEM, "ping: out of memory");
	for (const char *at = output; *at != '\0'; at += strcspn(at, "\n"), at += *at == '\n') {
		(void)snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
		ping_line(line, &answers);
		if (strstr(line, " packets transmitted") != NULL)
			sent = strtod(line, NULL);
	}
	if (sent >= 0) {
		measure_init(ret_measure);
		ret_measure->said.packets_sent = exactly((int64_t)sent);
		/* An answer may still come when ping has ended. */
		ret_measure->said.packets_received = (struct measure_range){
			.min = (int64_t)(answers.count + answers.again),
			.max = (int64_t)sent + (int64_t)answers.again,
		};
		ping_figures(&answers, sent, interval_ms, ret_measure);
	}
	free(answers.rtt_ms);
	if (sent < 0)
		return haul_err_set(err, HAUL_ECORRUPT, "ping ended without its summary: %.*s",
				    (int)strcspn(output, "\n"), output);
	return 0;
}

/* ---- iperf3 ---- */

/* The number at a path of keys, < 0 where there is none. */
static double json_figure(const json_t *root, const char *group, const char *key)
{
	const json_t *value =
		json_object_get(json_object_get(json_object_get(root, "end"), group), key);

	return json_is_number(value) ? json_number_value(value) : -1;
}

/* The port of the one stream that we let it have, -1 where it is not told. */
static int32_t iperf3_port(const json_t *root)
{
	const json_t *start = json_object_get(root, "start");
	const json_t *stream = json_array_get(json_object_get(start, "connected"), 0);
	const json_t *port = json_object_get(stream, "local_port");

	return json_is_integer(port) ? (int32_t)json_integer_value(port) : -1;
}

static int iperf3_parse(const char *output, json_t **ret_root, struct haul_err *err)
{
	json_t *root = json_loads(output, 0, NULL);
	const char *said = json_string_value(json_object_get(root, "error"));
	int rc = 0;

	if (root == NULL)
		return haul_err_set(err, HAUL_ECORRUPT, "iperf3 said no JSON: %.*s",
				    (int)strcspn(output, "\n"), output);
	if (said != NULL)
		rc = haul_err_set(err, HAUL_ECORRUPT, "iperf3: %s", said);
	else if (json_figure(root, "sum_received", "bits_per_second") < 0)
		rc = haul_err_set(err, HAUL_ECORRUPT, "iperf3 gave no figures of the receiver");
	if (rc < 0)
		json_decref(root);
	else
		*ret_root = root;
	return rc;
}

int measure_iperf3_tcp(const char *output, struct measure *ret_measure, struct haul_err *err)
{
	json_t *root = NULL;
	int rc = iperf3_parse(output, &root, err);

	if (rc < 0)
		return rc;
	measure_init(ret_measure);
	ret_measure->mbit_per_s = json_figure(root, "sum_received", "bits_per_second") / 1e6;
	ret_measure->seconds = json_figure(root, "sum_received", "seconds");
	ret_measure->sent = (int64_t)json_figure(root, "sum_sent", "bytes");
	ret_measure->received = (int64_t)json_figure(root, "sum_received", "bytes");
	ret_measure->retransmits = (int64_t)json_figure(root, "sum_sent", "retransmits");
	ret_measure->said.port = iperf3_port(root);
	ret_measure->said.payload_sent = (struct measure_range){
		.min = ret_measure->received + IPERF3_COOKIE_BYTES,
		.max = ret_measure->sent + IPERF3_COOKIE_BYTES,
	};
	json_decref(root);
	return 0;
}

/* The receiver does not know of what is lost at the end: the share is of what was sent. */
int measure_iperf3_udp(const char *output, struct measure *ret_measure, struct haul_err *err)
{
	json_t *root = NULL;
	int rc = iperf3_parse(output, &root, err);
	double sent;
	double received;
	double seconds;

	if (rc < 0)
		return rc;
	measure_init(ret_measure);
	sent = json_figure(root, "sum_sent", "packets");
	received = json_figure(root, "sum_received", "packets") -
		   json_figure(root, "sum_received", "lost_packets");
	seconds = json_figure(root, "sum_received", "seconds");
	if (sent > 0 && seconds > 0)
		ret_measure->mbit_per_s = received / sent * json_figure(root, "sum_sent", "bytes") *
					  8 / seconds / 1e6;
	ret_measure->seconds = seconds;
	ret_measure->jitter_ms = json_figure(root, "sum_received", "jitter_ms");
	ret_measure->sent = (int64_t)sent;
	ret_measure->received = (int64_t)received;
	ret_measure->loss = sent > 0 ? 1 - received / sent : 1;
	ret_measure->said.port = iperf3_port(root);
	ret_measure->said.packets_sent = exactly((int64_t)sent + 1);
	ret_measure->said.payload_sent =
		exactly((int64_t)json_figure(root, "sum_sent", "bytes") + IPERF3_HELLO_BYTES);
	json_decref(root);
	return 0;
}

/* ---- curl ---- */

/* "<bytes> <seconds> <bytes of the answer's header> <bytes of the request> <port>" */
int measure_curl(const char *output, struct measure *ret_measure, struct haul_err *err)
{
	double figure[5];
	const char *at = output;

	for (size_t i = 0; i < sizeof figure / sizeof figure[0]; i++) {
		char *end;

		figure[i] = strtod(at, &end);
		if (end == at || figure[i] < 0 || (i == 1 && figure[i] <= 0))
			return haul_err_set(err, HAUL_ECORRUPT, "curl said no figures: %.*s",
					    (int)strcspn(output, "\n"), output);
		at = end;
	}
	measure_init(ret_measure);
	ret_measure->received = (int64_t)figure[0];
	ret_measure->seconds = figure[1];
	ret_measure->mbit_per_s = figure[0] * 8 / figure[1] / 1e6;
	ret_measure->said.port = (int32_t)figure[4];
	ret_measure->said.payload_received = exactly((int64_t)(figure[0] + figure[2]));
	ret_measure->said.payload_sent = exactly((int64_t)figure[3]);
	return 0;
}
