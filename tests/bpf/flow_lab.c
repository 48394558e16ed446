/* bpf/flow_lab.c — see flow_lab.h. */
#include "bpf/flow_lab.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpf/progs/flow_hash.h"
#include "bpf/sys.h"
#include "flow.skel.h"
#include "lib/testlib.h"

enum { DEFAULT_SHARDS = 4, DEFAULT_ENTRIES = 4096, ETHERNET = 14, VERDICT_NEXT = -1, PASS = 2 };
static const uint64_t second_ns = 1000000000;

static int make_shard(uint32_t entries)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "shard", sizeof(struct haul_flow_key),
				sizeof(struct haul_flow_value), entries, NULL);
	assert_true(fd >= 0);
	return fd;
}

static void configure(struct flow_lab *lab, const struct flow_lab_options *options)
{
	struct flow_config *config = &lab->config;
	config->salt = UINT64_C(0x123456789abcdef1);
	config->tick_ns = options->tick_ns;
	config->hold_ns = options->hold_ns;
	config->shard_mask = lab->shards - 1;
	config->l2_bytes = options->bare ? 0 : ETHERNET;
	config->tag_uncounted = options->tag_uncounted;
	for (uint32_t i = 0; i < HAUL_FLOW_STATES; i++)
		config->timeout_ns[i] =
			options->timeout_ns ? options->timeout_ns : (3600 + i) * second_ns;
}

void flow_lab_open(struct flow_lab *lab, const struct flow_lab_options *options)
{
	uint32_t entries = options->shard_entries ? options->shard_entries : DEFAULT_ENTRIES;
	memset(lab, 0, sizeof *lab);
	if (geteuid() != 0)
		test_skip("BPF needs root");
	lab->shards = options->shards ? options->shards : DEFAULT_SHARDS;
	assert_true(lab->shards <= FLOW_LAB_SHARDS);
	lab->cpus = libbpf_num_possible_cpus();
	assert_true(lab->cpus > 0);
	lab->programs = flow_bpf__open();
	assert_non_null(lab->programs);
	configure(lab, options);
	memcpy((void *)&lab->programs->rodata->flow_config, &lab->config, sizeof lab->config);
	int inner = bpf_map_create(BPF_MAP_TYPE_HASH, "shard", sizeof(struct haul_flow_key),
				   sizeof(struct haul_flow_value), entries, NULL);
	if (inner == -EPERM)
		test_skip("BPF is not permitted here");
	assert_true(inner >= 0);
	assert_int_equal(bpf_map__set_inner_map_fd(lab->programs->maps.shards, inner), 0);
	assert_int_equal(bpf_map__set_max_entries(lab->programs->maps.shards, lab->shards), 0);
	uint32_t ring = options->ring_bytes ? options->ring_bytes : (uint32_t)getpagesize();
	assert_int_equal(bpf_map__set_max_entries(lab->programs->maps.events, ring), 0);
	assert_int_equal(flow_bpf__load(lab->programs), 0);
	close(inner);
	for (uint32_t i = 0; i < lab->shards; i++) {
		lab->shard_fd[i] = make_shard(entries);
		assert_int_equal(bpf_map_update_elem(bpf_map__fd(lab->programs->maps.shards), &i,
						     &lab->shard_fd[i], BPF_ANY),
				 0);
	}
	lab->control = mmap(NULL, sizeof *lab->control, PROT_READ | PROT_WRITE, MAP_SHARED,
			    bpf_map__fd(lab->programs->maps.control), 0);
	assert_true(lab->control != MAP_FAILED);
}

void flow_lab_close(struct flow_lab *lab)
{
	if (lab->control)
		assert_int_equal(munmap(lab->control, sizeof *lab->control), 0);
	for (uint32_t i = 0; i < lab->shards; i++)
		close(lab->shard_fd[i]);
	flow_bpf__destroy(lab->programs);
	memset(lab, 0, sizeof *lab);
}

