/* link/test_udp_faults.c — the UDP link over a kernel that takes a part, refuses and interrupts.
 * sendto, sendmsg, sendmmsg and recvmmsg of the C library are replaced by ones that fail at
 * random. */
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <haul/link.h>
#include "lib/testlib.h"
#include "link/link.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { FRAMES_MAX = 600, FRAME_BYTES_MAX = 1500, ROUNDS = 1000 };

/* What is to go wrong, each with a chance in percent. */
struct faults {
	struct prng prng;
	uint32_t eagain, enobufs, eio, refused, partial, eintr, reported;
	bool enobufs_for_good;
};
static struct faults faults;

static bool chance(uint32_t percent)
{
	return percent > 0 && prng_below(&faults.prng, 100) < percent;
}

static bool is_segmented(const struct msghdr *msg)
{
	return msg->msg_controllen > 0;
}

/* The errno that sending msg fails with, or 0. */
static int send_fault(const struct msghdr *msg)
{
	if (chance(faults.eintr))
		return EINTR;
	if (chance(faults.eagain))
		return EAGAIN;
	if (chance(faults.enobufs) || faults.enobufs_for_good)
		return ENOBUFS;
	if (chance(faults.reported))
		return ECONNREFUSED;
	if (is_segmented(msg) && chance(faults.refused))
		return chance(50) ? EIO : EINVAL;
	return !is_segmented(msg) && chance(faults.eio) ? EIO : 0;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	errno = send_fault(msg);
	return errno != 0 ? -1 : syscall(SYS_sendmsg, fd, msg, flags);
}

ssize_t sendto(int fd, const void *data, size_t bytes, int flags, __CONST_SOCKADDR_ARG name,
	       socklen_t name_bytes)
{
	const struct msghdr plain = { 0 };
	errno = send_fault(&plain);
	return errno != 0
		       ? -1
		       : syscall(SYS_sendto, fd, data, bytes, flags, name.__sockaddr__, name_bytes);
}

int sendmmsg(int fd, struct mmsghdr *msg, unsigned int count, int flags)
{
	errno = send_fault(&msg->msg_hdr);
	if (errno != 0)
		return -1;
	if (chance(faults.partial))
		count = 1 + prng_below(&faults.prng, count);
	return (int)syscall(SYS_sendmmsg, fd, msg, count, flags);
}

int recvmmsg(int fd, struct mmsghdr *msg, unsigned int count, int flags, struct timespec *timeout)
{
	if (chance(faults.eintr) || chance(faults.reported)) {
		errno = chance(50) ? EINTR : ECONNREFUSED;
		return -1;
	}
	if (chance(faults.partial))
		count = 1 + prng_below(&faults.prng, count);
	return (int)syscall(SYS_recvmmsg, fd, msg, count, flags, timeout);
}

struct bed {
	struct prng prng;
	struct haul_link *tx;
	struct haul_link *rx;
	struct haul_send_batch batch;
	struct haul_frames frames;
	uint8_t bytes[FRAMES_MAX][FRAME_BYTES_MAX];
	uint8_t got[HAUL_FRAME_BYTES_MAX];
};

static struct haul_link *open_link(const char *name)
{
	struct haul_link *link = NULL;
	struct haul_link_options options;
	haul_link_options_init(&options, HAUL_LINK_UDP);
	options.name[0] = name[0];
	assert_int_equal(haul_addr_parse("127.0.0.1:0", &options.local, NULL), 0);
	assert_int_equal(haul_link_open(&options, &link, NULL), 0);
	return link;
}

static int bed_open(void **state)
{
	static struct bed bed;
	test_prng(&bed.prng);
	*state = &bed;
	assert_int_equal(haul_frames_init(&bed.frames, FRAMES_MAX), 0);
	return haul_send_batch_init(&bed.batch, FRAMES_MAX);
}

static int bed_close(void **state)
{
	struct bed *bed = *state;
	haul_frames_done(&bed->frames);
	haul_send_batch_done(&bed->batch);
	return 0;
}

static int links_open(void **state)
{
	struct bed *bed = *state;
	faults = (struct faults){ .prng = { .state = prng_next(&bed->prng) } };
	bed->tx = open_link("t");
	bed->rx = open_link("r");
	struct haul_addr to = haul_link_local(bed->rx);
	assert_int_equal(haul_link_peer_add(bed->tx, &to), 1);
	return 0;
}

static int links_close(void **state)
{
	struct bed *bed = *state;
	faults = (struct faults){ 0 };
	haul_link_close(bed->tx);
	haul_link_close(bed->rx);
	return 0;
}

static uint64_t tx_count(const struct bed *bed, enum link_tx_counter counter)
{
	return haul_link_tx_stats(bed->tx)->extra[counter];
}

/* Frames in runs of random length and size; each begins with its number. */
static void fill(struct bed *bed, uint32_t count)
{
	uint32_t bytes = 4;
	haul_send_batch_clear(&bed->batch);
	for (uint32_t i = 0; i < count; i++) {
		if (prng_below(&bed->prng, 20) == 0)
			bytes = 4 + prng_below(&bed->prng, FRAME_BYTES_MAX - 3);
		memset(bed->bytes[i], (int)(i & 0xff), bytes);
		memcpy(bed->bytes[i], &i, sizeof i);
		struct haul_frame row = { .data = bed->bytes[i], .len = bytes, .peer = 1 };
		assert_int_equal(haul_send_batch_push(&bed->batch, &row), 0);
	}
}

