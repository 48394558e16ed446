/* bpf/flow_lab.h — the connection table's programs without an interface: packets go in by
 * PROG_TEST_RUN, entries and totals come out. All calls fail the test when they cannot do it;
 * flow_lab_open skips it (77) without privilege. */
#pragma once

#include <haul/flow_record.h>
#include "bpf/flow_model.h"
#include "bpf/packet.h"
#include "bpf/progs/flow_prog.h"

enum flow_lab_hook { FLOW_LAB_INGRESS, FLOW_LAB_EGRESS, FLOW_LAB_XDP, FLOW_LAB_HOOKS };
enum { FLOW_LAB_SHARDS = 16 };

struct flow_lab {
	struct flow_bpf *programs;
	struct flow_config config;
	struct flow_control *control;
	uint32_t shards;
	int shard_fd[FLOW_LAB_SHARDS];
	int cpus;
};

struct flow_lab_options {
	uint32_t shards;        /* 0 = 4 */
	uint32_t shard_entries; /* 0 = 4096 */
	uint32_t ring_bytes;    /* 0 = one page */
	bool bare;              /* frames without Ethernet header */
	bool tag_uncounted;     /* as in flow_config */
	uint64_t tick_ns;       /* 0 = no timer */
	uint64_t hold_ns;
	uint64_t timeout_ns; /* of all states; 0 = an hour, and so many more seconds as the state's
			      * number */
};

void flow_lab_open(struct flow_lab *lab, const struct flow_lab_options *options);
void flow_lab_close(struct flow_lab *lab);

/* Hand a frame to a program, repeat times; the verdict must be "next". */
void flow_lab_run(const struct flow_lab *lab, enum flow_lab_hook hook,
		  const struct packet_frame *frame, const struct flow_gso *gso, int repeat);
/* Build the packet, hand it to the program on ingress, and to the model (NULL: none). */
void flow_lab_send(const struct flow_lab *lab, struct flow_model *model,
		   const struct packet *packet);
void flow_lab_start(const struct flow_lab *lab);
/* args.shard is ignored: all of them. Out-fields are sums. */
void flow_lab_sweep(const struct flow_lab *lab, struct flow_sweep_args *args);

void flow_lab_totals(const struct flow_lab *lab, uint64_t ret_totals[HAUL_FLOW_TOTALS]);
uint64_t flow_lab_total(const struct flow_lab *lab, enum haul_flow_total total);
struct flow_lab_entry {
	struct haul_flow_key key;
	struct haul_flow_value value;
};
/* All entries; each must be in the shard of its key. Returns how many. */
uint32_t flow_lab_entries(const struct flow_lab *lab, struct flow_lab_entry *ret_entries,
			  uint32_t entries_max);
/* The only entry there is. */
struct haul_flow_value flow_lab_only(const struct flow_lab *lab);
bool flow_lab_get(const struct flow_lab *lab, const struct haul_flow_key *key,
		  struct haul_flow_value *ret_value);
/* Change an entry by hand. */
void flow_lab_put(const struct flow_lab *lab, const struct haul_flow_key *key,
		  const struct haul_flow_value *value);

/* What passed is what is in the table, or in a total that says why not. */
void flow_lab_balance(const struct flow_lab *lab);
/* Every entry and every total as in the model, nothing else, and the balance. */
void flow_lab_compare(const struct flow_lab *lab, struct flow_model *model);
