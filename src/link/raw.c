/* link/raw.c — frames of one EtherType straight on an Ethernet interface (packet(7)).
 *
 * Promise: one frame is one Ethernet frame; what is received was sent to this interface's address
 * or to a group; nothing is cut, and nothing is lost here without a count.
 * How: a filter in the kernel drops other EtherTypes, other stations (which an interface in
 * promiscuous mode shows us) and other VLANs (whose tag the kernel hides from us). It is attached
 * before the socket is bound, so nothing slips in between.
 * Each frame has its own message in sendmmsg and recvmmsg; joining frames by writev would make one
 * frame of them.
 *
 * On the wire      6 to, 6 from, 2 EtherType, then the frame of the caller.
 * A receive slot   50 spare, 14 Ethernet header, MTU bytes: the header is part of the headroom.
 *
 * Ethernet pads what is shorter than 46 bytes, and the receiver cannot tell the padding from the
 * frame. So shorter frames are refused (-EMSGSIZE) instead of arriving longer; a message of
 * haul/message.h never is: 32 bytes of header and at least 14 of body.
 *
 * Interface down: rx says -ENETDOWN once and goes on by itself when it is up again. Interface gone:
 * rx says -ENODEV from then on. The kernel tells both by one pending error, which a send may
 * collect; `suspect` makes rx ask for itself after either. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "link/link.h"
#include "link/send.h"

enum {
	RAW_HEADER_BYTES = 14,
	RAW_FRAME_BYTES_MIN = 46,
	RAW_RX_SLOTS_MIN = 256,
	RAW_LOOK_FRAMES = 64, /* ask for the kernel's drop count after so many frames */
	RAW_PIECES = 5        /* Ethernet header, data around a checksum, tail */
};

/* Where a filter finds what the kernel knows about a packet. */
#define AUXILIARY(field) ((uint32_t)(SKF_AD_OFF + (field)))

_Static_assert((int)RAW_HEADER_BYTES <= HAUL_FRAME_HEADROOM_BYTES, "header lies in the headroom");
_Static_assert((int)RAW_HEADER_BYTES <= PEERS_SOCKADDR_BYTES, "header template fits the peer");

struct raw {
	struct haul_link link;
	uint64_t mac;
	uint16_t ethertype;
	uint32_t mtu_ifc_bytes; /* of the interface: what may arrive */
	uint32_t slots;
	uint32_t slot_bytes;
	uint32_t look_frames; /* received since the last look at the drop count */
	uint8_t *slab;
	struct mmsghdr *rx_msg; /* slots */
	struct iovec *rx_iov;   /* slots */
	struct mmsghdr *tx_msg; /* burst_max */
	struct iovec *tx_iov;   /* burst_max * RAW_PIECES */
	uint16_t *tx_checksum;  /* burst_max */
	_Atomic bool suspect;   /* the interface was down; it may be gone */
};

/* What one tx works on. */
struct raw_tx {
	struct raw *raw;
	const struct haul_frames *frames;
	const uint32_t *order;
	struct link_burst *burst;
};

/* ---- send ---- */

/* The peer's column holds the Ethernet header that all frames to it start with. */
static int raw_peer_set(struct haul_link *link, uint32_t peer, const struct haul_addr *addr)
{
	const struct raw *raw = (const struct raw *)link;
	uint8_t *header = link->peers->sockaddr[peer];
	if (addr->kind != HAUL_ADDR_MAC)
		return -EINVAL;
	memcpy(header, addr->bytes, 6);
	mac_store(header + 6, raw->mac);
	be16_store(header + 12, raw->ethertype);
	return 0;
}

static int row_check(const struct raw *raw, const struct haul_frames *frames, uint32_t row)
{
	uint32_t bytes = haul_frame_bytes(frames, row);
	if (!peers_has(raw->link.peers, frames->peer[row]))
		return -EDESTADDRREQ;
	if (bytes < RAW_FRAME_BYTES_MIN || bytes > raw->link.mtu_bytes)
		return -EMSGSIZE;
	return 0;
}

static struct iovec piece(void *base, uint32_t bytes)
{
	return (struct iovec){ .iov_base = base, .iov_len = bytes };
}

