/* os/io_lab.h — every engine on a disk of its own, for tests that run the same over all of them. */
#pragma once

#include "lib/testlib.h"
#include "os/io.h"
#include "os/io_sim.h"

enum { LAB_BLOCK = 4096, LAB_OPS = 512 };

struct lab_engine {
	const char *name;
	enum io_engine engine;
	bool shared;
	bool sim;
	uint32_t threads;
};

/* io_uring for one thread and shared, threads many and one, the simulated disk; without those that
 * this machine forbids. Returns how many. */
enum { LAB_ENGINES = 5 };
uint32_t lab_engines(struct lab_engine engines[LAB_ENGINES]);

struct io_lab {
	const struct lab_engine *engine;
	struct file file;   /* fd -1 with the simulated disk */
	struct io_sim *sim; /* NULL with the others */
	struct io *io;
	uint8_t *memory; /* LAB_OPS blocks, aligned */
	uint64_t bytes;
	struct io_op ops[LAB_OPS];
	uint32_t finished;       /* by lab_done */
	uint32_t order[LAB_OPS]; /* the first so many that finished */
};

/* A file of that size with all blocks written; it has no name any more. */
void lab_file(struct file *file, uint64_t bytes);
/* options may be NULL; engine, shared and threads of it are the row's. */
void lab_open(struct io_lab *lab, const struct lab_engine *engine, uint64_t bytes,
	      const struct io_options *options);
void lab_close(struct io_lab *lab);

/* Operation `index` on data `index` (one block), or on other data when it is changed after. */
struct io_op *lab_op(struct io_lab *lab, uint32_t index, enum io_kind kind, uint64_t offset);
/* Wait and reap until so many have finished since lab_open. */
void lab_finish(struct io_lab *lab, uint32_t finished);
/* Submit one, push, and wait for it; returns its result. */
int32_t lab_run(struct io_lab *lab, struct io_op *op);
