#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "disk/check.h"

static void check_op_done(struct io_op *op)
{
	struct check *check = op->owner;
	HAUL_ASSERT(check->pending > 0);
	check->pending--;
}

void check_start(struct check *check, struct io_op *op)
{
	op->done = check_op_done;
	op->owner = check;
	check->pending++;
	queue_put(&check->queue, op, op->kind == IO_READ ? QUEUE_READ : QUEUE_FLUSH);
}

void check_wait(struct check *check)
{
	queue_pump(&check->queue);
	while (check->pending > 0) {
		/* How the wait ended does not matter: what has finished is taken in any case. */
		(void)io_wait(check->queue.io, -1);
		(void)queue_reap(&check->queue);
	}
}

static int check_one(struct check *check, struct io_op op)
{
	check_start(check, &op);
	check_wait(check);
	return op.result < 0 ? op.result : 0;
}

int check_read(struct check *check, uint64_t offset, uint32_t bytes, uint8_t *data)
{
	const struct io_op op = { .kind = IO_READ, .bytes = bytes, .offset = offset, .data = data };
	return check_one(check, op);
}

int check_write(struct check *check, uint64_t offset, uint32_t bytes, uint8_t *data)
{
	const struct io_op op = {
		.kind = IO_WRITE, .bytes = bytes, .offset = offset, .data = data
	};
	HAUL_ASSERT(check->options->repair);
	return check_one(check, op);
}

int check_sync(struct check *check)
{
	return check_one(check, (struct io_op){ .kind = IO_SYNC });
}

/* Which blocks of a transfer that failed are the cause. */
static int check_read_blocks(struct check *check, const struct io_op *failed)
{
	const uint32_t first = (uint32_t)((failed->data - check->image) / FORMAT_BLOCK);
	for (uint32_t at = 0; at < failed->bytes; at += FORMAT_BLOCK) {
		const int rc =
			check_read(check, failed->offset + at, FORMAT_BLOCK, failed->data + at);
		if (rc == -ENODEV || rc == -ENXIO)
			return -ENODEV;
		if (rc == 0)
			continue;
		check->blocks[first + at / FORMAT_BLOCK] |= CHECK_UNREADABLE;
		memset(failed->data + at, 0, FORMAT_BLOCK);
	}
	return 0;
}

int check_read_segment(struct check *check, uint32_t segment)
{
	const uint32_t segment_bytes = check->super->segment_bytes;
	const uint64_t offset = format_segment_offset(check->super, check->partition, segment);
	uint32_t count = 0;
	int rc = 0;

	memset(check->blocks, 0, segment_bytes / FORMAT_BLOCK);
	for (uint32_t at = 0; at < segment_bytes; at += check->ops[count++].bytes) {
		check->ops[count] = (struct io_op){
			.kind = IO_READ,
			.bytes = segment_bytes < HAUL_DISK_SPLIT ? segment_bytes : HAUL_DISK_SPLIT,
			.offset = offset + at,
			.data = check->image + at,
		};
		check_start(check, &check->ops[count]);
	}
	check_wait(check);
	for (uint32_t i = 0; i < count && rc == 0; i++)
		if (check->ops[i].result < 0)
			rc = check_read_blocks(check, &check->ops[i]);
	return rc;
}
