/* What is in a table: queries, rows by key, put, summary, files; against figures made up here. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bpf/flow_group.h"
#include "lib/testlib.h"

enum { ROWS = 6000, SECOND = 1000000000 };

struct sample {
	struct haul_flow_key key[ROWS];
	struct haul_flow_value value[ROWS];
	int status[ROWS];
};

/* Entries that differ in all that queries and summaries look at; states that last. */
static void sample_fill(struct sample *sample, struct prng *prng, uint64_t now_ns)
{
	static const uint8_t protos[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_SCTP };

	memset(sample, 0, sizeof *sample);
	for (uint32_t i = 0; i < ROWS; i++) {
		struct haul_flow_key *key = &sample->key[i];
		struct haul_flow_value *value = &sample->value[i];
		*key = flow_net_key(protos[i % 4], (uint16_t)(1024 + i), (uint16_t)(i % 97));
		key->addr_hi[13] = (uint8_t)(i % 5);
		value->packets[0] = 1 + prng_next(prng) % 1000;
		value->packets[1] = prng_next(prng) % 1000;
		value->bytes[0] = value->packets[0] * 100;
		value->bytes[1] = value->packets[1] * 1500;
		value->last_ns = now_ns - prng_next(prng) % (20ULL * SECOND);
		value->first_ns = value->last_ns - SECOND;
		value->state = (uint8_t)(i % 6);
		value->initiator = i % 2;
		value->ifindex = i;
	}
}

static struct sample *sample_new(struct haul_flows *flows)
{
	struct sample *sample = malloc(sizeof *sample);
	struct prng prng;

	assert_non_null(sample);
	test_prng(&prng);
	sample_fill(sample, &prng, (uint64_t)flows->env.os->now_ns(flows->env.os));
	return sample;
}

static struct haul_map_rows rows_of(struct sample *sample)
{
	return (struct haul_map_rows){ .count = ROWS,
				       .keys = sample->key,
				       .values = sample->value,
				       .status = sample->status };
}

/* A table with the sample in it. */
static struct haul_flows *filled(struct sample **ret_sample)
{
	struct haul_flows_options options = { .entries_max = 8192, .shards = 8 };
	struct haul_flows *flows = flow_net_flows(&net, 0, &options);
	struct haul_map_result result;

	*ret_sample = sample_new(flows);
	struct haul_map_rows rows = rows_of(*ret_sample);
	assert_int_equal(haul_flows_put(flows, &rows, &result), 0);
	assert_int_equal(result.done, ROWS);
	assert_int_equal(result.inserted, ROWS);
	assert_int_equal(result.failed_index, -1);
	return flows;
}

struct seen {
	struct sample *sample;
	const struct haul_flow_query *query;
	uint64_t count;
	uint64_t stop_after;
};

static bool same(const uint8_t *a, const uint8_t *b, int bits)
{
	for (int bit = 0; bit < bits; bit++)
		if ((a[bit / 8] ^ b[bit / 8]) & 0x80 >> bit % 8)
			return false;
	return true;
}

/* What a query means, said in other words than the library's. */
static bool wanted(const struct haul_flow_query *q, const struct haul_flow_key *key,
		   const struct haul_flow_value *value)
{
	return (!q->proto || key->proto == q->proto) &&
	       (!q->port || key->port_lo == q->port || key->port_hi == q->port) &&
	       (!q->addr_prefix || same(key->addr_lo, q->addr, q->addr_prefix) ||
		same(key->addr_hi, q->addr, q->addr_prefix)) &&
	       (!q->states || q->states >> value->state & 1) &&
	       value->bytes[0] + value->bytes[1] >= q->bytes_min &&
	       value->last_ns >= q->seen_since_ns &&
	       (!q->idle_since_ns || value->last_ns < q->idle_since_ns);
}

