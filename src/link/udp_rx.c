/* link/udp_rx.c — receive datagrams, many a kernel packet and many a call.
 *
 * Promise: a datagram is a row, whole, in order for each peer.
 *
 * How: recvmmsg into slots. With UDP_GRO the kernel may put many equal datagrams of one sender into
 * one slot and tells their size in a control message; the slot is told apart into rows, nothing is
 * copied. So a slot holds the largest datagram there is: with shorter ones, GRO would cut off the
 * more the better it works. What is cut short nevertheless, data or control message, is counted and
 * dropped whole. Slots lie an odd number of cache lines apart, or they would all compete for the
 * same few sets of the cache. Slots not delivered because the batch is full are the first thing of
 * the next rx; slots are used anew only when a rx begins with none left, so rows live until
 * then. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "link/udp.h"

enum {
	RX_BYTES_WANTED = 512 * 1024, /* a receive call should bring at most so many */
	RX_SLOTS_MIN = 4,
	RX_TURNS_MAX = 8 /* receive calls a rx may spend on errors and dropped slots */
};

/* The sender of the slot last looked at; most bursts have one. */
struct sender {
	union sockaddr_any name;
	uint32_t peer;
	uint32_t from;
	bool known;
};

static void find_sender(const struct udp *udp, const union sockaddr_any *name,
			struct haul_frames *frames, struct sender *sender)
{
	if (sender->known && memcmp(&sender->name, name, udp->name_bytes) == 0)
		return;
	struct haul_addr addr = udp_addr_of(name);
	int peer = peers_find(udp->link.peers, &addr);
	HAUL_ASSERT(frames->addr_count < frames->capacity);
	sender->name = *name;
	sender->peer = peer < 0 ? HAUL_PEER_NONE : (uint32_t)peer;
	sender->from = frames->addr_count;
	sender->known = true;
	frames->addr[frames->addr_count++] = addr;
}

/* Append bytes at base as rows of stride bytes, the last one what is left, as far as there is room.
 * Returns the bytes appended. Column by column: these loops are the cost of a small frame. */
static uint32_t push_rows(struct haul_frames *frames, uint8_t *base, uint32_t bytes,
			  uint32_t stride, const struct sender *sender)
{
	uint32_t first = frames->count;
	uint32_t count = (bytes + stride - 1) / stride;
	if (count > haul_frames_room(frames))
		count = haul_frames_room(frames);
	if (bytes > count * stride)
		bytes = count * stride;
	HAUL_ASSERT(count > 0);
	for (uint32_t i = 0; i < count; i++) {
		frames->data[first + i] = base + (size_t)i * stride;
		frames->len[first + i] = stride;
		frames->peer[first + i] = sender->peer;
		frames->from[first + i] = sender->from;
	}
	memset(frames->tail_len + first, 0, count * sizeof *frames->tail_len);
	memset(frames->flags + first, 0, count * sizeof *frames->flags);
	memset(frames->status + first, 0, count * sizeof *frames->status);
	frames->len[first + count - 1] = bytes - (count - 1) * stride;
	frames->count += count;
	return bytes;
}

/* Size of the datagrams in a slot: what UDP_GRO says, or else there is one. 0 = not to be used. */
static uint32_t slot_stride(struct mmsghdr *msg)
{
	int stride = (int)msg->msg_len;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg->msg_hdr); c != NULL;
	     c = CMSG_NXTHDR(&msg->msg_hdr, c)) {
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
			memcpy(&stride, CMSG_DATA(c), sizeof stride);
	}
	return stride < 0 ? 0 : (uint32_t)stride;
}

static bool is_own(const struct udp *udp, const union sockaddr_any *name)
{
	return udp->hears_itself && memcmp(name, &udp->own, udp->name_bytes) == 0;
}

