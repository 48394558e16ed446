/* store/log_lab.h — a log on a simulated disk, whose records are known by their op.
 *
 * Model      log_lab_open makes a media and a log, or opens them again and replays. What a record
 *            holds follows from its op and the lab's history: after ops were lost, history is
 *            counted up by who goes on, and the same ops get other records.
 * Threads    one. */
#pragma once

#include "lib/testlib.h"
#include "os/vfs_sim.h"
#include "store/log.h"

enum {
	LOG_LAB_DISK = 8 << 20,
	LOG_LAB_SEGMENT = 32 << 10,
	LOG_LAB_BUFFER = 64 << 10,
	LOG_LAB_OPS = 4096,
};

struct log_lab {
	struct vfs_sim *disk;
	struct vfs *vfs;
	struct media *media;
	struct log *log;
	struct log_place place;   /* where replay begins: what a root would keep */
	struct log_report report; /* of the last replay */
	uint8_t uuid[16];
	uint32_t history[LOG_LAB_OPS]; /* of each op: which of the records it could be */
	uint64_t next;                 /* op to put */
	uint64_t durable;              /* told by log_write */
	uint64_t told;                 /* the last op replayed */
	bool wrong;                    /* a replayed record is not what it should be */
	uint8_t frame[LOG_LAB_BUFFER];
};

void log_lab_init(struct log_lab *lab, uint64_t seed);
void log_lab_done(struct log_lab *lab);
/* A vfs and a media, made or opened; 0 or what media_file_open says. */
int log_lab_media(struct log_lab *lab, enum media_mode mode);
/* Replay from lab->place into lab->report. 0 or what log_replay says. */
int log_lab_replay(struct log_lab *lab);
/* Replay, cut a torn end, open the log there. The verdict, or -errno. */
int log_lab_open(struct log_lab *lab);
/* Close what is open, as a killed process would: nothing is written. */
void log_lab_abandon(struct log_lab *lab);

/* Bytes of the record of an op: from 1 to some blocks. */
uint32_t log_lab_bytes(const struct log_lab *lab, uint64_t op);
/* log_room and log_put of lab->next: 0, or what the first that failed says. */
int log_lab_put(struct log_lab *lab);
/* log_write; lab->durable is what it told. */
int log_lab_write(struct log_lab *lab);
/* A put and a write of each of `count` records, which have to succeed. */
void log_lab_append(struct log_lab *lab, uint32_t count);
/* Bytes of the log at a position, to damage; at least to the end of its segment. */
uint8_t *log_lab_at(struct log_lab *lab, uint64_t position);
/* Close as a killed process would, and see what recovery says: it must succeed. */
enum log_verdict log_lab_again(struct log_lab *lab);

/* For cmocka: *state is a lab. */
int log_lab_setup(void **state);
int log_lab_teardown(void **state);