static int seen_visit(const struct haul_map_batch *batch, void *arg)
{
	struct seen *seen = arg;

	for (uint32_t i = 0; i < batch->count; i++) {
		struct haul_flow_value value;
		memcpy(&value, haul_map_value(batch, i), sizeof value);
		/* Ours bear their index; the kernel's own chatter does not match a key. */
		uint32_t at = value.ifindex;
		if (at >= ROWS || memcmp(haul_map_key(batch, i), &seen->sample->key[at], 40) != 0)
			continue;
		assert_int_equal(seen->sample->status[at], 0);
		seen->sample->status[at] = 1;
		assert_memory_equal(&value, &seen->sample->value[at], sizeof value);
		assert_true(wanted(seen->query, &seen->sample->key[at], &value));
		seen->count++;
	}
	return seen->stop_after && seen->count >= seen->stop_after ? 7 : 0;
}

static void query_check(struct haul_flows *flows, struct sample *sample,
			const struct haul_flow_query *query)
{
	struct seen seen = { .sample = sample, .query = query };
	struct haul_map_report report;
	uint64_t expected = 0;

	memset(sample->status, 0, sizeof sample->status);
	assert_int_equal(haul_flows_scan(flows, query, seen_visit, &seen, &report), 0);
	for (uint32_t i = 0; i < ROWS; i++)
		expected += wanted(query, &sample->key[i], &sample->value[i]);
	assert_int_equal(seen.count, expected);
	assert_true(report.matched >= expected);
	assert_true(report.read >= ROWS);
	assert_true(report.expected >= ROWS);
	assert_int_equal(report.engine, HAUL_MAP_BATCH);
}

/* Each condition alone, and all of them together, pass what they should, whole and once. */
static void test_scan__obeys_queries(void **state)
{
	struct sample *sample;
	struct haul_flows *flows = filled(&sample);
	uint64_t now_ns = (uint64_t)flows->env.os->now_ns(flows->env.os);
	struct haul_flow_query q;
	(void)state;

	q = (struct haul_flow_query){ 0 };
	query_check(flows, sample, &q);
	q = (struct haul_flow_query){ .proto = IPPROTO_UDP };
	query_check(flows, sample, &q);
	q = (struct haul_flow_query){ .port = 1024 + 77 };
	query_check(flows, sample, &q);
	q = (struct haul_flow_query){ .port = 53 };
	query_check(flows, sample, &q);
	q = (struct haul_flow_query){ .states = 1U << 3 };
	query_check(flows, sample, &q);
	q = (struct haul_flow_query){ .states = 1U << 3 | 1U << 5 };
	query_check(flows, sample, &q);
	q = (struct haul_flow_query){ .bytes_min = 800000 };
	query_check(flows, sample, &q);
	q = (struct haul_flow_query){ .seen_since_ns = now_ns - 5ULL * SECOND };
	query_check(flows, sample, &q);
	q = (struct haul_flow_query){ .idle_since_ns = now_ns - 5ULL * SECOND };
	query_check(flows, sample, &q);
	for (uint8_t prefix = 96; prefix <= 128; prefix++) {
		q = (struct haul_flow_query){ .addr_prefix = prefix };
		memcpy(q.addr, sample->key[3].addr_hi, sizeof q.addr);
		query_check(flows, sample, &q);
	}
	q.proto = IPPROTO_SCTP;
	q.states = 0x3f;
	q.seen_since_ns = now_ns - 15ULL * SECOND;
	q.bytes_min = 1000;
	query_check(flows, sample, &q);
	free(sample);
	haul_flows_close(flows);
}

static int never(const struct haul_map_batch *batch, void *arg)
{
	(void)batch;
	(void)arg;
	fail_msg("visited");
	return 0;
}

/* A visit ends the walk with its own value; an impossible prefix is refused. */
static void test_scan__stops_and_refuses(void **state)
{
	const struct haul_flow_query any = { .bytes_min = 1 }, wrong = { .addr_prefix = 129 };
	struct sample *sample;
	struct haul_flows *flows = filled(&sample);
	struct seen seen = { .sample = sample, .query = &any, .stop_after = 1 };
	(void)state;

	memset(sample->status, 0, sizeof sample->status);
	assert_int_equal(haul_flows_scan(flows, NULL, seen_visit, &seen, NULL), 7);
	assert_true(seen.count < ROWS);
	seen.count = 0;
	memset(sample->status, 0, sizeof sample->status);
	assert_int_equal(haul_flows_scan(flows, &any, seen_visit, &seen, NULL), 7);
	assert_true(seen.count < ROWS);
	assert_int_equal(haul_flows_scan(flows, &wrong, never, NULL, NULL), -EINVAL);
	free(sample);
	haul_flows_close(flows);
}

