/* link/mem.c — two ends in memory, with a kernel that can be told to fail.
 *
 * Promise: what the one end sends and has status 0 is received by the other end once, in order and
 * byte for byte; received bytes stay untouched until the next rx.
 * How: a queue a direction, with one writer (the tx thread of the one end) and one reader (the rx
 * thread of the other). head counts frames written, tail frames read, both only rise. A frame lies
 * in slot head % slots; there are twice as many slots as the queue may hold frames.
 * Why it holds: the writer keeps head - tail <= capacity, and one rx reads at most capacity frames.
 * So while frames [t, t + capacity) are in the reader's hands and tail is t + capacity, the writer
 * gets no further than t + 2 * capacity: the first slot it would share with them.
 * Readiness: the writer signals after it has moved head; the reader takes the signal before it
 * looks at head, and signals again when it leaves something behind. No wake-up is lost. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/prng.h"
#include "link/link.h"
#include "link/send.h"

enum { MEM_SLOT_BYTES = HAUL_FRAME_HEADROOM_BYTES + 65536, MEM_PEER = 1, MEM_ENDS = 2 };

_Static_assert((int)MEM_SLOT_BYTES >= HAUL_FRAME_HEADROOM_BYTES + HAUL_FRAME_BYTES_MAX,
	       "any frame fits a slot");

struct mem_slot {
	uint32_t len;
	uint16_t flags;
	uint16_t csum_start;
	uint16_t csum_offset;
};

struct mem_queue {
	uint8_t *bytes;        /* slot_mask + 1 times MEM_SLOT_BYTES */
	struct mem_slot *slot; /* slot_mask + 1 */
	uint32_t slot_mask;
	uint32_t capacity; /* frames that may wait */
	int event_fd;      /* readable when head != tail or an end has closed */
	_Alignas(64) _Atomic uint32_t head;
	_Alignas(64) _Atomic uint32_t tail;
};

struct mem_end {
	struct haul_link link;
	struct mem_pair *pair;
	struct mem_queue *in;
	struct mem_queue *out;
	struct haul_addr other;
	struct haul_mem_faults faults; /* tx thread only, as is prng */
	struct prng prng;
};

struct mem_pair {
	struct mem_queue queue[MEM_ENDS]; /* queue[i] is what end i receives */
	_Atomic bool closed;              /* one of the ends has closed */
	_Atomic uint32_t holders;         /* ends that may still look at the queues */
};

/* What one tx works on. */
struct mem_tx {
	struct mem_end *end;
	const struct haul_send_batch *batch;
	struct link_burst *burst;
};

static void signal_reader(const struct mem_queue *queue)
{
	uint64_t one = 1;
	/* Fails only when the counter is at its maximum: then it is readable already. */
	ssize_t n = write(queue->event_fd, &one, sizeof one);
	HAUL_ASSERT(n == sizeof one || errno == EAGAIN);
}

static bool other_closed(const struct mem_pair *pair)
{
	return atomic_load_explicit(&pair->closed, memory_order_acquire);
}

/* ---- send ---- */

static bool due(uint32_t *countdown)
{
	if (*countdown == 0)
		return false;
	(*countdown)--;
	return *countdown == 0;
}

/* Decide what goes wrong with this call: a negative code, or 0 with *count perhaps made smaller. */
static int fault(struct mem_end *end, uint32_t *count)
{
	struct haul_mem_faults *f = &end->faults;
	bool eagain = due(&f->eagain_in), eio = due(&f->eio_in), enobufs = due(&f->enobufs_in);
	bool partial = due(&f->partial_in);
	uint32_t partial_frames = f->partial_frames;

	if (f->seed != 0 && prng_below(&end->prng, 100) < f->percent) {
		uint32_t kind = prng_below(&end->prng, 4);
		eagain |= kind == 0;
		eio |= kind == 1;
		enobufs |= kind == 2;
		if (kind == 3) {
			partial = true;
			partial_frames = 1 + prng_below(&end->prng, *count);
		}
	}
	if (partial && partial_frames < *count)
		*count = partial_frames > 0 ? partial_frames : 1;
	return eagain ? -EAGAIN : eio ? -EIO : enobufs ? -ENOBUFS : 0;
}

static uint32_t put(struct mem_queue *queue, uint32_t seq, const struct haul_frames *frames,
		    uint32_t i)
{
	uint32_t at = seq & queue->slot_mask;
	uint8_t *bytes = queue->bytes + (size_t)at * MEM_SLOT_BYTES + HAUL_FRAME_HEADROOM_BYTES;
	uint16_t flags =
		(uint16_t)((frames->flags[i] & HAUL_FRAME_CSUM_PARTIAL) | HAUL_FRAME_HEADROOM);
	if (frames->peer[i] == 0)
		flags |= HAUL_FRAME_BROADCAST;
	HAUL_ASSERT(haul_frame_bytes(frames, i) <= HAUL_FRAME_BYTES_MAX);
	queue->slot[at] = (struct mem_slot){
		.len = haul_frame_copy(frames, i, bytes),
		.flags = flags,
		.csum_start = frames->csum_start[i],
		.csum_offset = frames->csum_offset[i],
	};
	return queue->slot[at].len;
}