static struct bpf_program *program(const struct flow_lab *lab, enum flow_lab_hook hook)
{
	if (hook == FLOW_LAB_XDP)
		return lab->programs->progs.flow_xdp;
	return hook == FLOW_LAB_EGRESS ? lab->programs->progs.flow_egress
				       : lab->programs->progs.flow_ingress;
}

void flow_lab_run(const struct flow_lab *lab, enum flow_lab_hook hook,
		  const struct packet_frame *frame, const struct flow_gso *gso, int repeat)
{
	struct __sk_buff skb = { .gso_segs = gso ? gso->segs : 0,
				 .gso_size = gso ? gso->size : 0,
				 .wire_len = gso ? gso->wire_len : 0 };
	bool xdp = hook == FLOW_LAB_XDP;
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame->data, .data_size_in = frame->bytes,
		    .repeat = repeat);
	assert_true(!xdp || !gso);
	if (gso) {
		run.ctx_in = &skb;
		run.ctx_size_in = sizeof skb;
	}
	assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(program(lab, hook)), &run), 0);
	assert_int_equal((int)run.retval, xdp ? PASS : VERDICT_NEXT);
}

void flow_lab_send(const struct flow_lab *lab, struct flow_model *model,
		   const struct packet *packet)
{
	static const struct flow_gso none;
	struct packet_frame frame;
	packet_build(packet, &frame);
	flow_lab_run(lab, FLOW_LAB_INGRESS, &frame, NULL, 1);
	if (model)
		flow_model_count(model, packet, &frame, &none);
}

void flow_lab_start(const struct flow_lab *lab)
{
	uint8_t nothing[64] = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = nothing, .data_size_in = sizeof nothing);
	int fd = bpf_program__fd(lab->programs->progs.flow_start);
	assert_int_equal(bpf_prog_test_run_opts(fd, &run), 0);
	assert_int_equal(run.retval, 0);
}

void flow_lab_sweep(const struct flow_lab *lab, struct flow_sweep_args *args)
{
	int fd = bpf_program__fd(lab->programs->progs.flow_sweep);
	args->visited = args->marked = args->removed = args->held = 0;
	for (uint32_t i = 0; i < lab->shards; i++) {
		struct flow_sweep_args one = *args;
		LIBBPF_OPTS(bpf_test_run_opts, run, .ctx_in = &one, .ctx_size_in = sizeof one);
		one.shard = i;
		assert_int_equal(bpf_prog_test_run_opts(fd, &run), 0);
		assert_int_equal(run.retval, 0);
		args->visited += one.visited;
		args->marked += one.marked;
		args->removed += one.removed;
		args->held += one.held;
	}
}

void flow_lab_totals(const struct flow_lab *lab, uint64_t ret_totals[HAUL_FLOW_TOTALS])
{
	size_t bytes = sizeof(uint64_t) * HAUL_FLOW_TOTALS;
	uint64_t *cpus = calloc((size_t)lab->cpus, bytes);
	uint32_t zero = 0;
	assert_non_null(cpus);
	assert_int_equal(bpf_map_lookup_elem(bpf_map__fd(lab->programs->maps.totals), &zero, cpus),
			 0);
	memset(ret_totals, 0, bytes);
	for (int cpu = 0; cpu < lab->cpus; cpu++) {
		for (int i = 0; i < HAUL_FLOW_TOTALS; i++)
			ret_totals[i] += cpus[cpu * HAUL_FLOW_TOTALS + i];
	}
	free(cpus);
}

uint64_t flow_lab_total(const struct flow_lab *lab, enum haul_flow_total total)
{
	uint64_t totals[HAUL_FLOW_TOTALS];
	flow_lab_totals(lab, totals);
	return totals[total];
}

static uint32_t shard_of(const struct flow_lab *lab, const struct haul_flow_key *key)
{
	return flow_shard(key, lab->config.salt, lab->config.shard_mask);
}

