/* link/tap_lab.c — see tap_lab.h. */
#include "link/tap_lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/testlib.h"
#include "os/netns.h"

static const char tap_name[] = "tap0";

struct haul_link_options tap_lab_options(void)
{
	struct haul_link_options options;
	haul_link_options_init(&options, HAUL_LINK_TAP);
	memcpy(options.name, tap_name, sizeof tap_name);
	memcpy(options.ifname, tap_name, sizeof tap_name);
	return options;
}

struct link_job {
	const struct haul_link_options *options;
	struct haul_link **ret_link;
	struct haul_err *err;
};

static int link_open(void *arg)
{
	const struct link_job *job = arg;
	return haul_link_open(job->options, job->ret_link, job->err);
}

int tap_lab_link(const struct tap_lab *lab, int side, const struct haul_link_options *options,
		 struct haul_link **ret_link, struct haul_err *err)
{
	struct link_job job = { .options = options, .ret_link = ret_link, .err = err };
	return netns_call(lab->netns_fd[side], link_open, &job);
}

static void open_side(struct tap_lab *lab, int side, const struct haul_link_options *options)
{
	struct haul_err err = { 0 };
	char address[32];
	int fd = lab->netns_fd[side] = netns_open(&err);
	if (fd == -EPERM)
		test_skip(err.text);
	if (fd < 0)
		fail_msg("%s", err.text);
	/* No duplicate address detection: it would take a second, and send frames of its own. */
	assert_int_equal(netns_sysctl(fd, "ipv6/conf/default/accept_dad", "0", &err), 0);
	if (tap_lab_link(lab, side, options, &lab->link[side], &err) < 0)
		fail_msg("%s", err.text);
	(void)snprintf(address, sizeof address, "10.70.0.%d/24", side + 1);
	assert_int_equal(netns_address(fd, tap_name, address, &err), 0);
	(void)snprintf(address, sizeof address, "fd70::%d/64", side + 1);
	assert_int_equal(netns_address(fd, tap_name, address, &err), 0);
}

void tap_lab_open(struct tap_lab *lab, const struct haul_link_options options[TAP_LAB_SIDES])
{
	for (int side = 0; side < TAP_LAB_SIDES; side++)
		open_side(lab, side, &options[side]);
}

void tap_lab_close(struct tap_lab *lab)
{
	for (int side = 0; side < TAP_LAB_SIDES; side++) {
		haul_link_close(lab->link[side]);
		lab->link[side] = NULL;
		if (lab->netns_fd[side] > 0)
			assert_int_equal(close(lab->netns_fd[side]), 0);
		lab->netns_fd[side] = 0;
	}
}

struct socket_job {
	int family;
	int type;
};

static int socket_open(void *arg)
{
	const struct socket_job *job = arg;
	return socket(job->family, job->type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

int tap_lab_socket(const struct tap_lab *lab, int side, int family, int type)
{
	struct socket_job job = { .family = family, .type = type };
	int fd = netns_call(lab->netns_fd[side], socket_open, &job);
	assert_true(fd >= 0);
	return fd;
}

static int name_to_index(void *arg)
{
	return (int)if_nametoindex(arg);
}

int tap_lab_packet_socket(const struct tap_lab *lab, int side)
{
	char name[sizeof tap_name];
	int one = 1, bytes = 8 << 20;
	int fd = tap_lab_socket(lab, side, AF_PACKET, SOCK_RAW);
	struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	memcpy(name, tap_name, sizeof name);
	addr.sll_ifindex = netns_call(lab->netns_fd[side], name_to_index, name);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes), 0);
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof one), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
	return fd;
}

/* Put the tag that the kernel took out back between addresses and type. */
static int restore_tag(const struct tpacket_auxdata *aux, uint8_t *frame, int bytes)
{
	if ((aux->tp_status & TP_STATUS_VLAN_VALID) == 0)
		return bytes;
	memmove(frame + 16, frame + 12, (size_t)bytes - 12);
	be16_store(frame + 12, aux->tp_vlan_tpid);
	be16_store(frame + 14, aux->tp_vlan_tci);
	return bytes + 4;
}

int tap_lab_read(int packet_socket, uint8_t *out, uint32_t room)
{
	for (;;) {
		union {
			struct cmsghdr align;
			uint8_t bytes[CMSG_SPACE(sizeof(struct tpacket_auxdata))];
		} control;
		struct sockaddr_ll from;
		struct iovec iov = { .iov_base = out, .iov_len = room - 4 };
		struct msghdr msg = {
			.msg_name = &from,
			.msg_namelen = sizeof from,
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof control,
		};
		ssize_t got = recvmsg(packet_socket, &msg, MSG_TRUNC);
		if (got < 0)
			return -errno;
		assert_true((size_t)got <= iov.iov_len);
		if (from.sll_pkttype == PACKET_OUTGOING)
			continue;
		struct tpacket_auxdata aux;
		assert_non_null(CMSG_FIRSTHDR(&msg));
		memcpy(&aux, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof aux);
		return restore_tag(&aux, out, (int)got);
	}
}
