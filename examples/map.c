/* map — a BPF hash map filled in one call, walked in batches, summed up in the kernel.
 *
 *   cc map.c $(pkg-config --cflags --libs haul) && sudo ./a.out
 *
 * The library picks how: a program in the kernel, batch calls, or one call an entry where a type of
 * map has nothing better. haul_map_explain says which, and every result says what was done. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include <haul/haul.h>

enum { ENTRIES = 10000, BPF_HASH = 1 /* BPF_MAP_TYPE_HASH of <linux/bpf.h> */ };

struct key {
	uint32_t address, port;
};
struct value {
	uint64_t packets, bytes;
};

static struct key keys[ENTRIES];
static struct value values[ENTRIES];

/* A batch is two columns, keys and values; it holds until the visit returns. */
static int add_packets(const struct haul_map_batch *batch, void *arg)
{
	uint64_t *packets = arg;

	for (uint32_t i = 0; i < batch->count; i++)
		*packets += ((const struct value *)haul_map_value(batch, i))->packets;
	return 0; /* go on */
}

static int fill(struct haul_map *map)
{
	const struct haul_map_rows rows = { .count = ENTRIES, .keys = keys, .values = values };
	struct haul_map_result result;

	for (uint32_t i = 0; i < ENTRIES; i++) {
		keys[i] = (struct key){ .address = i, .port = 443 };
		values[i] = (struct value){ .packets = i % 10, .bytes = 100 * i };
	}
	if (haul_map_upsert(map, &rows, &result) < 0) {
		fprintf(stderr, "row %" PRId64 ": %s\n", result.failed_index,
			haul_strerror(result.reason));
		return -1;
	}
	printf("%" PRIu64 " inserted, %" PRIu64 " updated in %" PRIu64 " calls (%s)\n",
	       result.inserted, result.updated, result.calls, haul_map_engine_name(result.engine));
	return 0;
}

static int look(struct haul_map *map)
{
	uint64_t packets = 0, count = 0;
	struct haul_map_scan scan = { .check = true, .visit = add_packets, .arg = &packets };
	struct haul_map_report report;
	struct haul_map_result result;
	struct haul_map_aggregate sum = { .field = { .offset = 8, .width = 8 } };
	char why[HAUL_MAP_TEXT];

	if (haul_map_scan(map, &scan, &report) != 0 || haul_map_aggregate(map, &sum, &result) < 0 ||
	    haul_map_count(map, &count, &result) < 0)
		return -1;
	(void)haul_map_explain(map, HAUL_MAP_OP_SCAN, 0, why);
	printf("%" PRIu64 " entries, %" PRIu64 " packets; %" PRIu64 " seen twice\n", report.read,
	       packets, report.duplicates);
	printf("%" PRIu64 " bytes, at most %" PRIu64 " an entry; %" PRIu64 " entries counted\n",
	       sum.sum, sum.max, count);
	printf("a plain scan would go by %s\n", why);
	return 0;
}

int main(void)
{
	const struct haul_map_spec spec = {
		.name = "example",
		.type = BPF_HASH,
		.key_size = sizeof(struct key),
		.value_size = sizeof(struct value),
		.max_entries = 2 * ENTRIES,
	};
	struct haul_map *map = NULL;
	struct haul_err err = { 0 };
	int rc = haul_map_create(&map, &spec, NULL, &err);

	if (rc == -EPERM || rc == -ENOSYS) {
		printf("nothing done: %s\n", err.text);
		return 0;
	}
	if (rc < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	rc = fill(map);
	if (rc == 0)
		rc = look(map);
	haul_map_close(map);
	return rc == 0 ? 0 : 1;
}
