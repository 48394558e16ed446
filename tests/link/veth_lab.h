/* link/veth_lab.h — two namespaces with a veth pair between them, for tests that need root.
 * The interface is called "radio0" on both sides. All calls fail the test when they cannot do it;
 * veth_lab_open skips it (77) where namespaces are forbidden. */
#pragma once

#include <stdint.h>

#include <haul/link.h>

enum { VETH_LAB_ETHERTYPE = 0x88b5, VETH_LAB_SIDES = 2 };

struct veth_lab {
	int netns_fd[VETH_LAB_SIDES];
};

void veth_lab_open(struct veth_lab *lab, uint32_t mtu_bytes);
void veth_lab_close(struct veth_lab *lab);

/* haul_link_open on that side; its code. */
int veth_lab_link(const struct veth_lab *lab, int side, const struct haul_link_options *options,
		  struct haul_link **ret_link, struct haul_err *err);
/* The same for a raw link on radio0 with that burst_max; peer 1 is the other side. */
struct haul_link *veth_lab_raw(const struct veth_lab *lab, int side, uint32_t burst_max);
/* A plain packet socket on radio0, not ours: promiscuous, frames with their Ethernet header. */
int veth_lab_socket(const struct veth_lab *lab, int side, uint16_t protocol);
/* A TAP named ifname there, up, without vnet header: a plain file of frames. */
int veth_lab_tap(const struct veth_lab *lab, int side, const char *ifname);
/* Run "ip ARGS" there. */
void veth_lab_ip(const struct veth_lab *lab, int side, const char *const argv[]);
