/* disk/queue.h: who goes next, and until an operation is whole.
 *
 * Turns      Each operation handed over is a turn. The highest class that waits gets it, unless a
 *            lower one was passed over in QUEUE_STARVE - 2 turns since it last went or began to
 *            wait: then that one does (two may come to that at once, so the second goes in turn
 *            QUEUE_STARVE). Background that has its quarter of the depth waits while
 *            others do, and is not passed over meanwhile.
 * Whole      What was cut short goes back to the head of its class, further behind; what was done
 *            counts in whole sectors only, since direct I/O cannot go on between them. */
#include "disk/queue.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/counter.h"

enum {
	SECTOR = 512,
	BUSY_OPS_MIN = 32,        /* fewer tell nothing of a device's rates … */
	BUSY_BYTES_MIN = 1 << 18, /* … nor do writes of less */
	BUSY_OPS_MAX = 1024,      /* a time that has no pause is cut here */
	BUSY_DEPTH_MIN = 16,      /* reads: IOPS are those at depth */
};

void queue_init(struct queue *queue, struct io *io, struct os *os, uint32_t depth,
		uint64_t bytes_max)
{
	HAUL_ASSERT(io != NULL && os != NULL && io->depth >= 1);
	memset(queue, 0, sizeof *queue);
	queue->io = io;
	queue->os = os;
	queue->depth = depth == 0 || depth > io->depth ? io->depth : depth;
	queue->bytes_max = bytes_max;
}

bool queue_idle(const struct queue *queue)
{
	return queue->in_flight == 0 && queue->waiting[QUEUE_READ].count == 0 &&
	       queue->waiting[QUEUE_FLUSH].count == 0 &&
	       queue->waiting[QUEUE_BACKGROUND].count == 0;
}

/* ---- what the model learns ---- */

static void busy_end(struct queue *queue, int64_t now_ns)
{
	struct queue_busy *busy = &queue->busy;
	double ns = (double)(now_ns - busy->start_ns);
	if (busy->start_ns != 0 && !busy->mixed && ns > 0) {
		if (busy->kind == IO_WRITE && busy->bytes >= BUSY_BYTES_MIN)
			haul_disk_model_saw_write(queue->model, busy->bytes, ns);
		if (busy->kind == IO_READ && busy->ops >= BUSY_OPS_MIN &&
		    (double)busy->service_ns >= ns * BUSY_DEPTH_MIN)
			haul_disk_model_saw_reads(queue->model, busy->ops, busy->bytes, ns);
	}
	*busy = (struct queue_busy){ 0 };
}

static void busy_start(struct queue *queue, const struct io_op *op)
{
	struct queue_busy *busy = &queue->busy;
	if (busy->start_ns == 0) {
		busy->start_ns = op->start_ns;
		busy->kind = op->kind;
		/* What was under way before is not of this time alone. */
		busy->mixed = queue->io->in_flight > 0;
	}
	busy->mixed = busy->mixed || busy->kind != op->kind;
}

static void busy_done(struct queue *queue, const struct io_op *op, int64_t now_ns)
{
	struct queue_busy *busy = &queue->busy;
	/* Under load a sync is never alone, and what it takes then is what its flush waits for. */
	if (op->kind == IO_SYNC && op->result >= 0)
		haul_disk_model_saw_sync(queue->model, (double)(now_ns - op->start_ns));
	busy->mixed = busy->mixed || op->result < 0;
	busy->ops++;
	busy->bytes += op->bytes;
	busy->service_ns += now_ns - op->start_ns;
	if (queue->in_flight == 0 || busy->ops >= BUSY_OPS_MAX)
		busy_end(queue, now_ns);
}

/* ---- waiting ---- */

static void list_push(struct queue_list *list, struct io_op *op)
{
	op->next = NULL;
	if (list->last != NULL)
		list->last->next = op;
	else
		list->first = op;
	list->last = op;
	list->count++;
}

static void list_push_first(struct queue_list *list, struct io_op *op)
{
	op->next = list->first;
	list->first = op;
	if (list->last == NULL)
		list->last = op;
	list->count++;
}

static struct io_op *list_pop(struct queue_list *list)
{
	struct io_op *op = list->first;
	HAUL_ASSERT(op != NULL && list->count > 0);
	list->first = op->next;
	if (list->first == NULL)
		list->last = NULL;
	list->count--;
	op->next = NULL;
	return op;
}

/* ---- finishing ---- */

static void finish(struct queue *queue, struct io_op *op, int32_t result)
{
	int64_t now_ns = 0;
	bool timed = op->start_ns != 0;
	if (timed)
		now_ns = queue->os->now_ns(queue->os);
	/* As it was put in. */
	op->offset -= op->bytes_done;
	op->bytes += op->bytes_done;
	if (op->data != NULL)
		op->data -= op->bytes_done;
	op->bytes_done = 0;
	op->done = op->finished;
	op->result = result;
	if (result >= 0) {
		counter_add(&queue->ops[op->io_class], 1);
		counter_add(&queue->bytes[op->io_class], (uint64_t)result);
	}
	if (timed && queue->service_ns != NULL)
		haul_hist_add(&queue->service_ns[op->io_class], (uint64_t)(now_ns - op->start_ns),
			      1);
	if (timed && queue->model != NULL)
		busy_done(queue, op, now_ns);
	op->done(op);
}