/* Make message `at` of a row. Nothing when the row must not go out. */
static int row_fill(struct raw *raw, const struct haul_frames *frames, uint32_t row, uint32_t at)
{
	struct iovec *iov = &raw->tx_iov[at * RAW_PIECES];
	uint8_t *data = frames->data[row];
	uint32_t len = frames->len[row], count = 0;
	int rc = row_check(raw, frames, row);
	if (rc < 0)
		return rc;
	iov[count++] = piece(raw->link.peers->sockaddr[frames->peer[row]], RAW_HEADER_BYTES);
	if ((frames->flags[row] & HAUL_FRAME_CSUM_PARTIAL) != 0) {
		uint32_t field = (uint32_t)frames->csum_start[row] + frames->csum_offset[row];
		rc = send_checksum(&raw->link, frames, row, &raw->tx_checksum[at]);
		if (rc < 0)
			return rc;
		iov[count++] = piece(data, field);
		iov[count++] = piece(&raw->tx_checksum[at], sizeof raw->tx_checksum[at]);
		data += field + 2;
		len -= field + 2;
	}
	iov[count++] = piece(data, len);
	if (frames->tail_len[row] > 0)
		iov[count++] = piece(frames->tail[row], frames->tail_len[row]);
	raw->tx_msg[at].msg_hdr.msg_iovlen = count;
	return 0;
}

/* One call. Returns frames carried, or a code for the first. */
static int hand_over(struct raw *raw, uint32_t count)
{
	int rc;
	if (raw->link.burst_max > 1)
		rc = sendmmsg(raw->link.fd, raw->tx_msg, count, MSG_DONTWAIT);
	else
		rc = sendmsg(raw->link.fd, &raw->tx_msg[0].msg_hdr, MSG_DONTWAIT) < 0 ? -1 : 1;
	if (rc > 0)
		return rc;
	int code = errno == ENXIO ? -ENODEV : -errno;
	if (code == -ENETDOWN || code == -ENODEV)
		atomic_store_explicit(&raw->suspect, true, memory_order_relaxed);
	return code;
}

/* A send_fn: stops short in front of a row that must not go out. */
static int raw_send(void *ctx, uint32_t first, uint32_t count)
{
	struct raw_tx *tx = ctx;
	uint32_t ready = 0;
	int rc = 0;
	HAUL_ASSERT(count >= 1 && count <= tx->raw->link.burst_max);
	for (; ready < count; ready++) {
		rc = row_fill(tx->raw, tx->frames, tx->order[first + ready], ready);
		if (rc < 0)
			break;
	}
	if (ready == 0)
		return rc;
	rc = hand_over(tx->raw, ready);
	tx->burst->syscalls++;
	for (int i = 0; i < rc; i++)
		tx->burst->bytes += haul_frame_bytes(tx->frames, tx->order[first + (uint32_t)i]);
	return rc;
}

static int raw_tx(struct haul_link *link, struct haul_send_batch *batch, struct link_burst *burst)
{
	struct raw_tx tx = {
		.raw = (struct raw *)link,
		.frames = &batch->frames,
		.order = batch->order,
		.burst = burst,
	};
	return send_all(link, batch, raw_send, &tx);
}

/* ---- receive ---- */

/* One call into slots first … first+count-1. Returns frames, 0 when none is queued, or a code. */
static int fetch(struct raw *raw, uint32_t first, uint32_t count)
{
	struct mmsghdr *msg = &raw->rx_msg[first];
	int rc;
	if (raw->link.burst_max > 1) {
		rc = recvmmsg(raw->link.fd, msg, count, MSG_DONTWAIT, NULL);
	} else {
		ssize_t got = recvmsg(raw->link.fd, &msg->msg_hdr, MSG_DONTWAIT);
		msg->msg_len = got > 0 ? (unsigned int)got : 0;
		rc = got < 0 ? -1 : 1;
	}
	if (rc >= 0)
		return rc;
	return errno == EAGAIN ? 0 : -errno;
}

