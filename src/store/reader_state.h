/* store/reader_state.h — what is behind a struct haul_reader, of a store or of a server.
 *
 * Model      The public calls check their arguments and go through this table. store/reader.c has
 *            them; reader_store*.c answers from a store, rpc/client_reader.c from a server. A
 *            page's records live in memory of the implementation until its next call.
 * Threads    as haul/reader.h. */
#pragma once

#include <haul/reader.h>

struct haul_reader_calls {
	void (*close)(struct haul_reader *reader);
	int (*pin)(struct haul_reader *reader);
	void (*unpin)(struct haul_reader *reader);
	int (*get)(struct haul_reader *reader, const uint64_t *ids, uint32_t count,
		   struct haul_node *nodes, int32_t *statuses);
	int (*get_by_key)(struct haul_reader *reader, const struct haul_text *keys, uint32_t count,
			  struct haul_node *nodes, int32_t *statuses);
	int (*get_edges)(struct haul_reader *reader, const struct haul_edge_id *ids, uint32_t count,
			 struct haul_edge *edges, int32_t *statuses);
	int (*get_embeddings)(struct haul_reader *reader, const struct haul_embedding_names *names,
			      struct haul_embedding *embeddings, int32_t *statuses);
	int (*scan)(struct haul_reader *reader, struct haul_scan *scan, struct haul_node *nodes,
		    uint32_t max);
	int (*scan_edges)(struct haul_reader *reader, struct haul_cursor *cursor,
			  struct haul_edge *edges, uint32_t max);
	int (*scan_embeddings)(struct haul_reader *reader, struct haul_cursor *cursor,
			       struct haul_embedding *embeddings, uint32_t max);
	int (*neighbours)(struct haul_reader *reader, struct haul_neighbours *query,
			  struct haul_edge *edges, uint32_t max);
	int (*traverse)(struct haul_reader *reader, const struct haul_traverse *query,
			struct haul_visit *visits, uint32_t max, bool *ret_complete);
	int (*path)(struct haul_reader *reader, const struct haul_path *query, uint64_t *nodes,
		    uint32_t max);
	int (*near)(struct haul_reader *reader, const struct haul_near *query,
		    struct haul_near_hit *hits);
};

/* First member of every implementation's own. */
struct haul_reader {
	const struct haul_reader_calls *calls;
	bool stop; /* atomic: haul_reader_interrupt; taken back by the call that saw it */
};

/* Whether haul_reader_interrupt asked for an end; asked so once, answered so once. */
static inline bool reader_stopped(struct haul_reader *reader)
{
	return __atomic_load_n(&reader->stop, __ATOMIC_RELAXED) &&
	       __atomic_exchange_n(&reader->stop, false, __ATOMIC_ACQ_REL);
}

/* Of a store: what reader_store.c needs of it. bytes: as haul_store_reader, 0 = 4 MiB. */
struct lsm;
struct vectors;
int reader_store_new(struct haul_reader **ret_reader, struct lsm *lsm, struct vectors *vectors,
		     uint64_t bytes);
