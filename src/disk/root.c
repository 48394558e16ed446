/* The partition's root. Two blocks are written in turn, so one of them is whole whatever a crash
 * does to the other; the higher generation counts. A purge and a quarantine are written to both, so
 * that the older one does not undo them when the newer one rots. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "disk/shard_parts.h"

/* Generations that may be used before the root is written again. */
enum { GENERATIONS_AHEAD = 1 << 16 };

enum { ROOT_COPIES = 2 };

struct root_read {
	struct io_op op;
	bool finished;
};

static void root_read_done(struct io_op *op)
{
	struct root_read *read = op->owner;

	read->finished = true;
}

/* One of the two into root_block; waits. 0 or -errno. */
static int root_read(struct shard *shard, uint32_t copy)
{
	struct root_read read = {
		.op = {
			.kind = IO_READ,
			.bytes = FORMAT_BLOCK,
			.offset = format_root_offset(shard->super, shard->options.partition, copy),
			.data = shard->root_block,
			.done = root_read_done,
		},
	};

	read.op.owner = &read;
	queue_put(&shard->queue, &read.op, QUEUE_READ);
	queue_pump(&shard->queue);
	while (!read.finished) {
		/* How the wait ended does not matter: what has finished is taken in any case. */
		(void)io_wait(shard->options.io, -1);
		(void)queue_reap(&shard->queue);
	}
	return read.op.result < 0 ? read.op.result : 0;
}

static bool root_has(const struct format_root *root, uint32_t count, uint32_t segment)
{
	for (uint32_t i = 0; i < count; i++)
		if (root->bad[i].segment == segment)
			return true;
	return false;
}

/* Leave out what no segment of this partition can be, and what is there twice. */
static void root_fit(const struct format_super *super, struct format_root *root)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < root->bad_count; i++) {
		struct format_bad bad = root->bad[i];
		if (bad.segment >= super->segments || root_has(root, kept, bad.segment))
			continue;
		bad.good_bytes -= bad.good_bytes % FORMAT_BLOCK;
		if (bad.good_bytes > super->segment_bytes)
			bad.good_bytes = super->segment_bytes;
		root->bad[kept++] = bad;
	}
	root->bad_count = kept;
}

int root_load(struct shard *shard)
{
	struct format_root best = {
		.partition = shard->options.partition,
		.generation_bound = ROOT_GENERATION_UNKNOWN,
	};
	bool found = false;

	HAUL_ASSERT(shard->root_block != NULL);
	for (uint32_t copy = 0; copy < ROOT_COPIES; copy++) {
		struct format_root root;
		int rc = root_read(shard, copy);
		if (rc == -ENODEV || rc == -ENXIO)
			return -ENODEV;
		if (rc == 0)
			rc = format_root_decode(shard->root_block, shard->super->uuid, &root);
		if (rc != 0 || root.partition != shard->options.partition)
			continue;
		if (!found || root.generation > best.generation)
			best = root;
		found = true;
	}
	root_fit(shard->super, &best);
	shard->root = best;
	shard->model = best.model;
	return 0;
}

const struct format_bad *root_bad(const struct shard *shard, uint32_t segment)
{
	const struct format_root *root = &shard->root;
	for (uint32_t i = 0; i < root->bad_count; i++) {
		if (root->bad[i].segment == segment)
			return &root->bad[i];
	}
	return NULL;
}

bool root_set_bad(struct shard *shard, uint32_t segment, uint32_t good_bytes)
{
	struct format_root *root = &shard->root;
	uint32_t i = 0;
	while (i < root->bad_count && root->bad[i].segment != segment)
		i++;
	if (i == FORMAT_BAD_MAX)
		return false;
	root->bad[i] = (struct format_bad){ segment, good_bytes };
	root->bad_count += i == root->bad_count;
	root_change(shard);
	return true;
}

void root_change(struct shard *shard)
{
	shard->root_dirty = true;
	shard->root_copies = ROOT_COPIES;
}

void root_written(struct shard *shard)
{
	shard->root_proven = shard->root.flush_proven;
	/* If it is dirty again, what was written may be without what was changed last. */
	if (!shard->root_dirty && shard->root_copies > 0)
		shard->root_copies--;
	shard->root_dirty = shard->root_dirty || shard->root_copies > 0;
}

uint64_t root_encode(struct shard *shard)
{
	struct format_root *root = &shard->root;

	HAUL_ASSERT(shard->root_block != NULL);
	HAUL_ASSERT(root->partition == shard->options.partition);
	root->generation++;
	if (shard->next_generation + GENERATIONS_AHEAD / 2 >= root->generation_bound)
		root->generation_bound = shard->next_generation + GENERATIONS_AHEAD;
	root->model = shard->model;
	format_root_encode(root, shard->super->uuid, shard->root_block);
	return format_root_offset(shard->super, root->partition,
				  (uint32_t)(root->generation % ROOT_COPIES));
}
