/* How the memory of a store is shared out.
 *
 * The executor, the log's buffers and what a merge builds in are of one size whatever there is. Of
 * the rest the memory tables, of which there are three (one is written, one flushed, one left by
 * its readers), take half, embeddings a sixth, and the cache what is left. Each memory table has a
 * frame's budget more; of that, and of the third, only what is used is touched. */
#include <errno.h>

#include "store/store_parts.h"

enum {
	MEMORY_TABLES = 3,
	MEMORY_MIN = 128 << 20,
	MEMORY_LOG = 16 << 20,    /* a buffer; a small store has LOG_RECORD_MAX */
	MEMORY_SMALL = 256 << 20, /* below, buffers and tables are small */
	MEMORY_MEMTABLE_MIN = 4 << 20,
	MEMORY_MEMTABLE_MAX = 1 << 30,
	MEMORY_CACHE_MIN = 8 << 20,
	MEMORY_FIXED = 24 << 20 /* what executes, what is told, what a merge builds in */
};
static const uint64_t memory_usual = UINT64_C(768) << 20;

int store_memory_split(struct store_memory *ret_memory, const struct store_deep *deep,
		       const struct haul_store_options *options, struct haul_err *err)
{
	const uint64_t total = options->memory > 0 ? options->memory : memory_usual;
	const uint64_t frame = deep->frame_budget > 0 ? deep->frame_budget : LSM_FRAME_BUDGET;
	struct store_memory memory = { .total = total, .fixed = MEMORY_FIXED };

	if (total < MEMORY_MIN && deep->frame_budget == 0)
		return haul_err_set(err, -EINVAL, "memory %llu: at least %d bytes (128 MiB)",
				    (unsigned long long)total, MEMORY_MIN);
	memory.log = total < MEMORY_SMALL ? LOG_RECORD_MAX : MEMORY_LOG;
	if (deep->log_buffer_bytes > 0)
		memory.log = deep->log_buffer_bytes;
	const uint64_t taken = memory.fixed + 2 * memory.log + MEMORY_TABLES * frame;
	const uint64_t rest = total > taken ? total - taken : 0;
	memory.memtable =
		options->memtable_bytes > 0 ? options->memtable_bytes : rest / (2 * MEMORY_TABLES);
	if (memory.memtable < MEMORY_MEMTABLE_MIN && options->memtable_bytes == 0)
		memory.memtable = MEMORY_MEMTABLE_MIN;
	if (memory.memtable > MEMORY_MEMTABLE_MAX)
		return haul_err_set(err, -EINVAL, "memtable_bytes %llu: at most %d",
				    (unsigned long long)memory.memtable, MEMORY_MEMTABLE_MAX);
	memory.vectors = rest / 6;
	const uint64_t used = MEMORY_TABLES * memory.memtable + memory.vectors;
	if (used + MEMORY_CACHE_MIN > rest && options->memtable_bytes > 0 &&
	    deep->frame_budget == 0)
		return haul_err_set(
			err, -EINVAL,
			"memtable_bytes %llu: three of them do not fit into memory %llu",
			(unsigned long long)memory.memtable, (unsigned long long)total);
	memory.cache = used + MEMORY_CACHE_MIN < rest ? rest - used : MEMORY_CACHE_MIN;
	*ret_memory = memory;
	return 0;
}
