/* link/test_tap_calls.c — what the TAP link asks of the kernel, and what it makes of one that
 * refuses a part. ioctl and writev of the C library are replaced by ones that look and pass on. */
#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <haul/link.h>
#include "lib/testlib.h"
#include "link/link.h"
#include "link/tap_lab.h"
#include "link/vnet.h"

enum { FRAMES = 100, FRAME_BYTES = 200 };

/* Kinds of superframes (TUN_F_*) that this kernel is not to know. */
static unsigned int unknown;
static uint32_t writes, writes_marked;

int ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	va_start(list, request);
	void *arg = va_arg(list, void *);
	va_end(list);
	if (request == TUNSETOFFLOAD) {
		unsigned int asked = (unsigned int)(uintptr_t)arg;
		unsigned int uso = asked & (TUN_F_USO4 | TUN_F_USO6);
		/* one of the two without the other is refused by every kernel */
		assert_true(uso == 0 || uso == (TUN_F_USO4 | TUN_F_USO6));
		assert_true(asked == 0 || (asked & TUN_F_CSUM) != 0);
		if ((asked & unknown) != 0) {
			errno = EINVAL;
			return -1;
		}
	}
	return (int)syscall(SYS_ioctl, fd, request, arg);
}

ssize_t writev(int fd, const struct iovec *iov, int iov_count)
{
	static const struct virtio_net_hdr empty;
	writes++;
	if (iov[0].iov_len != VNET_BYTES || memcmp(iov[0].iov_base, &empty, VNET_BYTES) != 0)
		writes_marked++;
	return syscall(SYS_writev, fd, iov, iov_count);
}

static void open_lab(struct tap_lab *lab)
{
	struct haul_link_options options[TAP_LAB_SIDES];
	for (int side = 0; side < TAP_LAB_SIDES; side++)
		options[side] = tap_lab_options();
	tap_lab_open(lab, options);
}

/* A kernel that does not know a kind of superframe gets none of it, and all others: USO is missing
 * before Linux 6.2. Without checksum offload there is nothing. */
static void test_tap_open__settles_for_what_the_kernel_knows(void **state)
{
	enum { TSO = TUN_F_TSO4 | TUN_F_TSO6, USO = TUN_F_USO4 | TUN_F_USO6 };
	static const struct {
		unsigned int unknown;
		uint32_t offloads;
	} kernels[] = {
		{ 0, HAUL_OFFLOAD_CSUM | HAUL_OFFLOAD_TSO | HAUL_OFFLOAD_USO },
		{ USO, HAUL_OFFLOAD_CSUM | HAUL_OFFLOAD_TSO },
		{ TSO, HAUL_OFFLOAD_CSUM | HAUL_OFFLOAD_USO },
		{ TSO | USO, HAUL_OFFLOAD_CSUM },
		{ TUN_F_CSUM, 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
		struct tap_lab lab = { 0 };
		unknown = kernels[i].unknown;
		open_lab(&lab);
		unknown = 0;
		assert_int_equal(haul_link_offloads(lab.link[0]), kernels[i].offloads);
		tap_lab_close(&lab);
	}
}

/* One queue, read by one thread, without NAPI: several readers change the order of a flow, and NAPI
 * takes one packet a write all the same. */
static void test_tap_open__makes_one_plain_queue(void **state)
{
	struct tap_lab lab = { 0 };
	struct ifreq request = { 0 };
	(void)state;
	open_lab(&lab);
	assert_int_equal(ioctl(haul_link_fd(lab.link[0]), TUNGETIFF, &request), 0);
	assert_int_equal(
		request.ifr_flags & (IFF_MULTI_QUEUE | IFF_NAPI | IFF_NAPI_FRAGS | IFF_TUN), 0);
	assert_int_equal(request.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR),
			 IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	tap_lab_close(&lab);
}

/* A TAP takes one packet a write, however long the batch; and a frame whose checksum is complete
 * has nothing to say in its vnet header. */
static void test_tap_tx__complete_frames_go_one_a_write_and_unmarked(void **state)
{
	static uint8_t bytes[FRAMES][FRAME_BYTES];
	struct tap_lab lab = { 0 };
	struct haul_send_batch batch;
	(void)state;
	open_lab(&lab);
	assert_int_equal(haul_send_batch_init(&batch, FRAMES), 0);
	for (uint32_t i = 0; i < FRAMES; i++) {
		memset(bytes[i], (int)i, FRAME_BYTES);
		bytes[i][0] = 0x02;
		struct haul_frame row = { .data = bytes[i], .len = FRAME_BYTES };
		assert_int_equal(haul_send_batch_push(&batch, &row), 0);
	}
	writes = writes_marked = 0;
	assert_int_equal(haul_link_tx(lab.link[1], &batch), FRAMES);
	assert_int_equal(writes, FRAMES);
	assert_int_equal(writes_marked, 0);
	haul_send_batch_done(&batch);
	tap_lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tap_open__settles_for_what_the_kernel_knows),
		cmocka_unit_test(test_tap_open__makes_one_plain_queue),
		cmocka_unit_test(test_tap_tx__complete_frames_go_one_a_write_and_unmarked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