/* Nothing is queued and the interface has been seen down: gone, or only down? */
static int look_for_interface(struct raw *raw)
{
	struct sockaddr_ll bound = { 0 };
	socklen_t bytes = sizeof bound;
	int rc = getsockname(raw->link.fd, (struct sockaddr *)&bound, &bytes);
	HAUL_ASSERT(rc == 0);
	return bound.sll_ifindex < 0 ? -ENODEV : 0;
}

/* The kernel starts to count again with each look. */
static void look_at_drops(struct raw *raw, struct link_burst *burst)
{
	struct tpacket_stats seen;
	socklen_t bytes = sizeof seen;
	int rc = getsockopt(raw->link.fd, SOL_PACKET, PACKET_STATISTICS, &seen, &bytes);
	HAUL_ASSERT(rc == 0);
	burst->syscalls++;
	haul_stats_count(&raw->link.rx_stats, LINK_RX_QUEUE_DROPS, seen.tp_drops);
	raw->look_frames = 0;
}

/* Sender of the frame: neighbours in a burst mostly share one. */
static uint32_t sender(const struct raw *raw, struct haul_frames *frames, const uint8_t *mac)
{
	uint32_t last = frames->addr_count - 1;
	struct haul_addr *addr = &frames->addr[frames->addr_count];
	if (frames->addr_count > 0 && memcmp(frames->addr[last].bytes, mac, 6) == 0)
		return frames->peer[frames->count - 1];
	*addr = (struct haul_addr){ .kind = HAUL_ADDR_MAC };
	memcpy(addr->bytes, mac, 6);
	frames->addr_count++;
	int peer = peers_find(raw->link.peers, addr);
	return peer < 0 ? HAUL_PEER_NONE : (uint32_t)peer;
}

