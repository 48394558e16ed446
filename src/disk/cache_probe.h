/* disk/cache_probe.h — what a file or device holds, before it is overwritten.
 *
 * Model      Looks at the first and the last PROBE_BYTES for what file systems, partition tables,
 *            volumes and common files begin with. A file without blocks, and one that reads as
 *            zeros at both ends and has no other data, is empty; of a device only both ends are
 *            read.
 * Memory     two buffers of PROBE_BYTES while it runs.
 * Threads    any.
 * Errors     -errno when it cannot be read, -ENOMEM. */
#pragma once

#include "os/file.h"

enum { PROBE_BYTES = 1 << 20, PROBE_TEXT = 96 };

/* 1 and a text ("an ext2, ext3 or ext4 file system") when it holds something; 0 when it is empty.
 * */
int probe_file(const struct file *file, char ret_text[PROBE_TEXT]);
