/* The channel as an event simulation.
 *
 * Two kinds of events wait in one binary heap, by (time, order): a node may transmit, and a frame
 * arrives. They are handled at their own time and not at the time of the call, so a caller that
 * comes late (a busy machine) delays deliveries but never stretches the airtime.
 *
 * Fairness: a node with frames has exactly one transmit event. When it comes up while the medium is
 * busy there, it is put off to the end of that. It is also put off while a node that would have to
 * keep silent for it waits, and has waited longer. The one that has waited longest of all is put
 * off by nobody, and nothing new begins around it: so everybody's turn comes, also that of a relay
 * between two busy senders that do not hear each other.
 *
 * Fate: random numbers are not drawn from a stream but computed from (link's key, frame number,
 * purpose). Nothing that happens elsewhere can shift them. Only Gilbert-Elliott keeps a state, and
 * it is moved by the same numbers once a frame, in frame order.
 *
 * Bounds: frames, deliveries and queues are arrays made at open. The heap has one slot for each
 * delivery and each node, and so cannot overflow. */
#include "sim/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "os/os.h"

enum { FATE_LOSS, FATE_BURST, FATE_JITTER, FATE_DRAWS = 4, NO_LINK = 0 };

struct event {
	int64_t at_ns;
	uint64_t order; /* among events of one moment */
	uint32_t node;  /* who may transmit, or who receives */
	uint32_t link;  /* NO_LINK: transmit */
	uint32_t frame; /* of an arrival */
};

struct link {
	struct channel_link set;
	struct channel_link_stats stats;
	uint64_t key; /* of its random numbers */
	bool in_burst;
};

struct node {
	uint32_t *queue; /* frame indices, a ring of queue_frames */
	uint32_t queue_first;
	uint32_t queue_count;
	int64_t busy_until_ns;  /* may not transmit before */
	uint64_t last_transmit; /* turn of its last transmission, for fairness */
	struct channel_node_stats stats;
};

struct channel {
	struct channel_options options;
	struct channel_frame *frames;
	uint8_t *bytes;
	uint32_t *free_frames; /* a stack */
	uint32_t free_count;
	uint64_t exhausted;
	struct node *nodes;
	uint32_t *queues;
	uint32_t *link_of;  /* [from * node_count + to] -> index into links, NO_LINK */
	struct link *links; /* links[NO_LINK] is not used */
	uint32_t link_count;
	struct event *heap;
	uint32_t heap_count;
	uint32_t arrival_count; /* of the events in the heap */
	uint64_t turn;          /* rises with each transmission and arrival scheduled */
	int64_t now_ns;
};

/* ---- heap ---- */

