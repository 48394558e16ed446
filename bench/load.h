/* bench/load.h — bounded traffic between two namespaces, counted where it arrives.
 * Threads: each call starts its own and joins them. Blocking: for about the seconds given. */
#pragma once

#include <stdint.h>

#include <haul/err.h>

struct load_udp {
	int from_netns;
	int to_netns;
	const char *to_address; /* IPv4 text; the port is chosen by the kernel */
	uint32_t payload_bytes;
	uint32_t segments; /* datagrams a send: > 1 uses UDP_SEGMENT and a UDP_GRO receiver */
	double seconds;
};

/* Send as fast as the socket takes them; *ret_per_s is what was delivered a second. */
int load_udp_run(const struct load_udp *load, double *ret_per_s, struct haul_err *err);

/* One datagram at a time, answered at once, pausing between (so that all goes idle): round trips in
 * ns, sorted ascending in the caller's array. Returns how many were answered. */
struct load_echo {
	int from_netns;
	int to_netns;
	const char *to_address;
	uint32_t count; /* round trips wanted, room in the array */
	int64_t pause_ns;
};
int load_echo_run(const struct load_echo *load, int64_t *rtt_ns, struct haul_err *err);

/* iperf3 with one TCP stream, congestion control pinned to cubic. */
struct load_tcp {
	int from_netns;
	int to_netns;
	const char *to_address;
	double seconds;
};
int load_tcp_run(const struct load_tcp *load, double *ret_gbit_per_s, uint32_t *ret_retransmits,
		 struct haul_err *err);