/* What came are the frames with status 0, each once, whole, in order. */
static void expect_what_was_sent(struct bed *bed)
{
	const struct haul_frames *sent = &bed->batch.frames;
	uint32_t next = 0, idle = 0;
	while (idle < 20) { /* an injected fault is no empty queue */
		int got = haul_link_rx(bed->rx, &bed->frames);
		assert_true(got >= 0);
		idle = got == 0 ? idle + 1 : 0;
		for (uint32_t i = 0; i < bed->frames.count; i++) {
			while (next < sent->count && sent->status[next] != 0)
				next++;
			assert_true(next < sent->count);
			uint32_t bytes = haul_frame_copy(&bed->frames, i, bed->got);
			assert_int_equal(bytes, sent->len[next]);
			assert_memory_equal(bed->got, sent->data[next], bytes);
			next++;
		}
	}
	while (next < sent->count && sent->status[next] != 0)
		next++;
	assert_int_equal(next, sent->count);
}

/* Whatever fails, and where: a frame is delivered exactly if its status says so, and in order. */
static void test_udp__status_tells_what_was_delivered(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		faults.eagain = prng_below(&bed->prng, 3) == 0 ? 5 : 0;
		faults.enobufs = prng_below(&bed->prng, 3) == 0 ? 30 : 0;
		faults.eio = prng_below(&bed->prng, 3) == 0 ? 20 : 0;
		faults.refused = prng_below(&bed->prng, 3) == 0 ? 20 : 0;
		faults.partial = prng_below(&bed->prng, 2) == 0 ? 50 : 0;
		faults.eintr = prng_below(&bed->prng, 2) == 0 ? 20 : 0;
		faults.reported = prng_below(&bed->prng, 3) == 0 ? 10 : 0;
		fill(bed, 1 + prng_below(&bed->prng, FRAMES_MAX));
		int sent = haul_link_tx(bed->tx, &bed->batch);
		int good = 0, queued = 0;
		for (uint32_t i = 0; i < bed->batch.frames.count; i++) {
			int32_t status = bed->batch.frames.status[i];
			good += status == 0;
			/* once the queue is full, nothing behind is sent: order is kept */
			assert_true(queued == 0 || status == queued);
			if (status == -EAGAIN || status == -ENOBUFS)
				queued = status;
		}
		assert_int_equal(sent, good);
		expect_what_was_sent(bed);
		/* a refusal is for good; begin again with a fresh link now and then */
		if (round % 10 == 9) {
			struct faults kept = faults;
			(void)links_close(state);
			(void)links_open(state);
			faults = kept;
		}
	}
}

/* A kernel short of buffers is asked again a few times, then the rest is given back. */
static void test_udp__enobufs_is_tried_again_and_then_told(void **state)
{
	struct bed *bed = *state;
	faults.enobufs_for_good = true;
	fill(bed, 100);
	assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 0);
	assert_int_equal(bed->batch.frames.status[0], -ENOBUFS);
	assert_int_equal(bed->batch.frames.status[99], -ENOBUFS);
	assert_int_equal(tx_count(bed, LINK_TX_ENOBUFS), LINK_ENOBUFS_RETRIES);
	assert_int_equal(haul_link_tx_stats(bed->tx)->batches, 0);
	faults.enobufs_for_good = false;
	assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 100);
	expect_what_was_sent(bed);
}

/* 30 frames that make one run, whatever the sizes would have been. */
static void fill_one_run(struct bed *bed)
{
	fill(bed, 30);
	for (uint32_t i = 0; i < 30; i++)
		bed->batch.frames.len[i] = sizeof i;
}

/* A refusal is remembered: later bursts to that peer are not segmented, those to others are. */
static void test_udp__refusal_concerns_one_peer(void **state)
{
	struct bed *bed = *state;
	struct haul_link *other = open_link("o");
	struct haul_addr to = haul_link_local(other);
	assert_int_equal(haul_link_peer_add(bed->tx, &to), 2);
	faults.refused = 100;
	for (uint32_t round = 0; round < 3; round++) {
		fill_one_run(bed);
		assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 30);
		expect_what_was_sent(bed);
		assert_int_equal(tx_count(bed, LINK_TX_GSO_REFUSED), 1);
		faults.refused = 0;
	}
	assert_int_equal(tx_count(bed, LINK_TX_GSO_RUNS), 0);
	fill_one_run(bed);
	for (uint32_t i = 0; i < 30; i++)
		bed->batch.frames.peer[i] = 2;
	assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 30);
	assert_true(tx_count(bed, LINK_TX_GSO_RUNS) > 0);
	haul_link_close(other);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, links_open, links_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_udp__status_tells_what_was_delivered),
		TEST(test_udp__enobufs_is_tried_again_and_then_told),
		TEST(test_udp__refusal_concerns_one_peer),
	};
	return cmocka_run_group_tests(tests, bed_open, bed_close);
}
