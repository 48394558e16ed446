/* sim/measure.h — what the programs that make the traffic say about it, as numbers.
 *
 * Model      Pure functions from a program's output to a struct measure. Nothing is taken from the
 *            scenario: what was configured cannot show up as measured.
 * Units      ms; Mbit/s of payload; loss as a share 0 … 1.
 * Threads    pure.
 * Errors     HAUL_ECORRUPT with text when the output is not what that program says when it has
 *            worked; its own complaint is quoted. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>

/* What a program says of its own connection, for comparison with what the node's table counted. A
 * range where the program cannot know: TCP data it gave to its kernel may never have left. */
struct measure_range {
	int64_t min;
	int64_t max; /* < 0 = nothing is said */
};
struct measure_said {
	int32_t port; /* of the client's end; -1 = not told */
	struct measure_range packets_sent;
	struct measure_range packets_received;
	struct measure_range payload_sent; /* bytes behind the TCP, UDP or IP header */
	struct measure_range payload_received;
};

/* A figure that a kind of traffic does not give is < 0. */
struct measure {
	double rtt_p50_ms;
	double rtt_p99_ms;
	double mbit_per_s; /* that arrived */
	double loss;
	double gap_ms; /* longest silence: between two answers, or from the last to the end */
	double jitter_ms;
	double seconds;
	int64_t sent; /* packets; http: bytes expected */
	int64_t received;
	int64_t retransmits;
	struct measure_said said;
};

void measure_init(struct measure *measure);
/* Of `ping -D`, which sent every interval_ms. */
int measure_ping(const char *output, uint32_t interval_ms, struct measure *ret_measure,
		 struct haul_err *err);
/* Of `iperf3 -J`. */
int measure_iperf3_tcp(const char *output, struct measure *ret_measure, struct haul_err *err);
int measure_iperf3_udp(const char *output, struct measure *ret_measure, struct haul_err *err);
/* Of `curl -w MEASURE_CURL_FORMAT`. */
#define MEASURE_CURL_FORMAT                                                                        \
	"%{size_download} %{time_total} %{size_header} %{size_request} %{local_port}\\n"
int measure_curl(const char *output, struct measure *ret_measure, struct haul_err *err);
