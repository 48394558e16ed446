#include "link/veth_lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/testlib.h"
#include "os/netns.h"

static const char radio[] = "radio0";

void veth_lab_open(struct veth_lab *lab, uint32_t mtu_bytes)
{
	struct haul_err err = { 0 };
	for (int side = 0; side < VETH_LAB_SIDES; side++) {
		lab->netns_fd[side] = netns_open(&err);
		if (lab->netns_fd[side] == -EPERM)
			test_skip(err.text);
		if (lab->netns_fd[side] < 0)
			fail_msg("%s", err.text);
	}
	if (netns_veth(lab->netns_fd[0], radio, lab->netns_fd[1], radio, mtu_bytes, &err) < 0)
		fail_msg("%s", err.text);
}

void veth_lab_close(struct veth_lab *lab)
{
	for (int side = 0; side < VETH_LAB_SIDES; side++)
		assert_int_equal(close(lab->netns_fd[side]), 0);
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

int veth_lab_link(const struct veth_lab *lab, int side, const struct haul_link_options *options,
		  struct haul_link **ret_link, struct haul_err *err)
{
	struct link_job job = { .options = options, .ret_link = ret_link, .err = err };
	return netns_call(lab->netns_fd[side], link_open, &job);
}

static int mac_read(void *arg)
{
	struct haul_addr *addr = arg;
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	memcpy(request.ifr_name, radio, sizeof radio);
	assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &request), 0);
	addr->kind = HAUL_ADDR_MAC;
	memcpy(addr->bytes, request.ifr_hwaddr.sa_data, 6);
	return close(fd);
}

struct haul_link *veth_lab_raw(const struct veth_lab *lab, int side, uint32_t burst_max)
{
	struct haul_link *link = NULL;
	struct haul_link_options options;
	struct haul_err err = { 0 };
	struct haul_addr other = { 0 };
	haul_link_options_init(&options, HAUL_LINK_RAW);
	(void)snprintf(options.name, sizeof options.name, "raw%d", side);
	memcpy(options.ifname, radio, sizeof radio);
	options.burst_max = burst_max;
	if (veth_lab_link(lab, side, &options, &link, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(netns_call(lab->netns_fd[1 - side], mac_read, &other), 0);
	assert_int_equal(haul_link_peer_add(link, &other), 1);
	return link;
}

static int socket_open(void *arg)
{
	struct packet_mreq promiscuous = { .mr_type = PACKET_MR_PROMISC };
	struct sockaddr_ll addr = { .sll_family = AF_PACKET };
	int bytes = 8 << 20;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	addr.sll_protocol = htons(*(const uint16_t *)arg);
	addr.sll_ifindex = (int)if_nametoindex(radio);
	promiscuous.mr_ifindex = addr.sll_ifindex;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
	assert_int_equal(
		setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous),
		0);
	return fd;
}

int veth_lab_socket(const struct veth_lab *lab, int side, uint16_t protocol)
{
	return netns_call(lab->netns_fd[side], socket_open, &protocol);
}

static int tap_open(void *arg)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		test_skip("/dev/net/tun cannot be opened");
	memcpy(request.ifr_name, (const char *)arg, strlen(arg) + 1);
	assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
	return fd;
}

int veth_lab_tap(const struct veth_lab *lab, int side, const char *ifname)
{
	char name[IFNAMSIZ];
	(void)snprintf(name, sizeof name, "%s", ifname);
	int fd = netns_call(lab->netns_fd[side], tap_open, name);
	assert_true(fd >= 0);
	assert_int_equal(netns_up(lab->netns_fd[side], ifname, 1500, NULL), 0);
	return fd;
}

void veth_lab_ip(const struct veth_lab *lab, int side, const char *const argv[])
{
	struct haul_err err = { 0 };
	int status = 0;
	int pid = netns_spawn(lab->netns_fd[side], argv, -1, &err);
	if (pid < 0)
		fail_msg("%s", err.text);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}
