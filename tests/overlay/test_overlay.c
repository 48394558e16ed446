/* Two haul nodes as processes, an RSU and an OBU, in two namespaces: what goes into one TAP must
 * come out of the other unchanged. Needs root (namespaces, TAP). argv[1]: the haul program. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/testlib.h"
#include "load.h"
#include "os/netns.h"
#include "overlay.h"

enum {
	WIRE_MTU_BYTES = 9300,
	TAP_MTU_BYTES = 9000,
	FRAME_BYTES_MAX = TAP_MTU_BYTES + 22,
	TCP_BYTES = 8 << 20,
	CHUNK_BYTES = 60000,
	ANSWER_MS = 5000
};

static const char *haul_program;

#define CHECK_OK(call)                                                                             \
	do {                                                                                       \
		int rc_ = (call);                                                                  \
		if (rc_ < 0)                                                                       \
			fail_msg("%s: %s", #call, err.text);                                       \
	} while (0)

/* ---- sockets inside a namespace ---- */

struct packet_socket {
	int netns;
	int fd;
	uint64_t mac;
};

static void *packet_open_inside(void *arg)
{
	struct packet_socket *packet = arg;
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	socklen_t at_bytes = sizeof at;
	int on = 1;

	packet->fd = -1;
	if (netns_enter(packet->netns) < 0)
		return NULL;
	at.sll_ifindex = (int)if_nametoindex("haul0");
	packet->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	if (packet->fd < 0 || bind(packet->fd, (struct sockaddr *)&at, sizeof at) ||
	    setsockopt(packet->fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on) ||
	    getsockname(packet->fd, (struct sockaddr *)&at, &at_bytes)) {
		close(packet->fd);
		packet->fd = -1;
		return NULL;
	}
	packet->mac = mac_load(at.sll_addr);
	return NULL;
}

/* Bound to haul0 in there. */
static struct packet_socket packet_open(int netns)
{
	struct packet_socket packet = { .netns = netns };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, packet_open_inside, &packet), 0);
	pthread_join(thread, NULL);
	assert_true(packet.fd >= 0);
	return packet;
}

/* The kernel takes the outer tag out of the frame and tells it beside: put it back. */
static uint32_t restore_tag(struct msghdr *message, uint8_t *frame, uint32_t bytes)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(message);
	struct tpacket_auxdata aux;

	if (!cmsg || cmsg->cmsg_type != PACKET_AUXDATA)
		return bytes;
	memcpy(&aux, CMSG_DATA(cmsg), sizeof aux);
	if (!(aux.tp_status & TP_STATUS_VLAN_VALID))
		return bytes;
	memmove(frame + 16, frame + 12, bytes - 12);
	be16_store(frame + 12,
		   aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : ETH_P_8021Q);
	be16_store(frame + 14, aux.tp_vlan_tci);
	return bytes + 4;
}

