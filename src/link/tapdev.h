/* link/tapdev.h — make a TAP interface, or take one over, and agree with the kernel on offloads.
 *
 * Model      Control plane of the tap link: after tapdev_open the descriptor is only read and
 *            written.
 * Ownership  the caller closes ret_dev->fd. A descriptor passed in options is taken over on success
 *            only.
 * Errors     -errno with text.
 * Blocking   yes. */
#pragma once

#include <haul/link.h>

struct tapdev {
	int fd;            /* non-blocking */
	char ifname[16];   /* the name the kernel chose */
	bool vnet;         /* every frame is preceded by a struct virtio_net_hdr */
	uint32_t offloads; /* HAUL_OFFLOAD_TSO, USO, CSUM: what the kernel agreed to */
	struct haul_addr mac;
};

int tapdev_open(const struct haul_link_options *options, struct tapdev *ret_dev,
		struct haul_err *err);