/* Whether slot may be delivered; counted if not. */
static bool slot_is_good(struct udp *udp, struct mmsghdr *msg, uint32_t stride)
{
	enum link_rx_counter counter = LINK_RX_MALFORMED;
	if (is_own(udp, msg->msg_hdr.msg_name))
		counter = LINK_RX_OWN;
	else if ((msg->msg_hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
		counter = LINK_RX_TRUNCATED;
	else if (stride > 0)
		return true;
	haul_stats_count(&udp->link.rx_stats, counter, 1);
	return false;
}

/* Turn filled slots into rows until either is used up. */
static void deliver(struct udp *udp, struct haul_frames *frames, struct sender *sender,
		    struct link_burst *burst)
{
	struct udp_rx *rx = &udp->rx;
	for (; rx->next < rx->filled && haul_frames_room(frames) > 0; rx->next++, rx->at = 0) {
		struct mmsghdr *msg = &rx->msg[rx->next];
		uint8_t *slot = rx->iov[rx->next].iov_base;
		uint32_t stride = slot_stride(msg);
		uint32_t row = frames->count;
		if (rx->at == 0 && !slot_is_good(udp, msg, stride))
			continue;
		find_sender(udp, &rx->name[rx->next], frames, sender);
		uint32_t pushed =
			push_rows(frames, slot + rx->at, msg->msg_len - rx->at, stride, sender);
		burst->bytes += pushed;
		if (rx->at == 0)
			frames->flags[row] |= HAUL_FRAME_HEADROOM;
		if (stride < msg->msg_len) {
			haul_stats_count(&udp->link.rx_stats, LINK_RX_GRO_SLOTS, rx->at == 0);
			haul_stats_count(&udp->link.rx_stats, LINK_RX_GRO_FRAMES,
					 frames->count - row);
		}
		if (rx->at + pushed < msg->msg_len) {
			rx->at += pushed;
			return;
		}
	}
}

/* How many slots the next call may fill: as many frames as there is room for, or about
 * RX_BYTES_WANTED. */
static uint32_t slots_wanted(const struct udp *udp, uint32_t room)
{
	uint32_t want = RX_BYTES_WANTED / (udp->rx.bytes_mean + 1);
	uint32_t left = udp->link.burst_max - udp->rx.filled;
	if (want < RX_SLOTS_MIN)
		want = RX_SLOTS_MIN;
	if (want > room)
		want = room;
	return want < left ? want : left;
}

/* One recvmmsg into want slots. Returns slots filled, or -errno. */
static int receive(struct udp *udp, uint32_t want, struct link_burst *burst)
{
	struct udp_rx *rx = &udp->rx;
	struct mmsghdr *msg = rx->msg + rx->filled;
	uint64_t bytes = 0;
	HAUL_ASSERT(want > 0 && rx->filled + want <= udp->link.burst_max);
	for (uint32_t i = 0; i < want; i++) {
		msg[i].msg_hdr.msg_namelen = sizeof(union sockaddr_any);
		msg[i].msg_hdr.msg_controllen = sizeof(union control);
	}
	burst->syscalls++;
	int got = recvmmsg(udp->link.fd, msg, want, MSG_DONTWAIT, NULL);
	if (got < 0)
		return -errno;
	HAUL_ASSERT((uint32_t)got <= want);
	for (int i = 0; i < got; i++)
		bytes += msg[i].msg_len;
	if (got > 0)
		rx->bytes_mean = (3 * rx->bytes_mean + (uint32_t)(bytes / (uint64_t)got)) / 4;
	rx->filled += (uint32_t)got;
	return got;
}

/* An error that the network reported for some earlier datagram, not a fault of the socket. */
static bool is_report(int code)
{
	return code != -EBADF && code != -ENOTSOCK && code != -EFAULT && code != -EINVAL &&
	       code != -ENOMEM;
}

int udp_rx(struct haul_link *link, struct haul_frames *frames, struct link_burst *burst)
{
	struct udp *udp = udp_of(link);
	struct udp_rx *rx = &udp->rx;
	struct sender sender = { 0 };
	if (rx->next == rx->filled)
		rx->next = rx->filled = 0;
	deliver(udp, frames, &sender, burst);
	for (uint32_t turn = 0; turn < RX_TURNS_MAX && haul_frames_room(frames) > 0; turn++) {
		uint32_t want = slots_wanted(udp, haul_frames_room(frames));
		if (want == 0) {
			burst->reason = HAUL_CLOSE_BYTES;
			return (int)frames->count;
		}
		int got = receive(udp, want, burst);
		if (got == -EAGAIN)
			return (int)frames->count;
		if (got < 0 && !is_report(got))
			return frames->count > 0 ? (int)frames->count : got;
		if (got < 0) {
			haul_stats_count(&link->rx_stats, LINK_RX_SOCKET_ERRORS, got != -EINTR);
			continue;
		}
		deliver(udp, frames, &sender, burst);
		if (frames->count > 0 && (uint32_t)got < want)
			return (int)frames->count;
	}
	burst->reason = HAUL_CLOSE_OPS;
	return (int)frames->count;
}

int udp_rx_one(struct haul_link *link, struct haul_frames *frames, struct link_burst *burst)
{
	struct udp *udp = udp_of(link);
	struct sender sender = { 0 };
	uint8_t *slot = udp->rx.iov[0].iov_base;
	for (uint32_t turn = 0; turn < RX_TURNS_MAX; turn++) {
		union sockaddr_any name;
		socklen_t name_bytes = sizeof name;
		burst->syscalls++;
		ssize_t got = recvfrom(link->fd, slot, udp->rx.slot_bytes, MSG_DONTWAIT | MSG_TRUNC,
				       &name.any, &name_bytes);
		if (got < 0 && errno == EAGAIN)
			return 0;
		if (got < 0 && !is_report(-errno))
			return -errno;
		if (got >= 0 && is_own(udp, &name)) {
			haul_stats_count(&link->rx_stats, LINK_RX_OWN, 1);
			continue;
		}
		if (got > 0 && got <= (ssize_t)udp->rx.slot_bytes) {
			find_sender(udp, &name, frames, &sender);
			burst->bytes +=
				push_rows(frames, slot, (uint32_t)got, (uint32_t)got, &sender);
			frames->flags[0] |= HAUL_FRAME_HEADROOM;
			burst->reason = HAUL_CLOSE_OPS;
			return 1;
		}
		enum link_rx_counter counter = got > 0 ? LINK_RX_TRUNCATED : LINK_RX_MALFORMED;
		haul_stats_count(&link->rx_stats, got < 0 ? LINK_RX_SOCKET_ERRORS : counter, 1);
	}
	return 0;
}