/* Rows find their shard by the same hash as packets do; missing ones are told, nothing else is
 * touched. */
static void test_get__finds_what_was_put(void **state)
{
	struct sample *sample;
	struct haul_flows *flows = filled(&sample);
	struct sample *got = calloc(1, sizeof *got);
	struct haul_map_rows rows = rows_of(got);
	struct haul_map_result result;
	(void)state;

	assert_non_null(got);
	memcpy(got->key, sample->key, sizeof got->key);
	for (uint32_t i = 0; i < ROWS; i += 10)
		got->key[i].vlan_inner = 5;
	assert_int_equal(haul_flows_get(flows, &rows, &result), 0);
	assert_int_equal(result.done, ROWS - ROWS / 10);
	assert_int_equal(result.missing, ROWS / 10);
	assert_int_equal(result.failed_index, -1);
	for (uint32_t i = 0; i < ROWS; i++) {
		static const struct haul_flow_value zero;
		assert_int_equal(got->status[i], i % 10 ? 0 : -ENOENT);
		assert_memory_equal(&got->value[i], i % 10 ? &sample->value[i] : &zero,
				    sizeof zero);
	}
	free(got);
	free(sample);
	haul_flows_close(flows);
}

/* The program in the kernel and the library agree on every packet's shard. */
static void test_get__finds_what_the_kernel_counted(void **state)
{
	struct haul_flows_options options = { .entries_max = 8192, .shards = 64 };
	struct haul_flows *flows = flow_net_flows(&net, 0, &options);
	int fd = flow_net_socket(&net, 1, SOCK_DGRAM, false, 0);
	uint16_t from = flow_net_port(fd);
	(void)state;

	for (uint16_t port = 1; port <= 500; port++) {
		struct haul_flow_key key = flow_net_key(IPPROTO_UDP, port, from);
		struct haul_flow_value value;
		struct haul_map_rows rows = { .count = 1, .keys = &key, .values = &value };
		struct haul_map_result result;
		flow_net_udp(fd, 0, port, 1, 20);
		assert_int_equal(haul_flows_get(flows, &rows, &result), 0);
		assert_int_equal(result.done, 1);
		assert_int_equal(value.packets[1], 1);
		assert_int_equal(value.bytes[1], 14 + 20 + 8 + 20);
		assert_int_equal(value.payload[1], 20);
		assert_int_equal(value.initiator, HAUL_FLOW_INITIATOR_HI);
	}
	close(fd);
	flow_net_balance(flows);
	haul_flows_close(flows);
}

/* Put counts what it adds, replaces what is there, and the totals go on to add up. */
static void test_put__keeps_the_balance(void **state)
{
	struct sample *sample;
	struct haul_flows *flows = filled(&sample);
	struct haul_map_rows rows = rows_of(sample);
	struct haul_map_result result;
	uint64_t opened = flow_net_total(flows, HAUL_FLOW_T_OPENED);
	(void)state;

	flow_net_balance(flows);
	for (uint32_t i = 0; i < ROWS; i += 2) {
		sample->value[i].packets[0] = i;
		sample->value[i].bytes[1] = 3;
	}
	assert_int_equal(haul_flows_put(flows, &rows, &result), 0);
	assert_int_equal(result.updated, ROWS);
	assert_int_equal(result.inserted, 0);
	assert_int_equal(result.kept, 0);
	flow_net_balance(flows);
	assert_int_equal(flow_put(flows, &rows, HAUL_MAP_ONLY_NEW, &result), 0);
	assert_int_equal(result.kept, ROWS);
	assert_int_equal(result.done, 0);
	for (uint32_t i = 0; i < ROWS; i++)
		assert_int_equal(sample->status[i], -EEXIST);
	flow_net_balance(flows);
	assert_true(flow_net_total(flows, HAUL_FLOW_T_OPENED) < opened + ROWS);
	free(sample);
	haul_flows_close(flows);
}