static bool event_before(const struct event *a, const struct event *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void heap_push(struct channel *channel, const struct event *event)
{
	uint32_t at = channel->heap_count++;

	HAUL_ASSERT(at < channel->options.deliveries_max + channel->options.node_count);
	while (at > 0 && event_before(event, &channel->heap[(at - 1) / 2])) {
		channel->heap[at] = channel->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	channel->heap[at] = *event;
}

static struct event heap_pop(struct channel *channel)
{
	struct event *heap = channel->heap;
	struct event first = heap[0];
	struct event last;
	uint32_t at = 0;
	uint32_t child;

	HAUL_ASSERT(channel->heap_count > 0);
	last = heap[--channel->heap_count];
	while ((child = 2 * at + 1) < channel->heap_count) {
		if (child + 1 < channel->heap_count && event_before(&heap[child + 1], &heap[child]))
			child++;
		if (!event_before(&heap[child], &last))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = last;
	return first;
}

/* ---- frames ---- */

struct channel_frame *channel_get(struct channel *channel)
{
	struct channel_frame *frame;

	if (channel->free_count == 0) {
		channel->exhausted++;
		return NULL;
	}
	frame = &channel->frames[channel->free_frames[--channel->free_count]];
	HAUL_ASSERT(frame->refs == 0);
	frame->refs = 1;
	return frame;
}

void channel_put(struct channel *channel, struct channel_frame *frame)
{
	HAUL_ASSERT(frame->refs > 0);
	if (--frame->refs == 0)
		channel->free_frames[channel->free_count++] = (uint32_t)(frame - channel->frames);
	HAUL_ASSERT(channel->free_count <= channel->options.frames_max);
}

uint32_t channel_frames_in_use(const struct channel *channel)
{
	return channel->options.frames_max - channel->free_count;
}

uint64_t channel_exhausted(const struct channel *channel)
{
	return channel->exhausted;
}

/* ---- links ---- */

static struct link *link_find(const struct channel *channel, uint32_t from, uint32_t to)
{
	uint32_t index;

	HAUL_ASSERT(from < channel->options.node_count);
	HAUL_ASSERT(to < channel->options.node_count);
	index = channel->link_of[(size_t)from * channel->options.node_count + to];
	return index == NO_LINK ? NULL : &channel->links[index];
}

static bool is_probability(double p)
{
	return p >= 0.0 && p <= 1.0;
}

int channel_link_set(struct channel *channel, uint32_t from, uint32_t to,
		     const struct channel_link *set)
{
	struct link *link = link_find(channel, from, to);

	if (from == to || set->latency_ns < 0 || set->jitter_ns < 0 ||
	    !(set->rate_bit_per_s >= 0.0))
		return -EINVAL;
	if (!is_probability(set->loss) || !is_probability(set->loss_in_burst) ||
	    !is_probability(set->burst_enter) || !is_probability(set->burst_leave))
		return -EINVAL;
	if (link == NULL && !set->up)
		return 0;
	if (link == NULL) {
		if (channel->link_count == channel->options.links_max)
			return HAUL_EFULL;
		link = &channel->links[++channel->link_count];
		link->key = hash_u64(channel->options.seed +
				     hash_u64((uint64_t)(from + 1) << 32 | (to + 1)));
		channel->link_of[(size_t)from * channel->options.node_count + to] =
			channel->link_count;
	}
	link->set = *set;
	return 0;
}

struct channel_link channel_link_get(const struct channel *channel, uint32_t from, uint32_t to)
{
	const struct link *link = link_find(channel, from, to);

	return link == NULL ? (struct channel_link){ 0 } : link->set;
}

const struct channel_link_stats *channel_link_stats(const struct channel *channel, uint32_t from,
						    uint32_t to)
{
	const struct link *link = link_find(channel, from, to);

	return link == NULL ? NULL : &link->stats;
}

const struct channel_node_stats *channel_node_stats(const struct channel *channel, uint32_t node)
{
	HAUL_ASSERT(node < channel->options.node_count);
	return &channel->nodes[node].stats;
}

/* ---- fate ---- */

/* [0, 1), of one link, frame and purpose */
static double fate_draw(const struct link *link, uint32_t purpose)
{
	uint64_t index = link->stats.sent * FATE_DRAWS + purpose + 1;

	HAUL_ASSERT(purpose < FATE_DRAWS);
	return (double)(hash_u64(link->key + index * UINT64_C(0x9e3779b97f4a7c15)) >> 11) *
	       0x1.0p-53;
}

static bool fate_is_lost(struct link *link)
{
	double change = fate_draw(link, FATE_BURST);

	link->in_burst =
		link->in_burst ? change >= link->set.burst_leave : change < link->set.burst_enter;
	return fate_draw(link, FATE_LOSS) <
	       (link->in_burst ? link->set.loss_in_burst : link->set.loss);
}

static int64_t fate_delay_ns(const struct link *link)
{
	double deviation = 2.0 * fate_draw(link, FATE_JITTER) - 1.0;
	int64_t delay_ns =
		link->set.latency_ns + (int64_t)(deviation * (double)link->set.jitter_ns);

	return delay_ns > 0 ? delay_ns : 0;
}

/* One frame, on the air, for one link: is it lost? */
static bool link_loses(struct link *link)
{
	bool lost;

	link->stats.sent++; /* first: it is the number of the frame, by which fate goes */
	lost = fate_is_lost(link);
	link->stats.lost += lost;
	return lost;
}

/* A frame that was not lost and has left the air at end_ns is on its way. */
static void link_carry(struct channel *channel, struct link *link, struct channel_frame *frame,
		       uint32_t to, int64_t end_ns)
{
	struct event arrival = { .at_ns = end_ns + fate_delay_ns(link),
				 .order = ++channel->turn,
				 .node = to,
				 .link = (uint32_t)(link - channel->links),
				 .frame = (uint32_t)(frame - channel->frames) };

	if (channel->arrival_count == channel->options.deliveries_max) {
		link->stats.dropped++;
		return;
	}
	frame->refs++;
	channel->arrival_count++;
	heap_push(channel, &arrival);
}

/* ---- transmitting ---- */

static int64_t airtime_ns(const struct channel *channel, const struct channel_frame *frame)
{
	const struct link *link = NULL;
	double rate = channel->options.rate_bit_per_s;
	double bits = 8.0 * frame->len;

	if (frame->to != CHANNEL_TO_ALL)
		link = link_find(channel, frame->from, frame->to);
	if (link != NULL && link->set.rate_bit_per_s > 0.0)
		rate = link->set.rate_bit_per_s;
	return channel->options.overhead_ns +
	       (rate > 0.0 ? (int64_t)(bits * (double)NS_PER_S / rate) : 0);
}

/* A frame to one node, again and again until it arrives or the retries are used up. Returns when
 * the last attempt ends. */
static int64_t transmit_to_one(struct channel *channel, struct channel_frame *frame, int64_t at_ns)
{
	struct link *link = link_find(channel, frame->from, frame->to);
	int64_t each_ns = airtime_ns(channel, frame);

	if (link == NULL || !link->set.up) {
		channel->nodes[frame->from].stats.out_of_range++;
		return at_ns + each_ns * (1 + channel->options.retries_max);
	}
	for (uint32_t attempt = 0; attempt <= channel->options.retries_max; attempt++) {
		at_ns += each_ns;
		if (!link_loses(link)) {
			link_carry(channel, link, frame, frame->to, at_ns);
			break;
		}
	}
	return at_ns;
}

/* A frame to all, once: nobody acknowledges it. */
static int64_t transmit_to_all(struct channel *channel, struct channel_frame *frame, int64_t at_ns)
{
	bool heard = false;

	at_ns += airtime_ns(channel, frame);
	for (uint32_t to = 0; to < channel->options.node_count; to++) {
		struct link *link = link_find(channel, frame->from, to);

		if (link == NULL || !link->set.up)
			continue;
		heard = true;
		if (!link_loses(link))
			link_carry(channel, link, frame, to, at_ns);
	}
	if (!heard)
		channel->nodes[frame->from].stats.out_of_range++;
	return at_ns;
}

/* Whoever hears the sender keeps silent as long. */
static void occupy(struct channel *channel, uint32_t from, int64_t end_ns)
{
	channel->nodes[from].busy_until_ns = end_ns;
	for (uint32_t to = 0; channel->options.shared && to < channel->options.node_count; to++) {
		const struct link *link = link_find(channel, from, to);

		if (link != NULL && link->set.up && channel->nodes[to].busy_until_ns < end_ns)
			channel->nodes[to].busy_until_ns = end_ns;
	}
}

static void transmit(struct channel *channel, struct channel_frame *frame, int64_t at_ns)
{
	struct node *sender = &channel->nodes[frame->from];
	int64_t end_ns;

	HAUL_ASSERT(at_ns >= sender->busy_until_ns);
	if (frame->to == CHANNEL_TO_ALL)
		end_ns = transmit_to_all(channel, frame, at_ns);
	else
		end_ns = transmit_to_one(channel, frame, at_ns);
	occupy(channel, frame->from, end_ns);
	sender->last_transmit = ++channel->turn;
	sender->stats.sent++;
	sender->stats.airtime_ns += end_ns - at_ns;
	channel_put(channel, frame);
}

static void transmit_arm(struct channel *channel, uint32_t index, int64_t at_ns)
{
	const struct node *node = &channel->nodes[index];
	struct event event = { .at_ns = at_ns, .order = node->last_transmit, .node = index };

	HAUL_ASSERT(node->queue_count > 0);
	heap_push(channel, &event);
}

/* When the node may transmit as far as is known now: its own air must be free, and nobody who would
 * have to keep silent for it may be waiting with the older turn. */
static int64_t transmit_earliest_ns(const struct channel *channel, uint32_t index)
{
	const struct node *node = &channel->nodes[index];
	int64_t earliest_ns = node->busy_until_ns;

	if (!channel->options.shared)
		return earliest_ns;
	for (uint32_t to = 0; to < channel->options.node_count; to++) {
		const struct node *other = &channel->nodes[to];
		const struct link *link;

		if (other->queue_count == 0 || other->last_transmit >= node->last_transmit)
			continue;
		link = link_find(channel, index, to);
		if (link != NULL && link->set.up && other->busy_until_ns > earliest_ns)
			earliest_ns = other->busy_until_ns;
	}
	return earliest_ns;
}

static void transmit_event(struct channel *channel, const struct event *event)
{
	struct node *node = &channel->nodes[event->node];
	int64_t earliest_ns = transmit_earliest_ns(channel, event->node);

	HAUL_ASSERT(node->queue_count > 0);
	if (earliest_ns <= event->at_ns) {
		uint32_t frame = node->queue[node->queue_first];

		node->queue_first = (node->queue_first + 1) % channel->options.queue_frames;
		node->queue_count--;
		transmit(channel, &channel->frames[frame], event->at_ns);
		earliest_ns = node->busy_until_ns;
	}
	if (node->queue_count > 0)
		transmit_arm(channel, event->node, earliest_ns);
}

void channel_send(struct channel *channel, struct channel_frame *frame, int64_t now_ns)
{
	struct node *node = &channel->nodes[frame->from];
	uint32_t last;

	HAUL_ASSERT(frame->from < channel->options.node_count);
	HAUL_ASSERT(frame->to == CHANNEL_TO_ALL || frame->to < channel->options.node_count);
	HAUL_ASSERT(frame->len <= channel->options.frame_bytes_max);
	HAUL_ASSERT(now_ns >= channel->now_ns);
	channel->now_ns = now_ns;
	if (node->queue_count == channel->options.queue_frames) {
		node->stats.dropped++;
		channel_put(channel, frame);
		return;
	}
	frame->sent_ns = now_ns;
	last = (node->queue_first + node->queue_count) % channel->options.queue_frames;
	node->queue[last] = (uint32_t)(frame - channel->frames);
	if (node->queue_count++ == 0)
		transmit_arm(channel, frame->from, now_ns);
}

/* ---- receiving ---- */

static struct channel_delivery arrive(struct channel *channel, const struct event *event)
{
	struct link *link = &channel->links[event->link];
	struct channel_delivery delivery = { .frame = &channel->frames[event->frame],
					     .to = event->node,
					     .due_ns = event->at_ns };

	HAUL_ASSERT(channel->arrival_count > 0);
	channel->arrival_count--;
	link->stats.delivered++;
	link->stats.bytes += delivery.frame->len;
	haul_hist_add(&link->stats.delay_ns, (uint64_t)(channel->now_ns - delivery.frame->sent_ns),
		      1);
	return delivery;
}

uint32_t channel_take(struct channel *channel, int64_t now_ns, struct channel_delivery *out,
		      uint32_t max)
{
	uint32_t count = 0;

	HAUL_ASSERT(now_ns >= channel->now_ns);
	channel->now_ns = now_ns;
	while (count < max && channel->heap_count > 0 && channel->heap[0].at_ns <= now_ns) {
		struct event event = heap_pop(channel);

		if (event.link == NO_LINK)
			transmit_event(channel, &event);
		else
			out[count++] = arrive(channel, &event);
	}
	return count;
}

int64_t channel_next_ns(const struct channel *channel)
{
	return channel->heap_count > 0 ? channel->heap[0].at_ns : INT64_MAX;
}

/* ---- open and close ---- */

static bool options_are_valid(const struct channel_options *options)
{
	return options->node_count >= 1 && options->node_count <= CHANNEL_NODES_MAX &&
	       options->links_max >= 1 &&
	       options->links_max <= options->node_count * options->node_count &&
	       options->frames_max >= 1 && options->frame_bytes_max >= 1 &&
	       options->deliveries_max >= 1 && options->queue_frames >= 1 &&
	       options->queue_frames <= CHANNEL_QUEUE_FRAMES_MAX &&
	       options->retries_max <= CHANNEL_RETRIES_MAX && options->overhead_ns >= 0 &&
	       options->rate_bit_per_s >= 0.0;
}

static bool channel_allocate(struct channel *channel)
{
	const struct channel_options *options = &channel->options;
	size_t nodes = options->node_count;

	channel->frames = calloc(options->frames_max, sizeof *channel->frames);
	channel->bytes = calloc(options->frames_max, options->frame_bytes_max);
	channel->free_frames = calloc(options->frames_max, sizeof *channel->free_frames);
	channel->nodes = calloc(nodes, sizeof *channel->nodes);
	channel->queues = calloc(nodes * options->queue_frames, sizeof *channel->queues);
	channel->link_of = calloc(nodes * nodes, sizeof *channel->link_of);
	/* Pages of links that never come up are never touched: 4 KiB of histogram each. */
	channel->links = calloc((size_t)options->links_max + 1, sizeof *channel->links);
	channel->heap = calloc(options->deliveries_max + nodes, sizeof *channel->heap);
	return channel->frames != NULL && channel->bytes != NULL && channel->free_frames != NULL &&
	       channel->nodes != NULL && channel->queues != NULL && channel->link_of != NULL &&
	       channel->links != NULL && channel->heap != NULL;
}

int channel_open(const struct channel_options *options, struct channel **ret_channel,
		 struct haul_err *err)
{
	struct channel *channel;

	if (!options_are_valid(options))
		return haul_err_set(err, -EINVAL, "channel: an option is out of its range");
	channel = calloc(1, sizeof *channel);
	if (channel == NULL)
		return haul_err_set(err, -ENOMEM, "channel: out of memory");
	channel->options = *options;
	if (!channel_allocate(channel)) {
		channel_close(channel);
		return haul_err_set(err, -ENOMEM, "channel: no memory for %u frames of %u bytes",
				    options->frames_max, options->frame_bytes_max);
	}
	for (uint32_t i = 0; i < options->frames_max; i++) {
		channel->frames[i].bytes = channel->bytes + (size_t)i * options->frame_bytes_max;
		channel->free_frames[i] = options->frames_max - 1 - i;
	}
	channel->free_count = options->frames_max;
	for (uint32_t i = 0; i < options->node_count; i++)
		channel->nodes[i].queue = channel->queues + (size_t)i * options->queue_frames;
	channel->now_ns = INT64_MIN;
	*ret_channel = channel;
	return 0;
}

void channel_close(struct channel *channel)
{
	if (channel == NULL)
		return;
	free(channel->heap);
	free(channel->links);
	free(channel->link_of);
	free(channel->queues);
	free(channel->nodes);
	free(channel->free_frames);
	free(channel->bytes);
	free(channel->frames);
	free(channel);
}