/* Turn a slot into a row, or count why not. */
static uint32_t accept_slot(struct raw *raw, uint32_t slot, struct haul_frames *frames)
{
	uint8_t *data = raw->slab + (size_t)slot * raw->slot_bytes + HAUL_FRAME_HEADROOM_BYTES;
	const uint8_t *header = data - RAW_HEADER_BYTES;
	uint32_t bytes = raw->rx_msg[slot].msg_len;
	if ((raw->rx_msg[slot].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
		haul_stats_count(&raw->link.rx_stats, LINK_RX_TRUNCATED, 1);
		return 0;
	}
	if (bytes <= RAW_HEADER_BYTES) {
		haul_stats_count(&raw->link.rx_stats, LINK_RX_MALFORMED, 1);
		return 0;
	}
	uint32_t peer = sender(raw, frames, header + 6);
	uint32_t i = frames->count++;
	bool group = mac_is_group(mac_load(header));
	frames->data[i] = data;
	frames->tail[i] = NULL;
	frames->len[i] = bytes - RAW_HEADER_BYTES;
	frames->tail_len[i] = 0;
	frames->peer[i] = peer;
	frames->from[i] = frames->addr_count - 1;
	frames->flags[i] = (uint16_t)(HAUL_FRAME_HEADROOM | (group ? HAUL_FRAME_BROADCAST : 0));
	frames->csum_start[i] = 0;
	frames->csum_offset[i] = 0;
	frames->status[i] = 0;
	return frames->len[i];
}

static int raw_rx(struct haul_link *link, struct haul_frames *frames, struct link_burst *burst)
{
	struct raw *raw = (struct raw *)link;
	uint32_t room = haul_frames_room(frames);
	uint32_t limit = link->burst_max == 1 ? 1 : room < raw->slots ? room : raw->slots;
	uint32_t used = 0, wanted = 0;
	int got = 0;
	do {
		wanted = limit - used < link->burst_max ? limit - used : link->burst_max;
		got = fetch(raw, used, wanted);
		burst->syscalls++;
		for (int i = 0; i < got; i++)
			burst->bytes += accept_slot(raw, used++, frames);
	} while (got == (int)wanted && used < limit);

	raw->look_frames += used;
	if (raw->look_frames >= RAW_LOOK_FRAMES)
		look_at_drops(raw, burst);
	if (used == limit)
		burst->reason = HAUL_CLOSE_OPS;
	bool suspect = atomic_load_explicit(&raw->suspect, memory_order_relaxed) || got < 0;
	atomic_store_explicit(&raw->suspect, suspect && used == 0, memory_order_relaxed);
	if (frames->count > 0)
		return (int)frames->count;
	if (suspect && used == 0 && look_for_interface(raw) < 0)
		return -ENODEV;
	return got < 0 ? got : 0;
}

/* ---- open and close ---- */

static void raw_close(struct haul_link *link)
{
	struct raw *raw = (struct raw *)link;
	if (link->fd >= 0)
		(void)close(link->fd);
	free(raw->slab);
	free(raw->rx_msg);
	free(raw->rx_iov);
	free(raw->tx_msg);
	free(raw->tx_iov);
	free(raw->tx_checksum);
	link_done(link);
	free(raw);
}

static const struct link_ops raw_ops = {
	.rx = raw_rx,
	.tx = raw_tx,
	.peer_set = raw_peer_set,
	.close = raw_close,
};

/* Address, type and MTU of the interface. */
static int interface_read(struct raw *raw, const struct haul_link_options *options,
			  struct haul_err *err)
{
	struct ifreq request = { 0 };
	memcpy(request.ifr_name, options->ifname, sizeof request.ifr_name);
	if (ioctl(raw->link.fd, SIOCGIFHWADDR, &request) < 0)
		return haul_err_set(err, -errno, "%s: interface \"%s\": %s", options->name,
				    options->ifname, strerror(errno));
	if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return haul_err_set(err, HAUL_ECONFIG, "%s: interface %s is no Ethernet interface",
				    options->name, options->ifname);
	raw->mac = mac_load((const uint8_t *)request.ifr_hwaddr.sa_data);
	if (ioctl(raw->link.fd, SIOCGIFMTU, &request) < 0)
		return haul_err_set(err, -errno, "%s: mtu of %s: %s", options->name,
				    options->ifname, strerror(errno));
	HAUL_ASSERT(request.ifr_mtu > 0);
	raw->mtu_ifc_bytes = (uint32_t)request.ifr_mtu;
	if (raw->mtu_ifc_bytes > HAUL_FRAME_BYTES_MAX)
		raw->mtu_ifc_bytes = HAUL_FRAME_BYTES_MAX;
	if (options->mtu_bytes > raw->mtu_ifc_bytes)
		return haul_err_set(
			err, HAUL_ECONFIG, "%s: mtu_bytes %u is over the mtu %u of interface %s",
			options->name, options->mtu_bytes, raw->mtu_ifc_bytes, options->ifname);
	if (options->mtu_bytes == 0)
		raw->link.mtu_bytes = raw->mtu_ifc_bytes;
	raw->link.local.kind = HAUL_ADDR_MAC;
	mac_store(raw->link.local.bytes, raw->mac);
	return 0;
}

/* Ours: of our EtherType, to us or to a group, and from no VLAN. The kernel has taken the tag off
 * before we see the frame, but has noted that it was for somebody else: another host, or the
 * interface of that VLAN. */
static int filter_attach(const struct raw *raw, uint32_t ifindex)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AUXILIARY(SKF_AD_PKTTYPE)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OTHERHOST, 11, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AUXILIARY(SKF_AD_IFINDEX)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ifindex, 0, 9),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, raw->ethertype, 0, 7),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 4, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(raw->mac >> 16), 0, 3),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(raw->mac & 0xffff), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX), /* the whole frame */
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = { .len = sizeof code / sizeof code[0], .filter = code };
	if (setsockopt(raw->link.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0)
		return -errno;
	return 0;
}

