#include "map_table.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/prng.h"
#include "bpf/sys.h"

enum { CALL_ENTRIES = 4096, INDEX_MAX = 1 << 24 };

void map_table_key(uint32_t index, struct haul_flow_key *ret_key)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	HAUL_ASSERT(index < INDEX_MAX);
	uint64_t mixed = hash_u64(index + 1);
	*ret_key = (struct haul_flow_key){ .port_lo = (uint16_t)(1024 + mixed % 60000),
					   .port_hi = 443,
					   .proto = IPPROTO_TCP };
	memcpy(ret_key->addr_lo, mapped, sizeof mapped);
	memcpy(ret_key->addr_hi, mapped, sizeof mapped);
	be32_store(ret_key->addr_lo + 12, UINT32_C(10) << 24 | index);
	be32_store(ret_key->addr_hi + 12, 0xc0a80000 | (uint32_t)(mixed >> 48));
}

void map_table_value(uint32_t index, struct haul_flow_value *ret_value)
{
	*ret_value = (struct haul_flow_value){
		.packets = { 1 + index % 1000, 1 },
		.bytes = { MAP_TABLE_BYTES_BASE + index, MAP_TABLE_BYTES_BASE },
		.first_ns = 1,
		.last_ns = index,
		.state = HAUL_FLOW_ESTABLISHED,
	};
}

int map_table_create(const char *name, uint32_t max_entries, struct haul_err *err)
{
	struct bpf_sys *sys = bpf_sys_linux();
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.map_type = BPF_MAP_TYPE_HASH;
	attr.key_size = sizeof(struct haul_flow_key);
	attr.value_size = sizeof(struct haul_flow_value);
	attr.max_entries = max_entries;
	HAUL_ASSERT(strlen(name) < sizeof attr.map_name);
	memcpy(attr.map_name, name, strlen(name));
	int fd = sys->call(sys, BPF_MAP_CREATE, &attr);
	if (fd == -ENOSYS)
		return haul_err_set(err, -ENOTSUP, "this kernel has no BPF");
	if (fd < 0)
		return haul_err_set(err, fd, "map of %u entries: %s (needs root)", max_entries,
				    haul_strerror(fd));
	return fd;
}

/* One call on count entries from index on. */
static int entries_call(int fd, int cmd, uint32_t from, uint32_t count)
{
	static struct haul_flow_key keys[CALL_ENTRIES];
	static struct haul_flow_value values[CALL_ENTRIES];
	HAUL_ASSERT(count <= CALL_ENTRIES);
	struct bpf_sys *sys = bpf_sys_linux();
	for (uint32_t i = 0; i < count; i++) {
		map_table_key(from + i, &keys[i]);
		map_table_value(from + i, &values[i]);
	}
	uint32_t done = 0;
	while (done < count) {
		union bpf_attr attr;
		memset(&attr, 0, sizeof attr);
		attr.batch.map_fd = (uint32_t)fd;
		attr.batch.keys = (uintptr_t)&keys[done];
		attr.batch.values = cmd == BPF_MAP_UPDATE_BATCH ? (uintptr_t)&values[done] : 0;
		attr.batch.count = count - done;
		int rc = sys->call(sys, cmd, &attr);
		bool gone = cmd == BPF_MAP_DELETE_BATCH && rc == -ENOENT;
		if (rc < 0 && !gone)
			return rc;
		done += attr.batch.count + gone; /* the one that was not there stopped the call */
	}
	return 0;
}

static int entries_all(int fd, int cmd, uint32_t from, uint32_t count)
{
	int rc = 0;
	for (uint32_t done = 0; done < count && rc >= 0; done += CALL_ENTRIES) {
		uint32_t left = count - done;
		rc = entries_call(fd, cmd, from + done, left < CALL_ENTRIES ? left : CALL_ENTRIES);
	}
	return rc;
}

int map_table_put(const struct map_table *table, uint32_t from, uint32_t count)
{
	return entries_all(table->fd, BPF_MAP_UPDATE_BATCH, from, count);
}

int map_table_remove(const struct map_table *table, uint32_t from, uint32_t count)
{
	return entries_all(table->fd, BPF_MAP_DELETE_BATCH, from, count);
}

static int order_init(struct map_table *table)
{
	struct prng prng;
	table->order = calloc(table->entries, sizeof *table->order);
	if (!table->order)
		return -ENOMEM;
	prng_init(&prng, table->entries);
	for (uint32_t i = 0; i < table->entries; i++) {
		uint32_t other = prng_below(&prng, i + 1);
		table->order[i] = table->order[other];
		table->order[other] = i;
	}
	return 0;
}

int map_table_init(struct map_table *table, uint32_t entries, struct haul_err *err)
{
	HAUL_ASSERT(entries >= 8 && entries <= INDEX_MAX / 2);
	const struct haul_map_options batch = { .engine = HAUL_MAP_BATCH };
	*table = (struct map_table){ .entries = entries, .rows = entries / 4 };
	if (table->rows > MAP_TABLE_ROWS_MAX)
		table->rows = MAP_TABLE_ROWS_MAX;
	table->fd = map_table_create("haul_bench", entries / 3 * 4 + 4, err);
	if (table->fd < 0)
		return table->fd;
	int rc = haul_map_open_fd(&table->any, table->fd, NULL, err);
	if (rc >= 0)
		rc = haul_map_open_fd(&table->batch, table->fd, &batch, err);
	if (rc >= 0 && (rc = order_init(table)) < 0)
		haul_err_set(err, rc, "no memory for the order of %u entries", entries);
	if (rc >= 0 && (rc = map_table_put(table, 0, entries)) < 0)
		haul_err_set(err, rc, "%u entries: %s", entries, haul_strerror(rc));
	if (rc < 0)
		map_table_done(table);
	return rc;
}

void map_table_done(struct map_table *table)
{
	haul_map_close(table->any);
	haul_map_close(table->batch);
	haul_map_close(table->empty);
	if (table->fd > 0)
		close(table->fd);
	if (table->empty_fd > 0)
		close(table->empty_fd);
	free(table->order);
	*table = (struct map_table){ 0 };
}
