/* How the memory of a store is shared out.
 *
 * What executes, what is told and what a merge builds in is of one size whatever there is, and so
 * are the log's buffers and the budget of a frame, which two memory tables may be over by. Of the
 * rest the memory tables take half: there are three, one is written, one flushed, one left by its
 * readers. Embeddings take a sixth, filters and indexes of tables a sixteenth of all (they grow
 * with what is stored; what does not fit is left out, lsm_filters.c), and the cache has what is
 * left. Pages that nothing was written to are not taken from the machine, so a store that has
 * little in it is small. */
#include <errno.h>

#include "store/store_parts.h"

enum {
	MEMORY_MIN = 128 << 20,
	MEMORY_LOG = 16 << 20,    /* a buffer; a small store has LOG_RECORD_MAX */
	MEMORY_SMALL = 256 << 20, /* below it a store is small */
	MEMORY_FIXED = 16 << 20,
	MEMORY_TABLES = 3,
	MEMORY_FRAMES = 2,
	FILTERS = 16, /* a share of all: with indexes */
	MEMORY_TABLE_MIN = 1 << 20,
	MEMORY_TABLE_MAX = 1 << 30,
	MEMORY_CACHE_MIN = 4 << 20
};
static const uint64_t memory_usual = UINT64_C(768) << 20;

/* Of all memory tables, and what they are sorted in. */
static uint64_t tables_memory(uint64_t memtable)
{
	return MEMORY_TABLES * memtable_memory(memtable) + memtable_sorter_memory(memtable);
}

/* The largest whose three, hash tables and all, take no more than that. */
static uint64_t memtable_of(uint64_t bytes)
{
	uint64_t memtable = bytes / MEMORY_TABLES;

	while (memtable > MEMORY_TABLE_MIN && tables_memory(memtable) > bytes)
		memtable -= memtable / 32;
	if (memtable > MEMORY_TABLE_MAX)
		memtable = MEMORY_TABLE_MAX;
	return memtable > MEMORY_TABLE_MIN ? memtable : MEMORY_TABLE_MIN;
}

int store_memory_split(struct store_memory *ret_memory, const struct store_deep *deep,
		       const struct haul_store_options *options, struct haul_err *err)
{
	const uint64_t total = options->memory > 0 ? options->memory : memory_usual;
	struct store_memory memory = { .total = total };

	if (total < MEMORY_MIN && deep->frame_budget == 0)
		return haul_err_set(err, -EINVAL, "memory %llu: at least %d bytes (128 MiB)",
				    (unsigned long long)total, MEMORY_MIN);
	memory.frame = deep->frame_budget > 0 ? deep->frame_budget : LSM_FRAME_BUDGET;
	memory.log = total < MEMORY_SMALL ? LOG_RECORD_MAX : MEMORY_LOG;
	if (deep->log_buffer_bytes > 0)
		memory.log = deep->log_buffer_bytes;
	memory.fixed = MEMORY_FIXED + 2 * memory.log + MEMORY_FRAMES * memory.frame;
	const uint64_t rest = total > memory.fixed ? total - memory.fixed : 0;
	memory.memtable = options->memtable_bytes;
	if (memory.memtable == 0)
		memory.memtable = memtable_of(rest / 2);
	if (memory.memtable > MEMORY_TABLE_MAX)
		return haul_err_set(err, -EINVAL, "memtable_bytes %llu: at most %d",
				    (unsigned long long)memory.memtable, MEMORY_TABLE_MAX);
	const uint64_t tables = tables_memory(memory.memtable);
	if (tables + MEMORY_CACHE_MIN > rest && deep->frame_budget == 0)
		return haul_err_set(err, -EINVAL,
				    "memtable_bytes %llu: %d of them do not fit into memory %llu",
				    (unsigned long long)memory.memtable, MEMORY_TABLES,
				    (unsigned long long)total);
	memory.tables = tables;
	memory.vectors = tables < rest ? (rest - tables) / 3 : 0;
	memory.cache = tables < rest ? rest - tables - memory.vectors : 0;
	memory.filters = total / FILTERS;
	memory.cache -= memory.cache < memory.filters ? memory.cache : memory.filters;
	if (memory.cache < MEMORY_CACHE_MIN)
		memory.cache = MEMORY_CACHE_MIN;
	*ret_memory = memory;
	return 0;
}

uint64_t store_memory_taken(const struct store_memory *memory, uint64_t table_bytes)
{
	return memory->fixed + memory->tables + memory->vectors + memory->cache + table_bytes;
}