/* Marks of an old sweep, times of another boot and states of another version do not come in. */
static void test_put__makes_entries_fit(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL);
	struct haul_flow_key key = flow_net_key(IPPROTO_UDP, 5, 6);
	struct haul_flow_value value = { .last_ns = UINT64_MAX,
					 .first_ns = UINT64_MAX,
					 .life = HAUL_FLOW_DEAD,
					 .state = HAUL_FLOW_STATES };
	struct haul_map_rows rows = { .count = 1, .keys = &key, .values = &value };
	struct haul_map_result result;
	(void)state;

	assert_int_equal(haul_flows_put(flows, &rows, &result), 0);
	assert_int_equal(haul_flows_get(flows, &rows, &result), 0);
	assert_int_equal(value.life, HAUL_FLOW_LIVE);
	assert_int_equal(value.state, HAUL_FLOW_NEW);
	assert_true(value.last_ns <= (uint64_t)flows->env.os->now_ns(flows->env.os));
	assert_int_equal(value.first_ns, value.last_ns);
	haul_flows_close(flows);
}

/* A full table refuses rows one by one, counts packets as overflow, and stays in balance. */
static void test_put__tells_a_full_table(void **state)
{
	enum { ROOM = 64, SENT = 100 };
	struct haul_flows_options options = { .entries_max = ROOM, .shards = 1 };
	struct haul_flows *flows = flow_net_flows(&net, 0, &options);
	struct sample *sample = sample_new(flows);
	struct haul_map_rows rows = rows_of(sample);
	struct haul_map_result result;
	uint64_t overflow;
	int fd = flow_net_socket(&net, 1, SOCK_DGRAM, false, 0);
	(void)state;

	rows.count = SENT;
	assert_int_equal(haul_flows_put(flows, &rows, &result), -E2BIG);
	assert_int_equal(result.reason, -E2BIG);
	assert_true(result.done <= ROOM);
	assert_int_equal(sample->status[result.failed_index], -E2BIG);
	assert_int_equal(sample->status[SENT - 1], -ECANCELED);
	overflow = flow_net_total(flows, HAUL_FLOW_T_OVERFLOW);
	flow_net_udp(fd, 0, 9, 1, 20);
	flow_net_udp(fd, 0, 10, 3, 20);
	assert_true(flow_net_total(flows, HAUL_FLOW_T_OVERFLOW) >= overflow + 3);
	flow_net_balance(flows);
	close(fd);
	free(sample);
	haul_flows_close(flows);
}

/* The summary's sums are those of the sample; the service is the end that did not begin. */
static void test_summary__adds_up(void **state)
{
	struct haul_flows *flows = flow_net_flows(&net, 0, NULL);
	struct haul_flows_summary *summary = calloc(1, sizeof *summary);
	const struct haul_flow_query mine = { .proto = IPPROTO_UDP };
	const struct haul_flow_query none = { .proto = 253 };
	struct haul_flow_key keys[3] = { flow_net_key(IPPROTO_UDP, 4000, 53),
					 flow_net_key(IPPROTO_UDP, 4001, 53),
					 flow_net_key(IPPROTO_UDP, 123, 4002) };
	struct haul_flow_value values[3] = {
		{ .packets = { 1, 2 }, .bytes = { 10, 20 }, .state = HAUL_FLOW_REPLIED },
		{ .packets = { 3, 0 }, .bytes = { 30, 0 } },
		{ .packets = { 5, 1 }, .bytes = { 50, 10 }, .initiator = HAUL_FLOW_INITIATOR_HI },
	};
	struct haul_map_rows rows = { .count = 3, .keys = keys, .values = values };
	struct haul_map_result result;
	(void)state;

	assert_non_null(summary);
	assert_int_equal(haul_flows_put(flows, &rows, &result), 0);
	assert_int_equal(haul_flows_summary(flows, &mine, summary), 0);
	assert_int_equal(summary->all.connections, 3);
	assert_int_equal(summary->all.packets, 12);
	assert_int_equal(summary->all.bytes, 120);
	assert_true(summary->packets_mean == 4.0);
	assert_true(summary->bytes_mean == 40.0);
	assert_int_equal(summary->by_proto[IPPROTO_UDP].connections, 3);
	assert_int_equal(summary->by_state[HAUL_FLOW_REPLIED].packets, 3);
	assert_int_equal(summary->by_state[HAUL_FLOW_NEW].bytes, 90);
	assert_int_equal(summary->port_count, 2);
	assert_int_equal(summary->by_port[0].port, 53);
	assert_int_equal(summary->by_port[0].proto, IPPROTO_UDP);
	assert_int_equal(summary->by_port[0].group.connections, 2);
	assert_int_equal(summary->by_port[1].port, 123);
	assert_int_equal(summary->by_port[1].group.bytes, 60);
	assert_int_equal(haul_flows_summary(flows, &none, summary), 0);
	assert_int_equal(summary->all.connections, 0);
	assert_true(summary->bytes_mean == 0.0);
	free(summary);
	haul_flows_close(flows);
}

