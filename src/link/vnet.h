/* link/vnet.h — the header a TAP with IFF_VNET_HDR puts before a frame (virtio specification
 * 5.1.6), and the constants that the C library's copy of the kernel headers may be too old to
 * have. */
#pragma once

#include <linux/if_tun.h>
#include <linux/virtio_net.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* Linux 6.2 */
#endif
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum { VNET_BYTES = 10 };
_Static_assert(sizeof(struct virtio_net_hdr) == VNET_BYTES, "what TUNSETVNETHDRSZ is told");
