#include "lab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/testlib.h"

/* ---- a link whose kernel is the test ---- */

static int lab_rx(struct haul_link *link, struct haul_frames *frames, struct link_burst *burst)
{
	struct lab_link *lab = (struct lab_link *)link;
	if (lab->rx_code < 0)
		return lab->rx_code;
	burst->syscalls++;
	while (lab->in_taken < lab->in_count && haul_frames_room(frames) > 0) {
		const struct lab_frame *in = &lab->in[lab->in_taken++];
		uint32_t i = frames->count;
		struct haul_frame row = { .data = in->data,
					  .len = in->len,
					  .peer = in->peer,
					  .flags = in->flags,
					  .csum_start = in->csum_start,
					  .csum_offset = in->csum_offset };
		assert_int_equal(haul_frames_push(frames, &row), 0);
		frames->addr[i] = in->from;
		frames->from[i] = i;
		frames->addr_count = frames->count;
	}
	if (lab->in_taken == lab->in_count) {
		uint64_t signals;
		(void)!read(link->fd, &signals, sizeof signals);
	}
	return (int)frames->count;
}

static void record_row(struct lab_link *lab, const struct haul_frames *frames, uint32_t i)
{
	assert_true(lab->out_count < LAB_FRAMES);
	assert_true(lab->out_used + haul_frame_bytes(frames, i) <= LAB_BYTES);
	struct lab_frame *out = &lab->out[lab->out_count++];
	*out = (struct lab_frame){
		.data = lab->out_bytes + lab->out_used,
		.peer = frames->peer[i],
		.flags = frames->flags[i],
		.csum_start = frames->csum_start[i],
		.csum_offset = frames->csum_offset[i],
		.sent_data = frames->data[i],
		.sent_tail = frames->tail_len[i] > 0 ? frames->tail[i] : NULL,
	};
	out->len = haul_frame_copy(frames, i, out->data);
	lab->out_used += out->len;
}

static int lab_tx(struct haul_link *link, struct haul_send_batch *batch, struct link_burst *burst)
{
	struct lab_link *lab = (struct lab_link *)link;
	int sent = 0;
	haul_send_batch_group(batch);
	lab->tx_calls++;
	burst->syscalls++;
	for (uint32_t n = 0; n < batch->frames.count; n++) {
		uint32_t i = batch->order[n];
		batch->frames.status[i] = 0;
		if (lab->refuse > 0) {
			lab->refuse--;
			batch->frames.status[i] = lab->refuse_code;
			continue;
		}
		record_row(lab, &batch->frames, i);
		sent++;
	}
	return sent;
}

static int lab_peer_set(struct haul_link *link, uint32_t peer, const struct haul_addr *addr)
{
	(void)link;
	(void)peer;
	(void)addr;
	return 0;
}

static void lab_link_close(struct haul_link *link)
{
	struct lab_link *lab = (struct lab_link *)link;
	link_done(link);
	close(link->fd);
	free(lab->in_bytes);
	free(lab->out_bytes);
	free(lab);
}

static const struct link_ops lab_ops = {
	.rx = lab_rx,
	.tx = lab_tx,
	.peer_set = lab_peer_set,
	.close = lab_link_close,
};

static struct lab_link *lab_link_open(const char *name, uint32_t mtu_bytes)
{
	struct haul_link_options options;
	struct lab_link *lab = aligned_alloc(_Alignof(struct lab_link), sizeof *lab);
	assert_non_null(lab);
	memset(lab, 0, sizeof *lab);
	haul_link_options_init(&options, HAUL_LINK_MEM);
	strncpy(options.name, name, sizeof options.name - 1);
	options.mtu_bytes = mtu_bytes;
	options.burst_max = LINK_BURST_DEFAULT;
	assert_int_equal(link_init(&lab->link, &options, &lab_ops, NULL), 0);
	assert_int_equal(peers_open(&lab->link.peers), 0);
	lab->link.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(lab->link.fd >= 0);
	lab->in_bytes = malloc(LAB_BYTES);
	lab->out_bytes = malloc(LAB_BYTES);
	assert_non_null(lab->in_bytes);
	assert_non_null(lab->out_bytes);
	return lab;
}

struct lab_frame *lab_receive(struct lab *lab, uint32_t port, const uint8_t *bytes, uint32_t len,
			      uint32_t peer)
{
	struct lab_link *link = lab->link[port];
	uint64_t one = 1;
	assert_true(link->in_count < LAB_FRAMES);
	assert_true(link->in_used + HAUL_FRAME_HEADROOM_BYTES + len <= LAB_BYTES);
	struct lab_frame *in = &link->in[link->in_count++];
	*in = (struct lab_frame){
		.data = link->in_bytes + link->in_used + HAUL_FRAME_HEADROOM_BYTES,
		.len = len,
		.peer = peer,
		.flags = HAUL_FRAME_HEADROOM,
		.from = { .kind = HAUL_ADDR_MAC },
	};
	mac_store(in->from.bytes,
		  0x0a0000000000 + (peer == HAUL_PEER_NONE ? link->in_count : peer));
	memcpy(in->data, bytes, len);
	link->in_used += HAUL_FRAME_HEADROOM_BYTES + len;
	assert_int_equal(write(link->link.fd, &one, sizeof one), sizeof one);
	return in;
}