uint32_t flow_lab_entries(const struct flow_lab *lab, struct flow_lab_entry *ret_entries,
			  uint32_t entries_max)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < lab->shards; i++) {
		struct haul_flow_key key;
		const void *from = NULL;
		while (bpf_map_get_next_key(lab->shard_fd[i], from, &key) == 0) {
			assert_true(count < entries_max);
			assert_int_equal(shard_of(lab, &key), i);
			ret_entries[count].key = key;
			assert_int_equal(bpf_map_lookup_elem(lab->shard_fd[i], &key,
							     &ret_entries[count].value),
					 0);
			from = &ret_entries[count++].key;
		}
	}
	return count;
}

struct haul_flow_value flow_lab_only(const struct flow_lab *lab)
{
	struct flow_lab_entry entries[2];
	assert_int_equal(flow_lab_entries(lab, entries, 2), 1);
	return entries[0].value;
}

bool flow_lab_get(const struct flow_lab *lab, const struct haul_flow_key *key,
		  struct haul_flow_value *ret_value)
{
	return bpf_map_lookup_elem(lab->shard_fd[shard_of(lab, key)], key, ret_value) == 0;
}

void flow_lab_put(const struct flow_lab *lab, const struct haul_flow_key *key,
		  const struct haul_flow_value *value)
{
	int fd = lab->shard_fd[shard_of(lab, key)];
	assert_int_equal(bpf_map_update_elem(fd, key, value, BPF_ANY), 0);
}

static struct flow_lab_entry *all_entries(const struct flow_lab *lab, uint32_t *ret_count)
{
	struct flow_lab_entry *entries = calloc(FLOW_MODEL_ENTRIES, sizeof *entries);
	assert_non_null(entries);
	*ret_count = flow_lab_entries(lab, entries, FLOW_MODEL_ENTRIES);
	return entries;
}

void flow_lab_balance(const struct flow_lab *lab)
{
	uint64_t totals[HAUL_FLOW_TOTALS], packets = 0, bytes = 0;
	uint32_t count;
	struct flow_lab_entry *entries = all_entries(lab, &count);
	flow_lab_totals(lab, totals);
	for (uint32_t i = 0; i < count; i++) {
		packets += entries[i].value.packets[0] + entries[i].value.packets[1];
		bytes += entries[i].value.bytes[0] + entries[i].value.bytes[1];
	}
	free(entries);
	assert_int_equal(totals[HAUL_FLOW_T_PACKETS], packets + totals[HAUL_FLOW_T_OVERFLOW] +
							      totals[HAUL_FLOW_T_LATE] +
							      totals[HAUL_FLOW_T_REMOVED]);
	assert_int_equal(totals[HAUL_FLOW_T_BYTES], bytes + totals[HAUL_FLOW_T_OVERFLOW_BYTES] +
							    totals[HAUL_FLOW_T_LATE_BYTES] +
							    totals[HAUL_FLOW_T_REMOVED_BYTES]);
	assert_int_equal(totals[HAUL_FLOW_T_OPENED], count + totals[HAUL_FLOW_T_CLOSED]);
	assert_int_equal(totals[HAUL_FLOW_T_CLOSED],
			 totals[HAUL_FLOW_T_REPORTED] + totals[HAUL_FLOW_T_UNREPORTED]);
}

void flow_lab_compare(const struct flow_lab *lab, struct flow_model *model)
{
	uint64_t totals[HAUL_FLOW_TOTALS];
	uint32_t count;
	struct flow_lab_entry *entries = all_entries(lab, &count);
	assert_int_equal(count, model->count);
	for (uint32_t i = 0; i < count; i++) {
		const struct flow_model_entry *entry = flow_model_find(model, &entries[i].key);
		assert_non_null(entry);
		flow_model_compare(entry, &entries[i].value);
	}
	free(entries);
	flow_lab_totals(lab, totals);
	for (int i = 0; i < HAUL_FLOW_TOTALS; i++) {
		if (totals[i] != model->totals[i])
			fail_msg("total %d: %llu, not %llu", i, (unsigned long long)totals[i],
				 (unsigned long long)model->totals[i]);
	}
	flow_lab_balance(lab);
}
