/* sim/channel.h — a radio channel (or a wire) between nodes, in real or in simulated time.
 *
 * Model      Nodes 0 … n-1 and directed links between them. A sent frame waits in its sender's
 *            queue until the sender may transmit, is on the air for its airtime, and then reaches
 *            each receiver, or is lost, by the parameters of that link:
 *              airtime   overhead + bytes at the link's rate (frames to all: the medium's rate)
 *              medium    shared: while a node transmits, neither it nor anybody with a link from
 *                        it may; out of earshot they may. Nodes that wait take turns, the one that
 *                        transmitted longest ago first. Not shared: each sender by itself.
 *              loss      independent a frame; or Gilbert-Elliott, where burst_enter > 0
 *              delay     latency ± jitter, uniform; frames overtake each other where jitter is
 *                        larger than their distance
 *              retries   a lost frame to one node is sent again at once, up to retries_max times,
 *                        and takes the air each time; frames to all are sent once
 *            Not modelled: collisions (everyone waits for those it hears, and a hidden sender does
 *            no harm), and capture.
 * Fate       What becomes of frame k of a link depends on (seed, from, to, k) and the link's
 *            parameters alone: never on other links, on time or on the order of calls. k counts the
 *            frames that went on the air for that link, retries included.
 * Units      ns, bytes, bit/s; probabilities 0 … 1.
 * Ownership  a frame from channel_get is the caller's until channel_send or channel_put. A delivery
 *            holds the frame until the caller puts it. Broadcast frames are shared, not copied.
 * Memory     all at open.
 * Threads    one at a time.
 * Errors     channel_get: NULL when every frame is in use; channel_send drops and counts, never
 *            fails.
 * Limits     CHANNEL_NODES_MAX nodes, options.links_max links that were ever up. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>
#include <haul/stats.h>

enum { CHANNEL_NODES_MAX = 1024, CHANNEL_QUEUE_FRAMES_MAX = 65536, CHANNEL_RETRIES_MAX = 16 };

#define CHANNEL_TO_ALL UINT32_MAX

struct channel_options {
	uint32_t node_count;
	uint32_t links_max;       /* directed links */
	uint32_t frames_max;      /* waiting, on the air and out with the caller, of all nodes */
	uint32_t frame_bytes_max; /* of one */
	uint32_t deliveries_max;  /* frames under way, a broadcast counted once a receiver */
	uint32_t queue_frames;    /* a sender's queue; what does not fit is dropped at its tail */
	uint32_t retries_max;     /* of a lost frame to one node */
	bool shared;              /* half duplex: a transmission keeps its hearers silent */
	int64_t overhead_ns;      /* of airtime, for each frame */
	double rate_bit_per_s;    /* 0 = without limit */
	uint64_t seed;
};

struct channel_link {
	bool up;
	int64_t latency_ns;
	int64_t jitter_ns; /* largest deviation from latency, either way */
	double loss;       /* outside of bursts */
	double loss_in_burst;
	double burst_enter;    /* chance a frame that a burst begins, 0 = never */
	double burst_leave;    /* chance a frame that a burst ends */
	double rate_bit_per_s; /* for frames to this node alone; 0 = the medium's */
};

/* What happened on a link, as measured. */
struct channel_link_stats {
	uint64_t sent;             /* frames that went on the air for it, retries included */
	uint64_t lost;             /* of these: lost by chance */
	uint64_t dropped;          /* of these: no room among the deliveries */
	uint64_t delivered;        /* of these: taken by the caller */
	uint64_t bytes;            /* delivered */
	struct haul_hist delay_ns; /* channel_send -> channel_take, of what was delivered */
};

struct channel_node_stats {
	uint64_t sent;         /* frames transmitted */
	uint64_t dropped;      /* its queue was full */
	uint64_t out_of_range; /* the link to the destination is down, or nobody hears */
	int64_t airtime_ns;    /* spent transmitting */
};

struct channel_frame {
	uint8_t *bytes;
	uint32_t len;    /* set by the caller before channel_send */
	uint32_t from;   /* the same */
	uint32_t to;     /* the same: a node or CHANNEL_TO_ALL */
	uint32_t refs;   /* channel's */
	int64_t sent_ns; /* channel's: when channel_send was called */
};

struct channel_delivery {
	struct channel_frame *frame;
	uint32_t to;
	int64_t due_ns;
};

struct channel;

int channel_open(const struct channel_options *options, struct channel **ret_channel,
		 struct haul_err *err);
/* NULL is allowed. */
void channel_close(struct channel *channel);

/* Set the directed link from -> to. HAUL_EFULL when links_max links exist; -EINVAL for values that
 * are out of their range. */
int channel_link_set(struct channel *channel, uint32_t from, uint32_t to,
		     const struct channel_link *set);
/* The link as it is, all zero where there never was one. */
struct channel_link channel_link_get(const struct channel *channel, uint32_t from, uint32_t to);

struct channel_frame *channel_get(struct channel *channel);
void channel_put(struct channel *channel, struct channel_frame *frame);
/* Hand a frame to its sender's queue; now_ns never goes back between calls. */
void channel_send(struct channel *channel, struct channel_frame *frame, int64_t now_ns);
/* Move time to now_ns and take up to max frames that have arrived, in order of arrival. When it
 * returns max there may be more. */
uint32_t channel_take(struct channel *channel, int64_t now_ns, struct channel_delivery *out,
		      uint32_t max);
/* When something happens next; INT64_MAX = nothing is under way. */
int64_t channel_next_ns(const struct channel *channel);

/* NULL where there never was a link. */
const struct channel_link_stats *channel_link_stats(const struct channel *channel, uint32_t from,
						    uint32_t to);
const struct channel_node_stats *channel_node_stats(const struct channel *channel, uint32_t node);
/* Times that channel_get found no frame. */
uint64_t channel_exhausted(const struct channel *channel);
/* Frames not in the store: waiting, under way or out with the caller. */
uint32_t channel_frames_in_use(const struct channel *channel);
