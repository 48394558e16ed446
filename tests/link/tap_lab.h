/* link/tap_lab.h — TAP links in namespaces of their own, and what is needed to see what the kernel
 * makes of their frames. All calls fail the test when they cannot do it; tap_lab_open skips it (77)
 * where namespaces are forbidden. */
#pragma once

#include <stdint.h>

#include <haul/link.h>

enum { TAP_LAB_SIDES = 2, TAP_LAB_MTU_BYTES = 9014 };

/* Side i has the interface "tap0" with the addresses 10.70.0.(i+1)/24 and fd70::(i+1)/64. */
struct tap_lab {
	int netns_fd[TAP_LAB_SIDES];
	struct haul_link *link[TAP_LAB_SIDES];
};

struct haul_link_options tap_lab_options(void);
void tap_lab_open(struct tap_lab *lab, const struct haul_link_options options[TAP_LAB_SIDES]);
void tap_lab_close(struct tap_lab *lab);

/* haul_link_open in there; its code. */
int tap_lab_link(const struct tap_lab *lab, int side, const struct haul_link_options *options,
		 struct haul_link **ret_link, struct haul_err *err);
/* A non-blocking socket in there. */
int tap_lab_socket(const struct tap_lab *lab, int side, int family, int type);
/* A packet socket on tap0: writes and reads whole Ethernet frames. */
int tap_lab_packet_socket(const struct tap_lab *lab, int side);
/* The next frame the kernel got from tap0, VLAN tag put back; -EAGAIN when there is none. Frames
 * that the kernel sends by itself (neighbour discovery, reports) are passed over. */
int tap_lab_read(int packet_socket, uint8_t *out, uint32_t room);