struct lab_frame *lab_message(struct lab *lab, uint32_t port, uint32_t peer,
			      const struct haul_message_header *header, const uint8_t *body,
			      uint32_t body_len)
{
	static uint8_t bytes[HAUL_MESSAGE_BYTES_MAX];
	haul_message_put(bytes, header, HAUL_MESSAGE_HEADER_BYTES + body_len);
	memcpy(bytes + HAUL_MESSAGE_HEADER_BYTES, body, body_len);
	return lab_receive(lab, port, bytes, HAUL_MESSAGE_HEADER_BYTES + body_len, peer);
}

void lab_ethernet(uint8_t *out, uint32_t len, uint64_t dst, uint64_t src, uint32_t seed)
{
	mac_store(out, dst);
	mac_store(out + 6, src);
	for (uint32_t i = 12; i < len; i++)
		out[i] = (uint8_t)(seed + i * 7 + (i >> 8));
	if (len >= 14)
		be16_store(out + 12, 0x0800);
}

/* ---- a datapath between three of them ---- */

void lab_open(struct lab *lab, const struct lab_options *options)
{
	static const char *const names[NODE_PORTS] = { "tap", "radio", "backhaul" };
	uint32_t mtu_bytes = options->mtu_bytes != 0 ? options->mtu_bytes : 1472;
	memset(lab, 0, sizeof *lab);
	lab->role = options->role;
	assert_int_equal(haul_frames_init(&lab->sent, HAUL_FRAMES_MAX), 0);
	assert_int_equal(haul_messages_init(&lab->decoded, HAUL_FRAMES_MAX), 0);
	lab->self = options->self != 0 ? options->self : LAB_SELF;
	os_sim_init(&lab->os, 1);
	os_sim_advance(&lab->os, NS_PER_S);
	assert_int_equal(mailbox_open(&lab->mailbox), 0);
	struct datapath_options datapath = {
		.role = options->role,
		.self = lab->self,
		.sequence = 1,
		.ttl = 8,
		.limits = haul_limits_preset(options->preset),
		.individual = options->individual,
		.mailbox = &lab->mailbox,
		.os = &lab->os.os,
	};
	datapath.sizer = datapath_sizer(options->policy, &datapath.limits, options->individual);
	for (uint32_t port = 0; port < NODE_PORTS; port++) {
		lab->link[port] = lab_link_open(names[port], mtu_bytes);
		datapath.link[port] = &lab->link[port]->link;
	}
	assert_int_equal(datapath_open(&datapath, &lab->datapath, NULL), 0);
}

void lab_close(struct lab *lab)
{
	datapath_close(lab->datapath);
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		haul_link_close(&lab->link[port]->link);
	mailbox_close(&lab->mailbox);
	snapshot_free(lab->snapshot);
	haul_frames_done(&lab->sent);
	haul_messages_done(&lab->decoded);
}

void lab_clear(struct lab *lab)
{
	for (uint32_t port = 0; port < NODE_PORTS; port++) {
		struct lab_link *link = lab->link[port];
		link->in_count = link->in_taken = link->in_used = 0;
		link->out_count = link->out_used = link->tx_calls = 0;
	}
}

void lab_publish(struct lab *lab, struct snapshot_input *input)
{
	struct snapshot *before = lab->snapshot;
	input->generation = ++lab->generation;
	input->self = lab->self;
	input->role = lab->role;
	assert_int_equal(snapshot_build(input, &lab->snapshot), 0);
	mailbox_publish(&lab->mailbox, lab->snapshot);
	assert_int_equal(datapath_turn(lab->datapath, 0), 0);
	assert_int_equal(mailbox_in_use(&lab->mailbox), lab->generation);
	snapshot_free(before);
}

uint32_t lab_run(struct lab *lab)
{
	uint32_t total = 0;
	int count;
	while ((count = datapath_turn(lab->datapath, 0)) > 0)
		total += (uint32_t)count;
	assert_int_equal(count, 0);
	return total;
}

uint64_t lab_counter(const struct lab *lab, enum datapath_counter counter)
{
	return datapath_stats(lab->datapath)->extra[counter];
}

uint64_t lab_reject(const struct lab *lab, enum haul_reject reject)
{
	return datapath_stats(lab->datapath)->extra[reject];
}

bool lab_event(struct lab *lab, struct control_event *ret_event)
{
	return ring_pop(&lab->mailbox.events, ret_event, 1) == 1;
}

const struct haul_messages *lab_sent(struct lab *lab, uint32_t port)
{
	const struct lab_link *link = lab->link[port];
	haul_frames_clear(&lab->sent);
	for (uint32_t i = 0; i < link->out_count; i++) {
		struct haul_frame row = { .data = link->out[i].data, .len = link->out[i].len };
		assert_int_equal(haul_frames_push(&lab->sent, &row), 0);
	}
	assert_int_equal(haul_messages_decode(&lab->sent, &lab->decoded), link->out_count);
	return &lab->decoded;
}