static int option_set(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

/* Past the system's limit where we may, else up to it. */
static int buffers_set(int fd, uint32_t bytes)
{
	int value = (int)bytes, rc = 0;
	if (option_set(fd, SOL_SOCKET, SO_RCVBUFFORCE, value) < 0)
		rc = option_set(fd, SOL_SOCKET, SO_RCVBUF, value);
	if (rc == 0 && option_set(fd, SOL_SOCKET, SO_SNDBUFFORCE, value) < 0)
		rc = option_set(fd, SOL_SOCKET, SO_SNDBUF, value);
	return rc;
}

static int socket_setup(struct raw *raw, const struct haul_link_options *options,
			struct haul_err *err)
{
	struct sockaddr_ll addr = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(options->ethertype),
		.sll_ifindex = (int)if_nametoindex(options->ifname),
	};
	int rc = filter_attach(raw, (uint32_t)addr.sll_ifindex);
	if (rc == 0)
		rc = option_set(raw->link.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
	if (rc == 0)
		rc = option_set(raw->link.fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1);
	if (rc == 0)
		rc = buffers_set(raw->link.fd, options->sockbuf_bytes);
	if (rc == 0 && bind(raw->link.fd, (struct sockaddr *)&addr, sizeof addr) < 0)
		rc = -errno;
	if (rc < 0)
		return haul_err_set(err, rc, "%s: socket on interface %s: %s", options->name,
				    options->ifname, haul_strerror(rc));
	return 0;
}

static int memory_alloc(struct raw *raw)
{
	uint32_t burst = raw->link.burst_max;
	uint32_t used = HAUL_FRAME_HEADROOM_BYTES + raw->mtu_ifc_bytes;
	raw->slots = burst > RAW_RX_SLOTS_MIN ? burst : RAW_RX_SLOTS_MIN;
	raw->slot_bytes = (used + 63) & ~UINT32_C(63);
	raw->slab = calloc(raw->slots, raw->slot_bytes);
	raw->rx_msg = calloc(raw->slots, sizeof *raw->rx_msg);
	raw->rx_iov = calloc(raw->slots, sizeof *raw->rx_iov);
	raw->tx_msg = calloc(burst, sizeof *raw->tx_msg);
	raw->tx_iov = calloc((size_t)burst * RAW_PIECES, sizeof *raw->tx_iov);
	raw->tx_checksum = calloc(burst, sizeof *raw->tx_checksum);
	if (raw->slab == NULL || raw->rx_msg == NULL || raw->rx_iov == NULL ||
	    raw->tx_msg == NULL || raw->tx_iov == NULL || raw->tx_checksum == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < raw->slots; i++) {
		raw->rx_iov[i].iov_base = raw->slab + (size_t)i * raw->slot_bytes +
					  HAUL_FRAME_HEADROOM_BYTES - RAW_HEADER_BYTES;
		raw->rx_iov[i].iov_len = RAW_HEADER_BYTES + raw->mtu_ifc_bytes;
		raw->rx_msg[i].msg_hdr.msg_iov = &raw->rx_iov[i];
		raw->rx_msg[i].msg_hdr.msg_iovlen = 1;
	}
	for (uint32_t i = 0; i < burst; i++)
		raw->tx_msg[i].msg_hdr.msg_iov = &raw->tx_iov[i * RAW_PIECES];
	return 0;
}

static int peers_setup(struct raw *raw)
{
	struct haul_addr broadcast = { .kind = HAUL_ADDR_MAC };
	int rc = peers_open(&raw->link.peers);
	if (rc < 0)
		return rc;
	mac_store(broadcast.bytes, 0xffffffffffff);
	peers_set_broadcast(raw->link.peers, &broadcast);
	return raw_peer_set(&raw->link, 0, &broadcast);
}

int link_raw_open(const struct haul_link_options *options, struct haul_link **ret_link,
		  struct haul_err *err)
{
	struct raw *raw = calloc(1, sizeof *raw);
	if (raw == NULL)
		return haul_err_set(err, -ENOMEM, "%s: no memory", options->name);
	int rc = link_init(&raw->link, options, &raw_ops, err);
	if (rc < 0) {
		free(raw);
		return rc;
	}
	raw->ethertype = options->ethertype;
	raw->link.fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (raw->link.fd < 0) {
		rc = haul_err_set(err, -errno, "%s: packet socket: %s%s", options->name,
				  strerror(errno), errno == EPERM ? " (needs CAP_NET_RAW)" : "");
		goto fail;
	}
	rc = interface_read(raw, options, err);
	if (rc < 0)
		goto fail;
	if (memory_alloc(raw) < 0 || peers_setup(raw) < 0) {
		rc = haul_err_set(err, -ENOMEM, "%s: no memory", options->name);
		goto fail;
	}
	rc = socket_setup(raw, options, err);
	if (rc < 0)
		goto fail;
	*ret_link = &raw->link;
	return 0;
fail:
	raw_close(&raw->link);
	return rc;
}