/* The kernel's part: a send_fn. */
static int mem_send(void *ctx, uint32_t first, uint32_t count)
{
	struct mem_tx *tx = ctx;
	struct mem_queue *queue = tx->end->out;
	tx->burst->syscalls++;
	int rc = fault(tx->end, &count);
	if (rc < 0)
		return rc;
	if (other_closed(tx->end->pair))
		return -ENETDOWN;

	uint32_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
	uint32_t tail = atomic_load_explicit(&queue->tail, memory_order_acquire);
	uint32_t room = queue->capacity - (head - tail);
	uint32_t done = 0;
	HAUL_ASSERT(room <= queue->capacity);
	for (; done < count && done < room; done++) {
		uint32_t row = tx->batch->order[first + done];
		if (!peers_has(tx->end->link.peers, tx->batch->frames.peer[row]))
			break;
		tx->burst->bytes += put(queue, head + done, &tx->batch->frames, row);
	}
	atomic_store_explicit(&queue->head, head + done, memory_order_release);
	if (done == 0)
		return room == 0 ? -EAGAIN : -EDESTADDRREQ;
	return (int)done;
}

static int mem_tx(struct haul_link *link, struct haul_send_batch *batch, struct link_burst *burst)
{
	struct mem_end *end = (struct mem_end *)link;
	struct mem_tx tx = { .end = end, .batch = batch, .burst = burst };
	int sent = send_all(link, batch, mem_send, &tx);
	if (sent > 0)
		signal_reader(end->out);
	return sent;
}

/* ---- receive ---- */

static void take(struct mem_queue *queue, uint32_t seq, struct haul_frames *frames)
{
	uint32_t at = seq & queue->slot_mask;
	const struct mem_slot *slot = &queue->slot[at];
	uint32_t i = frames->count++;
	frames->data[i] = queue->bytes + (size_t)at * MEM_SLOT_BYTES + HAUL_FRAME_HEADROOM_BYTES;
	frames->tail[i] = NULL;
	frames->len[i] = slot->len;
	frames->tail_len[i] = 0;
	frames->from[i] = 0;
	frames->flags[i] = slot->flags;
	frames->csum_start[i] = slot->csum_start;
	frames->csum_offset[i] = slot->csum_offset;
	frames->status[i] = 0;
}

static int mem_rx(struct haul_link *link, struct haul_frames *frames, struct link_burst *burst)
{
	struct mem_end *end = (struct mem_end *)link;
	struct mem_queue *queue = end->in;
	uint64_t signals;
	ssize_t n = read(queue->event_fd, &signals, sizeof signals);
	HAUL_ASSERT(n == sizeof signals || errno == EAGAIN);
	burst->syscalls++;

	bool closed = other_closed(end->pair);
	uint32_t head = atomic_load_explicit(&queue->head, memory_order_acquire);
	uint32_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
	HAUL_ASSERT(head - tail <= queue->capacity);
	int peer = peers_find(link->peers, &end->other);
	while (tail != head && haul_frames_room(frames) > 0) {
		take(queue, tail++, frames);
		frames->peer[frames->count - 1] = peer < 0 ? HAUL_PEER_NONE : (uint32_t)peer;
		burst->bytes += frames->len[frames->count - 1];
	}
	atomic_store_explicit(&queue->tail, tail, memory_order_release);
	frames->addr[0] = end->other;
	frames->addr_count = frames->count > 0;
	if (tail != head)
		burst->reason = HAUL_CLOSE_OPS;
	if (tail != head || closed)
		signal_reader(queue);
	if (frames->count == 0 && closed)
		return -ENETDOWN;
	return (int)frames->count;
}

/* ---- open and close ---- */

/* A pair has one peer; every other address is one too many. */
static int mem_peer_set(struct haul_link *link, uint32_t peer, const struct haul_addr *addr)
{
	const struct mem_end *end = (const struct mem_end *)link;
	(void)peer;
	return memcmp(addr, &end->other, sizeof *addr) == 0 ? 0 : HAUL_EFULL;
}

static void queue_done(struct mem_queue *queue)
{
	if (queue->event_fd >= 0)
		(void)close(queue->event_fd);
	free(queue->slot);
	free(queue->bytes);
}

static int queue_init(struct mem_queue *queue, uint32_t capacity)
{
	uint32_t slots = 2;
	while (slots < 2 * capacity)
		slots *= 2;
	*queue = (struct mem_queue){
		.bytes = calloc(slots, MEM_SLOT_BYTES),
		.slot = calloc(slots, sizeof *queue->slot),
		.slot_mask = slots - 1,
		.capacity = capacity,
		.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
	};
	if (queue->event_fd < 0)
		return -errno;
	return queue->bytes == NULL || queue->slot == NULL ? -ENOMEM : 0;
}

