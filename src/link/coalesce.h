/* link/coalesce.h — find consecutive frames that make one superframe.
 *
 * Model      coalesce_find looks at rows in the order they are to be sent and tells how many, from
 *            the first on, the kernel could have received as one superframe of a flow; a run of 1
 *            is not to be merged. coalesce_header builds the headers of the whole. Cutting the
 *            result (segment.h) gives the rows back, byte for byte.
 *            Only rows with HAUL_FRAME_CSUM_PARTIAL are merged: their payload is vouched for by
 *            whoever carried them. A row with a complete checksum goes through on its own, so that
 *            a corrupted one is still seen by its receiver.
 * Threads    pure. */
#pragma once

#include <haul/frames.h>
#include "link/headers.h"
#include "link/vnet.h"

struct coalesce {
	const struct haul_frames *frames;
	const uint32_t *order; /* rows in the order they are to be sent */
	uint32_t left;         /* how many of them */
	uint32_t rows_max;     /* most rows of a run */
	uint32_t uso_rows_max; /* the same for UDP, of which the kernel takes fewer */
	uint32_t offloads;     /* HAUL_OFFLOAD_TSO, HAUL_OFFLOAD_USO: which kinds may be merged */
};

struct coalesce_run {
	uint32_t count;         /* rows, >= 1 */
	uint32_t bytes;         /* of the superframe; valid when count > 1, as is all below */
	uint32_t payload_bytes; /* of every row but the last */
	struct headers headers;
	uint8_t tcp_flags; /* of the whole */
};

struct coalesce_run coalesce_find(const struct coalesce *in);

/* Write run.headers.payload bytes of headers to out and the header a TAP wants before them. */
void coalesce_header(const struct coalesce *in, const struct coalesce_run *run,
		     uint8_t out[HEADERS_BYTES_MAX], struct virtio_net_hdr *ret_vnet);
