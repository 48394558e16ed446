/* os/io_sim.h — a disk in memory that keeps apart what is durable and what only looks so.
 *
 * Model      Writes are seen by reads as soon as they finish, and are durable once a sync that was
 *            pushed after they finished has finished. Operations finish in io_reap, in an order
 *            that the seed chooses. io_sim_crash makes what a power cut could leave: of all sectors
 *            not durable each is new, old, or (torn) belongs to an older write, as chosen.
 *            Faults: the n-th operation of a kind fails with an errno, or is cut short; a range of
 *            sectors fails to read; all of the device fails from now on.
 * Units      bytes; a sector is IO_SIM_SECTOR.
 *            A write that is durable by itself counts as a write and a sync, and fails as either.
 * Ownership  io_sim_open makes it; io_close ends the io and keeps the disk; io_sim_close ends both.
 * Threads    one.
 * Errors     as os/io.h. */
#pragma once

#include "base/prng.h"
#include "os/io.h"

enum { IO_SIM_SECTOR = 512 };

struct io_sim;

int io_sim_open(struct io_sim **ret_sim, uint64_t bytes, uint64_t seed);
void io_sim_close(struct io_sim *sim);
/* A new io over what the disk holds now; one at a time. */
struct io *io_sim_io(struct io_sim *sim);
/* Operations of one kind that have finished since open. */
uint64_t io_sim_count(const struct io_sim *sim, enum io_kind kind);

/* What is on the disk, as reads see it; tests may change it (bit rot). */
uint8_t *io_sim_bytes(struct io_sim *sim);
uint64_t io_sim_size(const struct io_sim *sim);

/* X: which of the sectors that are not durable a crash leaves */
enum io_sim_crash {
	IO_SIM_LOSE_ALL, /* none of the pending */
	IO_SIM_KEEP_ALL, /* all of them, also of writes still in flight */
	IO_SIM_PREFIX,   /* the first n pending sectors in the order written, n from prng */
	IO_SIM_REORDER,  /* each sector by a coin */
	IO_SIM_TORN,     /* each write: a prefix or a suffix of its sectors, by chance */
	IO_SIM_CRASHES
};
/* Power cut: what is in flight never finishes (no done() is called, as after a real crash), the
 * disk now holds durable sectors and the chosen others, all of it durable. The io is dead: take a
 * new one with io_sim_io. The data of what is in flight has to be there still. */
void io_sim_crash(struct io_sim *sim, enum io_sim_crash how, struct prng *prng);
/* Let so many more finishing operations (reads excepted) go by, then stop: none finishes after
 * that, io_wait says -ETIME. UINT64_MAX = never. For crash points. */
void io_sim_stop_after(struct io_sim *sim, uint64_t operations);
bool io_sim_stopped(const struct io_sim *sim);

/* After `skip` more operations of that kind, `count` of them finish with `error` (-errno; 0 = cut
 * short to half). A failed write may have written any prefix of its sectors. */
void io_sim_fail(struct io_sim *sim, enum io_kind kind, uint64_t skip, uint64_t count, int error);
/* Reads that touch the range fail with -EIO until bytes = 0 is set. */
void io_sim_bad(struct io_sim *sim, uint64_t offset, uint64_t bytes);
/* So do writes, and change nothing. */
void io_sim_worn(struct io_sim *sim, uint64_t offset, uint64_t bytes);
/* All operations fail with -ENODEV while dead. */
void io_sim_dead(struct io_sim *sim, bool dead);
