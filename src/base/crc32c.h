/* base/crc32c.h — the checksum of files: CRC-32C (Castagnoli), as in iSCSI, ext4 and SCTP.
 *
 * Model      crc32c(crc32c(0, a), b) is the checksum of a followed by b. Finds every error of up to
 *            32 bits in a row and every odd number of flipped bits; it is no signature.
 * Threads    pure.
 * Source     RFC 3720, appendix B.4 (examples). */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* With the processor's instruction where it has one (x86 with SSE 4.2), else crc32c_table. */
uint32_t crc32c(uint32_t crc, const void *data, size_t bytes);

/* The same on any processor; for tests. */
uint32_t crc32c_table(uint32_t crc, const void *data, size_t bytes);