/* The next frame that came in (not one that goes out), 0 when none comes. */
static uint32_t packet_receive(const struct packet_socket *packet, uint8_t *frame, int wait_ms)
{
	struct pollfd poll_fd = { .fd = packet->fd, .events = POLLIN };

	while (poll(&poll_fd, 1, wait_ms) > 0) {
		_Alignas(struct cmsghdr)
			uint8_t control[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		struct sockaddr_ll from;
		struct iovec iov = { .iov_base = frame, .iov_len = FRAME_BYTES_MAX };
		struct msghdr message = { .msg_name = &from,
					  .msg_namelen = sizeof from,
					  .msg_iov = &iov,
					  .msg_iovlen = 1,
					  .msg_control = control,
					  .msg_controllen = sizeof control };
		ssize_t got = recvmsg(packet->fd, &message, 0);

		assert_true(got > 0 && !(message.msg_flags & MSG_TRUNC));
		if (from.sll_pkttype != PACKET_OUTGOING)
			return restore_tag(&message, frame, (uint32_t)got);
	}
	return 0;
}

/* ---- frames ---- */

/* One kind of frame: what stands behind the addresses; the rest is filled at random. */
struct kind {
	const char *name;
	uint64_t destination; /* 0 = the receiver's own MAC */
	uint8_t start[32];
	uint32_t start_bytes;
	uint32_t bytes;
};

static const struct kind kinds[] = {
	{ "VLAN-tagged", 0, { 0x81, 0, 0, 42, 0x88, 0xb6 }, 6, 200 },
	{ "QinQ", 0, { 0x88, 0xa8, 0, 7, 0x81, 0, 0, 42, 0x88, 0xb6 }, 10, 200 },
	{ "jumbo", 0, { 0x88, 0xb6 }, 2, TAP_MTU_BYTES + 14 },
	{ "jumbo, VLAN-tagged", 0, { 0x81, 0, 0, 42, 0x88, 0xb6 }, 6, TAP_MTU_BYTES + 14 },
	/* IPv4, more fragments, protocol 253 (experiments), to an address that nobody has */
	{ "first fragment",
	  0,
	  { 8, 0, 0x45, 0, 5, 0x14, 1, 2, 0x20, 0, 64, 253, 0, 0, 10, 51, 0, 9, 10, 51, 0, 8 },
	  22,
	  1314 },
	{ "last fragment",
	  0,
	  { 8, 0, 0x45, 0, 0, 0x64, 1, 2, 0, 0xa0, 64, 253, 0, 0, 10, 51, 0, 9, 10, 51, 0, 8 },
	  22,
	  114 },
	/* IPv6, next header 59: none */
	{ "IPv6", 0, { 0x86, 0xdd, 0x60, 0, 0, 0, 4, 0xb0, 59, 64, 0xfd }, 11, 1254 },
	{ "broadcast", UINT64_C(0xffffffffffff), { 0x88, 0xb6 }, 2, 60 },
	{ "multicast", UINT64_C(0x333300000001), { 0x88, 0xb6 }, 2, 900 },
	{ "shortest", 0, { 0x88, 0xb6 }, 2, 14 },
};

static void build(const struct kind *kind, uint64_t to, uint64_t from, struct prng *prng,
		  uint8_t *frame)
{
	for (uint32_t i = 0; i < kind->bytes; i++)
		frame[i] = (uint8_t)prng_next(prng);
	mac_store(frame, kind->destination ? kind->destination : to);
	mac_store(frame + 6, from);
	memcpy(frame + 12, kind->start, kind->start_bytes);
}

/* Other frames (the kernel's own IPv6 chatter) may come in between: look for ours. */
static void expect(const struct packet_socket *to, const uint8_t *frame, const struct kind *kind)
{
	static uint8_t got[FRAME_BYTES_MAX + 4];
	uint32_t bytes;

	do {
		bytes = packet_receive(to, got, ANSWER_MS);
		if (!bytes)
			fail_msg("%s frame of %u bytes did not arrive unchanged", kind->name,
				 kind->bytes);
	} while (bytes != kind->bytes || memcmp(got, frame, bytes) != 0);
}

/* VLAN-tagged, jumbo, fragmented, IPv6 and broadcast frames cross unchanged, both ways, batched and
 * one at a time. */
static void test_overlay__frames_cross_unchanged(void **state)
{
	static uint8_t frame[FRAME_BYTES_MAX];
	struct overlay overlay;
	struct haul_err err = { 0 };
	struct prng prng;

	(void)state;
	test_prng(&prng);
	CHECK_OK(overlay_open(&overlay, haul_program, WIRE_MTU_BYTES, &err));
	for (uint32_t individual = 0; individual < 2; individual++) {
		const struct overlay_nodes nodes = { individual, individual, TAP_MTU_BYTES };
		struct packet_socket end[2];

		CHECK_OK(overlay_start(&overlay, &nodes, &err));
		end[0] = packet_open(overlay.rsu_netns);
		end[1] = packet_open(overlay.obu_netns);
		for (uint32_t i = 0; i < 2 * sizeof kinds / sizeof *kinds; i++) {
			const struct kind *kind = &kinds[i / 2];
			const struct packet_socket *from = &end[i % 2], *to = &end[1 - i % 2];

			build(kind, to->mac, from->mac, &prng, frame);
			assert_int_equal(send(from->fd, frame, kind->bytes, 0), kind->bytes);
			expect(to, frame, kind);
		}
		close(end[0].fd);
		close(end[1].fd);
		overlay_stop(&overlay);
	}
	overlay_close(&overlay);
}

/* ---- TCP ---- */

struct stream {
	int netns;
	uint64_t seed;
	bool sender;
	struct sockaddr_in peer;
	int fd; /* receiver: listening */
	uint64_t bytes;
	bool same;
};

static void fill(struct prng *prng, uint8_t *chunk)
{
	for (uint32_t i = 0; i < CHUNK_BYTES; i += 8) {
		uint64_t word = prng_next(prng);
		memcpy(chunk + i, &word, 8);
	}
}

static void *stream_send(void *arg)
{
	static _Thread_local uint8_t chunk[CHUNK_BYTES];
	struct stream *stream = arg;
	struct prng prng;

	prng_init(&prng, stream->seed);
	if (netns_enter(stream->netns) < 0)
		return NULL;
	stream->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(stream->fd, (struct sockaddr *)&stream->peer, sizeof stream->peer))
		return NULL;
	while (stream->bytes < TCP_BYTES) {
		fill(&prng, chunk);
		if (send(stream->fd, chunk, CHUNK_BYTES, MSG_NOSIGNAL) != CHUNK_BYTES)
			break;
		stream->bytes += CHUNK_BYTES;
	}
	close(stream->fd);
	return NULL;
}

static void *stream_listen(void *arg)
{
	struct stream *stream = arg;
	socklen_t peer_bytes = sizeof stream->peer;

	if (netns_enter(stream->netns) < 0)
		return NULL;
	stream->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(stream->fd, (struct sockaddr *)&stream->peer, sizeof stream->peer) ||
	    listen(stream->fd, 1) ||
	    getsockname(stream->fd, (struct sockaddr *)&stream->peer, &peer_bytes))
		stream->fd = -1;
	return NULL;
}