static bool again(struct queue *queue, struct io_op *op)
{
	if (op->tries >= QUEUE_TRIES)
		return false;
	op->tries++;
	counter_add(&queue->retries, 1);
	list_push_first(&queue->waiting[op->io_class], op);
	return true;
}

static void op_done(struct io_op *op)
{
	struct queue *queue = op->queue;
	HAUL_ASSERT(queue->in_flight > 0 && queue->in_class[op->io_class] > 0);
	HAUL_ASSERT(queue->in_flight_bytes >= op->bytes);
	queue->in_flight--;
	queue->in_class[op->io_class]--;
	queue->in_flight_bytes -= op->bytes;

	int32_t result = op->result;
	if (result == -EAGAIN || result == -EINTR) {
		if (!again(queue, op))
			finish(queue, op, result);
		return;
	}
	if (result < 0 || (op->kind != IO_READ && op->kind != IO_WRITE)) {
		finish(queue, op, result < 0 ? result : 0);
		return;
	}
	HAUL_ASSERT((uint32_t)result <= op->bytes);
	if ((uint32_t)result == op->bytes) {
		finish(queue, op, (int32_t)(op->bytes_done + op->bytes));
		return;
	}
	counter_add(&queue->shorts, 1);
	uint32_t whole = (uint32_t)result / SECTOR * SECTOR;
	op->bytes_done += whole;
	op->offset += whole;
	op->data += whole;
	op->bytes -= whole;
	if (whole > 0)
		list_push_first(&queue->waiting[op->io_class], op);
	else if ((result == 0 && op->kind == IO_READ) || !again(queue, op))
		finish(queue, op, -EIO); /* a read of 0: the file ends here */
}

void queue_put(struct queue *queue, struct io_op *op, enum queue_class class)
{
	HAUL_ASSERT(class < QUEUE_CLASSES && op->done != NULL);
	HAUL_ASSERT((op->bytes > 0 && op->bytes <= INT32_MAX) || op->kind == IO_SYNC);
	if (op->kind == IO_SYNC) {
		op->bytes = 0;
		op->data = NULL;
	}
	op->queue = queue;
	op->finished = op->done;
	op->done = op_done;
	op->bytes_done = 0;
	op->tries = 0;
	op->start_ns = 0;
	op->io_class = (uint8_t) class;
	list_push(&queue->waiting[class], op);
}

/* ---- handing over ---- */

static bool others_wait(const struct queue *queue)
{
	return queue->waiting[QUEUE_READ].count > 0 || queue->waiting[QUEUE_FLUSH].count > 0;
}

/* Whose turn it is; QUEUE_CLASSES = nobody's. */
static uint32_t turn_of(const struct queue *queue)
{
	uint32_t quarter = queue->depth / 4 > 0 ? queue->depth / 4 : 1;
	uint32_t highest = QUEUE_CLASSES;
	for (uint32_t i = QUEUE_CLASSES; i-- > 0;) {
		const struct queue_list *list = &queue->waiting[i];
		if (list->count == 0)
			continue;
		if (i == QUEUE_BACKGROUND && others_wait(queue) && queue->in_class[i] >= quarter)
			continue;
		if (list->passed_over >= QUEUE_STARVE - 2)
			return i;
		highest = i;
	}
	return highest;
}

static void turn_taken(struct queue *queue, uint32_t class)
{
	for (uint32_t i = 0; i < QUEUE_CLASSES; i++) {
		struct queue_list *list = &queue->waiting[i];
		if (i == class || list->count == 0)
			list->passed_over = 0;
		else
			list->passed_over++;
	}
}

void queue_pump(struct queue *queue)
{
	struct io *io = queue->io;
	bool timed = queue->model != NULL || queue->service_ns != NULL;
	int64_t now_ns = 0;
	uint32_t handed = 0;
	while (queue->in_flight < queue->depth && io->in_flight < io->depth) {
		uint32_t class = turn_of(queue);
		if (class == QUEUE_CLASSES)
			break;
		struct io_op *op = queue->waiting[class].first;
		if (queue->bytes_max > 0 && queue->in_flight > 0 &&
		    queue->in_flight_bytes + op->bytes > queue->bytes_max)
			break;
		turn_taken(queue, class);
		list_pop(&queue->waiting[class]);
		if (timed && now_ns == 0)
			now_ns = queue->os->now_ns(queue->os);
		if (op->start_ns == 0)
			op->start_ns = now_ns;
		if (queue->model != NULL)
			busy_start(queue, op);
		queue->in_flight++;
		queue->in_class[class]++;
		queue->in_flight_bytes += op->bytes;
		io_submit(io, op);
		handed++;
	}
	if (handed > 0)
		io_push(io);
}

uint32_t queue_reap(struct queue *queue)
{
	uint32_t reaped = io_reap(queue->io);
	queue_pump(queue);
	return reaped;
}
