/* os/loop_lab.h — block devices that really fail: loop devices over files that shrink, that have no
 * room, or that may only be read. Needs root; all of it goes away with the process. */
#pragma once

#include "lib/testlib.h"

struct loop_lab {
	char folder[128];  /* mounted there: a file system of its own, in a namespace of its own */
	char backing[192]; /* file on it, sparse */
	char device[32];   /* over the file */
	char host[32];     /* device under the file system */
	int device_fd;
	int host_fd;
};

enum { LOOP_READ_ONLY = 1 };

/* Skips the test without the right to do it. fs_bytes: of the file system (>= 8 MiB), bytes: of the
 * device over a sparse file on it, which may be more. */
void loop_lab_open(struct loop_lab *lab, uint64_t fs_bytes, uint64_t bytes, int flags);
void loop_lab_close(struct loop_lab *lab);
/* Take all room the file system has left, or give it back. */
void loop_lab_fill(struct loop_lab *lab, bool full);
/* Cut the file under the device: reads behind it fail. */
void loop_lab_cut(struct loop_lab *lab, uint64_t bytes);
/* Room for all of the device. */
void loop_lab_reserve(struct loop_lab *lab);
/* Give blocks of the device back to the file system. */
void loop_lab_discard(struct loop_lab *lab, uint64_t offset, uint64_t bytes);
/* Take the device away and make another over the same file; `device` names it. */
void loop_lab_reattach(struct loop_lab *lab, int flags);
/* The file system under the device stops: all operations fail from now on, for good. */
void loop_lab_kill(struct loop_lab *lab);
/* It finds an error in itself, after which it can only be read, also through files that are open
 * for writing. Skips the test where the kernel cannot be told to. */
void loop_lab_error(struct loop_lab *lab);
/* Its mount: read-only or not. The device is away from then on. After an error: mounted anew. */
void loop_lab_remount(struct loop_lab *lab, bool read_only);