static void stream_receive(struct stream *stream)
{
	static uint8_t want[CHUNK_BYTES], got[CHUNK_BYTES];
	struct timeval limit = { .tv_sec = ANSWER_MS / 1000 };
	struct prng prng;
	int fd;

	prng_init(&prng, stream->seed);
	setsockopt(stream->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	fd = accept(stream->fd, NULL, NULL);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	stream->same = fd >= 0;
	while (stream->same && recv(fd, got, CHUNK_BYTES, MSG_WAITALL) == CHUNK_BYTES) {
		fill(&prng, want);
		stream->same = memcmp(want, got, CHUNK_BYTES) == 0;
		stream->bytes += CHUNK_BYTES;
	}
	close(fd);
	close(stream->fd);
}

static void check_stream(int from_netns, int to_netns, const char *to_address, uint64_t seed)
{
	struct stream receiver = { .netns = to_netns, .seed = seed };
	struct stream sender = { .netns = from_netns, .seed = seed };
	pthread_t thread;

	receiver.peer.sin_family = AF_INET;
	assert_int_equal(inet_pton(AF_INET, to_address, &receiver.peer.sin_addr), 1);
	assert_int_equal(pthread_create(&thread, NULL, stream_listen, &receiver), 0);
	pthread_join(thread, NULL);
	assert_true(receiver.fd >= 0);
	sender.peer = receiver.peer;
	assert_int_equal(pthread_create(&thread, NULL, stream_send, &sender), 0);
	stream_receive(&receiver);
	pthread_join(thread, NULL);
	assert_true(receiver.same);
	assert_int_equal(receiver.bytes, sender.bytes);
	assert_true(receiver.bytes >= TCP_BYTES);
}

/* TCP with offloads on and off, in all four combinations of the two ends, gives identical bytes. */
static void test_overlay__tcp_gives_identical_bytes(void **state)
{
	struct overlay overlay;
	struct haul_err err = { 0 };
	struct prng prng;

	(void)state;
	test_prng(&prng);
	CHECK_OK(overlay_open(&overlay, haul_program, WIRE_MTU_BYTES, &err));
	for (uint32_t both = 0; both < 4; both++) {
		const struct overlay_nodes nodes = { (both & 1) != 0, (both & 2) != 0, 0 };

		CHECK_OK(overlay_split(&overlay, both == 0, &err));
		CHECK_OK(overlay_start(&overlay, &nodes, &err));
		check_stream(overlay.obu_netns, overlay.rsu_netns, OVERLAY_RSU_ADDRESS,
			     prng_next(&prng));
		check_stream(overlay.rsu_netns, overlay.obu_netns, OVERLAY_OBU_ADDRESS,
			     prng_next(&prng));
		overlay_stop(&overlay);
	}
	overlay_close(&overlay);
}

/* ---- a host that is busy with something else ---- */

/* A counter of the block "control" of a node. */
static double control_counter(const struct overlay *overlay, const char *role, const char *name)
{
	json_t *status = overlay_status(overlay, role), *block;
	double value = -1;
	size_t i;

	json_array_foreach(json_object_get(status, "stats"), i,
			   block) if (!strcmp(json_string_value(json_object_get(block, "name")),
					      "control")) value =
		json_number_value(json_object_get(json_object_get(block, "counters"), name));
	json_decref(status);
	return value;
}

/* Until a node has counted so many more; a ping's patience at the most. */
static void wait_for(const struct overlay *overlay, const char *role, const char *name, double more)
{
	double first = control_counter(overlay, role, name);
	struct pollfd none = { .fd = -1 };

	for (int ms = 0; ms < ANSWER_MS; ms += 10) {
		if (control_counter(overlay, role, name) >= first + more)
			return;
		(void)poll(&none, 1, 10);
	}
	fail_msg("%s: %s did not rise by %g", role, name, more);
}

/* A node that did not run for longer than its patience looks into its socket before it takes its
 * own absence for its neighbour's: heartbeats that came meanwhile count. */
static void test_overlay__a_stopped_node_keeps_its_route(void **state)
{
	const struct overlay_nodes nodes = { false, false, 0 };
	struct overlay overlay;
	struct haul_err err = { 0 };

	(void)state;
	CHECK_OK(overlay_open(&overlay, haul_program, WIRE_MTU_BYTES, &err));
	CHECK_OK(overlay_start(&overlay, &nodes, &err));
	for (uint32_t round = 0; round < 5; round++) {
		assert_int_equal(kill(overlay.obu, SIGSTOP), 0);
		wait_for(&overlay, "rsu", "heartbeats_sent", 6);
		assert_int_equal(kill(overlay.obu, SIGCONT), 0);
		wait_for(&overlay, "obu", "heartbeats_heard", 2);
		assert_true(control_counter(&overlay, "obu", "upstream_lost") == 0);
	}
	overlay_close(&overlay);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_overlay__frames_cross_unchanged),
		cmocka_unit_test(test_overlay__tcp_gives_identical_bytes),
		cmocka_unit_test(test_overlay__a_stopped_node_keeps_its_route),
	};

	if (argc < 2)
		test_skip("needs the path of the haul program");
	if (geteuid() != 0)
		test_skip("needs root: namespaces and TAP interfaces");
	haul_program = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
