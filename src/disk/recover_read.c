#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "disk/recover_state.h"

int reading_alloc(struct reading *reading, uint32_t bytes)
{
	if (reading->room >= bytes)
		return 0;
	uint32_t room = (bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK * FORMAT_BLOCK;
	uint8_t *data = aligned_alloc(FORMAT_BLOCK, room);
	if (data == NULL)
		return -ENOMEM;
	free(reading->data);
	reading->data = data;
	reading->room = room;
	return 0;
}

void reading_free(struct reading *reading)
{
	free(reading->data);
	reading->data = NULL;
	reading->room = 0;
}

/* false: nothing will ever finish; only a simulated disk that has stopped says so. */
static bool wait_some(struct recovery *recovery)
{
	struct shard *shard = recovery->shard;
	queue_pump(&shard->queue);
	if (queue_reap(&shard->queue) > 0)
		return true;
	if (io_wait(shard->options.io, -1) == -ETIME) {
		recovery->rc = -ENODEV;
		return false;
	}
	(void)queue_reap(&shard->queue);
	return true;
}

static void reading_done(struct io_op *op);

/* The next piece of it. */
static void reading_push(struct reading *reading)
{
	struct shard *shard = reading->recovery->shard;
	uint32_t left = reading->bytes - reading->bytes_read;
	HAUL_ASSERT(left > 0 && reading->bytes <= reading->room);
	reading->op = (struct io_op){ .kind = IO_READ, .done = reading_done, .owner = reading };
	reading->op.bytes = left < HAUL_DISK_SPLIT ? left : HAUL_DISK_SPLIT;
	reading->op.offset = reading->offset + reading->bytes_read;
	reading->op.data = reading->data + reading->bytes_read;
	queue_put(&shard->queue, &reading->op, QUEUE_READ);
}

/* Give the slot its next place, if there is one. */
static void reading_start(struct reading *reading)
{
	struct recovery *recovery = reading->recovery;
	if (recovery->rc < 0 || !recovery->reader->next(recovery, reading))
		return;
	int rc = reading_alloc(reading, reading->bytes);
	if (rc < 0) {
		recovery->rc = rc;
		return;
	}
	reading->bytes_read = 0;
	reading->error = 0;
	reading->tries = 0;
	reading->busy = true;
	recovery->under_way++;
	reading_push(reading);
}

static void reading_done(struct io_op *op)
{
	struct reading *reading = op->owner;
	struct recovery *recovery = reading->recovery;
	/* A segment that is given up may uncover older copies of its keys: not for one failure. */
	bool again = op->result < 0 && reading->tries++ < READING_TRIES;
	if (op->result >= 0)
		reading->bytes_read += op->bytes;
	else if (!again)
		reading->error = op->result;
	if (again || (reading->error == 0 && reading->bytes_read < reading->bytes)) {
		reading_push(reading);
		return;
	}
	HAUL_ASSERT(reading->busy && recovery->under_way > 0);
	reading->busy = false;
	recovery->under_way--;
	if (recovery->reader == NULL)
		return;
	if (recovery->rc == 0)
		recovery->rc = recovery->reader->take(recovery, reading);
	reading_start(reading);
}

int recover_read(struct recovery *recovery, const struct reader *reader)
{
	HAUL_ASSERT(recovery->under_way == 0);
	recovery->reader = reader;
	recovery->next = 0;
	for (uint32_t i = 0; i < READINGS; i++)
		reading_start(&recovery->readings[i]);
	while (recovery->under_way > 0 && wait_some(recovery))
		continue;
	recovery->reader = NULL;
	return recovery->rc;
}

int recover_read_one(struct recovery *recovery, struct reading *reading, uint32_t segment,
		     uint32_t offset, uint32_t bytes)
{
	HAUL_ASSERT(recovery->reader == NULL && !reading->busy);
	int rc = reading_alloc(reading, bytes);
	if (rc < 0) {
		recovery->rc = rc;
		return rc;
	}
	reading->recovery = recovery;
	reading->segment = segment;
	reading->offset = segment_offset(recovery->shard, segment) + offset;
	reading->bytes = bytes;
	reading->bytes_read = 0;
	reading->error = 0;
	reading->tries = 0;
	reading->busy = true;
	recovery->under_way++;
	reading_push(reading);
	while (reading->busy) {
		if (!wait_some(recovery))
			return recovery->rc;
	}
	return reading->error;
}

struct writing {
	struct io_op op;
	bool finished;
};

static void writing_done(struct io_op *op)
{
	struct writing *writing = op->owner;
	writing->finished = true;
}

static int writing_run(struct recovery *recovery, struct writing *writing)
{
	writing->op.done = writing_done;
	writing->op.owner = writing;
	queue_put(&recovery->shard->queue, &writing->op, QUEUE_FLUSH);
	while (!writing->finished) {
		if (!wait_some(recovery))
			return recovery->rc;
	}
	return writing->op.result < 0 ? writing->op.result : 0;
}

int recover_write_one(struct recovery *recovery, uint64_t offset, uint8_t *data, uint32_t bytes)
{
	int rc = 0;
	for (uint32_t done = 0; rc == 0 && done < bytes; done += HAUL_DISK_SPLIT) {
		struct writing writing = { .op = { .kind = IO_WRITE } };
		uint32_t left = bytes - done;
		writing.op.offset = offset + done;
		writing.op.data = data + done;
		writing.op.bytes = left < HAUL_DISK_SPLIT ? left : HAUL_DISK_SPLIT;
		rc = writing_run(recovery, &writing);
	}
	recovery->shard->stat.device_bytes += rc == 0 ? bytes : 0;
	return rc;
}

int recover_sync(struct recovery *recovery)
{
	struct writing writing = { .op = { .kind = IO_SYNC } };
	recovery->shard->stat.syncs++;
	return writing_run(recovery, &writing);
}