/* More services than are listed: the largest are, the others are one sum, nothing is lost. */
static void test_summary__bounds_its_ports(void **state)
{
	struct sample *sample;
	struct haul_flows *flows = filled(&sample);
	struct haul_flows_summary *summary = calloc(1, sizeof *summary);
	struct haul_flow_group sum = { 0 };
	struct haul_map_result result;
	struct haul_map_rows rows = rows_of(sample);
	(void)state;

	assert_non_null(summary);
	for (uint32_t i = 0; i < ROWS; i++) {
		sample->key[i] = flow_net_key(IPPROTO_TCP, 1, (uint16_t)(20000 + i));
		sample->value[i] =
			(struct haul_flow_value){ .packets = { 1, 0 }, .bytes = { 1 + i, 0 } };
	}
	rows.count = 2000; /* what else there is has thousands of ports, too */
	assert_int_equal(haul_flows_put(flows, &rows, &result), 0);
	assert_int_equal(haul_flows_summary(flows, NULL, summary), 0);
	assert_int_equal(summary->port_count, HAUL_FLOW_SUMMARY_PORTS);
	assert_true(summary->other_ports.connections > 0);
	sum = summary->other_ports;
	for (uint32_t i = 0; i < summary->port_count; i++) {
		sum.connections += summary->by_port[i].group.connections;
		sum.bytes += summary->by_port[i].group.bytes;
		if (i > 0)
			assert_true(summary->by_port[i - 1].group.bytes >=
				    summary->by_port[i].group.bytes);
	}
	assert_int_equal(sum.connections, summary->by_proto[IPPROTO_TCP].connections +
						  summary->by_proto[IPPROTO_UDP].connections +
						  summary->by_proto[IPPROTO_SCTP].connections);
	assert_int_equal(sum.bytes, summary->by_proto[IPPROTO_TCP].bytes +
					    summary->by_proto[IPPROTO_UDP].bytes +
					    summary->by_proto[IPPROTO_SCTP].bytes);
	free(summary);
	free(sample);
	haul_flows_close(flows);
}

static void import_of(struct haul_flows *flows, const char *path, enum haul_map_import_mode mode,
		      struct haul_map_file_report *report)
{
	const struct haul_map_import options = { .mode = mode };
	struct haul_err err = { 0 };
	if (haul_flows_import(flows, path, &options, report, &err) < 0)
		fail_msg("%s", err.text);
}