static void pair_free(struct mem_pair *pair)
{
	for (uint32_t i = 0; i < MEM_ENDS; i++)
		queue_done(&pair->queue[i]);
	free(pair);
}

static int pair_open(uint32_t queue_frames, struct mem_pair **ret_pair)
{
	struct mem_pair *pair = aligned_alloc(_Alignof(struct mem_pair), sizeof *pair);
	int rc = 0;
	if (pair == NULL)
		return -ENOMEM;
	memset(pair, 0, sizeof *pair);
	atomic_init(&pair->holders, MEM_ENDS);
	for (uint32_t i = 0; i < MEM_ENDS; i++)
		pair->queue[i].event_fd = -1;
	for (uint32_t i = 0; i < MEM_ENDS && rc == 0; i++)
		rc = queue_init(&pair->queue[i], queue_frames);
	if (rc < 0) {
		pair_free(pair);
		return rc;
	}
	*ret_pair = pair;
	return 0;
}

/* The last of the two takes the pair with it. */
static void mem_close(struct haul_link *link)
{
	struct mem_end *end = (struct mem_end *)link;
	struct mem_pair *pair = end->pair;
	atomic_store_explicit(&pair->closed, true, memory_order_release);
	signal_reader(end->out);
	uint32_t holders = atomic_fetch_sub_explicit(&pair->holders, 1, memory_order_acq_rel);
	HAUL_ASSERT(holders >= 1 && holders <= MEM_ENDS);
	if (holders == 1)
		pair_free(pair);
	link_done(link);
	free(end);
}

static const struct link_ops mem_ops = {
	.rx = mem_rx,
	.tx = mem_tx,
	.peer_set = mem_peer_set,
	.close = mem_close,
};

static struct haul_addr mem_addr(uint64_t mac)
{
	struct haul_addr addr = { .kind = HAUL_ADDR_MAC };
	mac_store(addr.bytes, mac);
	return addr;
}

/* The end's memory; close needs a pair, so until it has one it is freed by end_free. */
static int end_open(const char *name, uint32_t index, struct mem_end **ret_end)
{
	static const uint64_t mac[MEM_ENDS] = { 0x020000000001, 0x020000000002 };
	struct haul_link_options options;
	struct mem_end *end = calloc(1, sizeof *end);
	if (end == NULL)
		return -ENOMEM;
	haul_link_options_init(&options, HAUL_LINK_MEM);
	options.burst_max = LINK_BURST_DEFAULT;
	options.mtu_bytes = HAUL_FRAME_BYTES_MAX;
	(void)snprintf(options.name, sizeof options.name, "%s.%c", name, index == 0 ? 'a' : 'b');
	int rc = link_init(&end->link, &options, &mem_ops, NULL);
	HAUL_ASSERT(rc == 0); /* fails only where there is a statistics table */
	rc = peers_open(&end->link.peers);
	if (rc < 0) {
		free(end);
		return rc;
	}
	struct haul_addr broadcast = mem_addr(0xffffffffffff);
	end->link.local = mem_addr(mac[index]);
	end->other = mem_addr(mac[1 - index]);
	peers_set_broadcast(end->link.peers, &broadcast);
	int peer = peers_add(end->link.peers, &end->other);
	HAUL_ASSERT(peer == MEM_PEER);
	*ret_end = end;
	return 0;
}

static void end_free(struct mem_end *end)
{
	link_done(&end->link);
	free(end);
}

static void end_join(struct mem_end *end, struct mem_pair *pair, uint32_t index)
{
	end->pair = pair;
	end->in = &pair->queue[index];
	end->out = &pair->queue[1 - index];
	end->link.fd = end->in->event_fd;
}

int haul_link_mem_pair(const char *name, uint32_t queue_frames, struct haul_link **ret_a,
		       struct haul_link **ret_b)
{
	struct mem_end *a, *b;
	struct mem_pair *pair;
	if (queue_frames < 1 || queue_frames > HAUL_FRAMES_MAX ||
	    strlen(name) + sizeof ".a" > HAUL_LINK_NAME_BYTES)
		return -EINVAL;
	int rc = end_open(name, 0, &a);
	if (rc < 0)
		return rc;
	rc = end_open(name, 1, &b);
	if (rc < 0)
		goto free_a;
	rc = pair_open(queue_frames, &pair);
	if (rc < 0)
		goto free_b;
	end_join(a, pair, 0);
	end_join(b, pair, 1);
	*ret_a = &a->link;
	*ret_b = &b->link;
	return 0;

free_b:
	end_free(b);
free_a:
	end_free(a);
	return rc;
}

void haul_link_mem_faults(struct haul_link *link, const struct haul_mem_faults *faults)
{
	struct mem_end *end = (struct mem_end *)link;
	HAUL_ASSERT(link->ops == &mem_ops);
	end->faults = *faults;
	prng_init(&end->prng, faults->seed);
}