/* A table goes through a file into another one, with another salt and another number of shards. */
static void test_import__gives_what_was_exported(void **state)
{
	struct haul_flows_options options = { .entries_max = 8192, .shards = 2 };
	struct sample *sample;
	struct haul_flows *from = filled(&sample), *to = flow_net_flows(&net, 1, &options);
	const struct haul_flow_query all = { 0 };
	struct haul_map_file_report report;
	struct haul_err err = { 0 };
	char path[128];
	uint64_t count;
	(void)state;

	(void)snprintf(path, sizeof path, "%s.export", net.folder);
	if (haul_flows_export(from, path, NULL, &report, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(report.entries >= ROWS);
	count = report.entries;
	import_of(to, path, HAUL_MAP_IMPORT_MERGE, &report);
	assert_int_equal(report.entries, count);
	query_check(to, sample, &all);
	flow_net_balance(to);
	import_of(to, path, HAUL_MAP_IMPORT_ONLY_NEW, &report);
	assert_int_equal(report.inserted, 0);
	assert_int_equal(report.unchanged, count);
	import_of(to, path, HAUL_MAP_IMPORT_REPLACE, &report);
	assert_true(report.deleted >= count);
	assert_int_equal(report.inserted + report.updated, count);
	query_check(to, sample, &all);
	flow_net_balance(to);
	assert_int_equal(haul_flows_export(from, path, NULL, &report, &err), -EEXIST);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(haul_flows_import(to, path, NULL, &report, &err), -ENOENT);
	free(sample);
	haul_flows_close(from);
	haul_flows_close(to);
}

/* A file of other maps is refused, and one that does not fit says how far it came. */
static void test_import__refuses_what_does_not_fit(void **state)
{
	struct haul_flows_options options = { .entries_max = 16, .shards = 1 };
	struct sample *sample;
	struct haul_flows *from = filled(&sample), *to = flow_net_flows(&net, 1, &options);
	const struct haul_map_spec spec = {
		.name = "other", .type = 1, .key_size = 4, .value_size = 8, .max_entries = 4
	};
	struct haul_map *other = NULL;
	struct haul_err err = { 0 };
	char path[128];
	(void)state;

	(void)snprintf(path, sizeof path, "%s.export", net.folder);
	assert_int_equal(haul_map_create(&other, &spec, NULL, &err), 0);
	assert_int_equal(haul_map_export(&other, 1, path, NULL, NULL, &err), 0);
	haul_map_close(other);
	assert_int_equal(haul_flows_import(to, path, NULL, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "keys of 4 and values of 8 bytes"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(haul_flows_export(from, path, NULL, NULL, &err), 0);
	assert_int_equal(haul_flows_import(to, path, NULL, NULL, &err), HAUL_EFULL);
	assert_non_null(strstr(err.text, "the table is full after"));
	flow_net_balance(to);
	assert_int_equal(unlink(path), 0);
	free(sample);
	haul_flows_close(from);
	haul_flows_close(to);
}

/* The block has the totals as its counters, up to date whenever it is shown. */
static void test_stats__shows_the_totals(void **state)
{
	struct sample *sample;
	struct haul_flows *flows = filled(&sample);
	struct haul_stats *stats = haul_flows_stats(flows);
	const struct haul_flow_query all = { 0 };
	(void)state;

	assert_string_equal(stats->name, "flows.veth0");
	assert_int_equal(stats->counter_count, HAUL_FLOW_TOTALS);
	assert_string_equal(stats->counters[HAUL_FLOW_T_OPENED].name, "opened");
	stats->refresh(stats);
	assert_true(stats->extra[HAUL_FLOW_T_OPENED] >= ROWS);
	query_check(flows, sample, &all);
	assert_true(stats->ops >= ROWS);
	assert_int_equal(stats->batches, 1);
	assert_true(haul_flows_info(flows)->memory_bytes > 8192 * sizeof(struct haul_flow_value));
	free(sample);
	haul_flows_close(flows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan__obeys_queries),
		cmocka_unit_test(test_scan__stops_and_refuses),
		cmocka_unit_test(test_get__finds_what_was_put),
		cmocka_unit_test(test_get__finds_what_the_kernel_counted),
		cmocka_unit_test(test_put__keeps_the_balance),
		cmocka_unit_test(test_put__makes_entries_fit),
		cmocka_unit_test(test_put__tells_a_full_table),
		cmocka_unit_test(test_summary__adds_up),
		cmocka_unit_test(test_summary__bounds_its_ports),
		cmocka_unit_test(test_import__gives_what_was_exported),
		cmocka_unit_test(test_import__refuses_what_does_not_fit),
		cmocka_unit_test(test_stats__shows_the_totals),
	};
	return cmocka_run_group_tests(tests, group_open, group_close);
}
