/* A reader of a store in this process: records by name. */
#include "store/reader_store.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

static_assert((int)READER_BYTES_MIN > (int)TREE_VALUE_MAX, "one record always fits");

/* ---- a call ---- */

int reader_begin(struct reader_store *store)
{
	if (reader_stopped(&store->reader))
		return -ECANCELED;
	store->arena.used = 0;
	snapshot_take(&store->seen);
	return 0;
}

int reader_begin_long(struct reader_store *store)
{
	if (reader_stopped(&store->reader))
		return -ECANCELED;
	store->arena.used = 0;
	snapshot_take_long(&store->seen);
	return 0;
}

int reader_end(struct reader_store *store, int result)
{
	HAUL_ASSERT(store->seen.view != NULL);
	snapshot_drop(&store->seen);
	return result;
}

/* A value that lies in a memory table is gone with the view: into the arena with it. */
static bool value_keep(struct table_ask *ask, struct arena *arena)
{
	const uint32_t bytes = ask->row.bytes;
	uint8_t *copy = arena->data + arena->used;

	if (ask->row.op == 0 || bytes == 0 ||
	    (ask->row.value >= arena->data && ask->row.value < arena->data + arena->bytes))
		return true;
	if (bytes > arena->bytes - arena->used)
		return false;
	memcpy(copy, ask->row.value, bytes);
	ask->row.value = copy;
	const uint64_t used = (arena->used + bytes + 3) & ~UINT64_C(3);
	arena->used = used < arena->bytes ? used : arena->bytes;
	return true;
}

/* How many from the first on are answered, with their values in the arena. */
static uint32_t asks_keep(struct reader_store *store, uint32_t count, struct arena *arena)
{
	uint32_t kept = 0;

	while (kept < count && store->asks[kept].status != HAUL_EFULL &&
	       value_keep(&store->asks[kept], arena))
		kept++;
	return kept;
}

uint32_t reader_ask(struct reader_store *store, enum tree tree, uint32_t count, struct arena *arena)
{
	const uint64_t used = arena->used;

	HAUL_ASSERT(count > 0 && count <= READER_ASKS);
	for (;;) {
		for (uint32_t i = 0; i < count; i++)
			store->asks[i].op_max = store->seen.op;
		lsm_get(store->seen.view, tree, store->asks, count,
			lsm_into(store->scratch, arena));
		const uint32_t answered = asks_keep(store, count, arena);
		/* Values of later ones may have filled the arena before the first had its turn.
		 * Alone in an empty arena every value fits. */
		if (answered > 0 || used > 0)
			return answered;
		HAUL_ASSERT(count > 1);
		arena->used = 0;
		count = (count + 15) / 16;
	}
}

/* ---- by name ---- */

/* A call that looks for many records: as many at once as there are asks. */
struct rounds {
	struct reader_store *store;
	uint32_t wanted;
	uint32_t done, count; /* asks of this round, from names[done] on */
	uint32_t answered;    /* of them, before the arena was full; ends the call when not all */
	int result;           /* of the call, behind the last round */
};

static struct rounds rounds_begin(struct reader_store *store, uint32_t wanted)
{
	return (struct rounds){ .store = store, .wanted = wanted, .result = reader_begin(store) };
}

/* Whether there is another. */
static bool rounds_next(struct rounds *rounds)
{
	struct reader_store *store = rounds->store;

	if (rounds->result < 0)
		return false;
	HAUL_ASSERT(rounds->answered <= rounds->count);
	const bool full = rounds->answered < rounds->count;
	rounds->done += rounds->answered;
	const bool stopped = !full && rounds->count > 0 && reader_stopped(&store->reader);
	if (stopped || full || rounds->done == rounds->wanted) {
		rounds->result = reader_end(store, stopped ? -ECANCELED : (int)rounds->done);
		return false;
	}
	const uint32_t left = rounds->wanted - rounds->done;
	rounds->count = left < READER_ASKS ? left : READER_ASKS;
	return true;
}

/* The asks of this round, whose keys have been filled in. */
static void rounds_ask(struct rounds *rounds, enum tree tree, int32_t *statuses)
{
	struct reader_store *store = rounds->store;

	rounds->answered = reader_ask(store, tree, rounds->count, &store->arena);
	for (uint32_t i = 0; i < rounds->answered; i++)
		statuses[rounds->done + i] = reader_status(&store->asks[i]);
}

static void node_put(const struct table_ask *ask, struct haul_node *node)
{
	record_get_node(ask->row.value, ask->row.bytes, node);
	node->id = ask->key.word[0];
	node->version = ask->row.op;
}

static int reader_get(struct haul_reader *reader, const uint64_t *ids, uint32_t count,
		      struct haul_node *nodes, int32_t *statuses)
{
	struct reader_store *store = reader_store_of(reader);
	struct rounds rounds = rounds_begin(store, count);

	while (rounds_next(&rounds)) {
		const uint32_t done = rounds.done;
		for (uint32_t i = 0; i < rounds.count; i++)
			store->asks[i].key = (struct tree_key){ { ids[done + i], 0, 0 } };
		rounds_ask(&rounds, TREE_NODE, statuses);
		for (uint32_t i = 0; i < rounds.answered; i++) {
			if (statuses[done + i] == 0)
				node_put(&store->asks[i], &nodes[done + i]);
		}
	}
	return rounds.result;
}

int reader_nodes(struct reader_store *store, uint32_t count, struct haul_node *nodes)
{
	const uint32_t answered = reader_ask(store, TREE_NODE, count, &store->arena);

	for (uint32_t i = 0; i < answered; i++) {
		const int status = reader_status(&store->asks[i]);
		if (status < 0)
			return status == -ENOENT ? HAUL_ECORRUPT : status;
		node_put(&store->asks[i], &nodes[i]);
	}
	return (int)answered;
}

/* Where keys lead, into the asks: id 0, which no node has, if nowhere. statuses: of the look-up. */
static uint32_t keys_lead(struct reader_store *store, const struct haul_text *keys, uint32_t count,
			  int32_t *statuses)
{
	struct arena ids = { .data = store->work, .bytes = store->work_bytes };

	for (uint32_t i = 0; i < count; i++)
		store->asks[i].key = record_name(keys[i].data, keys[i].bytes);
	const uint32_t answered = reader_ask(store, TREE_NAME, count, &ids);
	for (uint32_t i = 0; i < answered; i++) {
		const struct table_ask *ask = &store->asks[i];
		statuses[i] = reader_status(ask);
		if (statuses[i] == 0 && ask->row.bytes != sizeof(uint64_t))
			statuses[i] = HAUL_ECORRUPT;
		const uint64_t id = statuses[i] == 0 ? le64_load(ask->row.value) : 0;
		store->asks[i].key = (struct tree_key){ { id, 0, 0 } };
	}
	return answered;
}

/* One node that a key led to: it has to be there, and to have this key and not another of the same
 * hash. */
static int key_settle(const struct table_ask *ask, const struct haul_text *key,
		      struct haul_node *node)
{
	const int status = reader_status(ask);

	if (status < 0)
		return status == -ENOENT ? HAUL_ECORRUPT : status;
	node_put(ask, node);
	const bool same =
		node->key_bytes == key->bytes && memcmp(node->key, key->data, key->bytes) == 0;
	return same ? 0 : -ENOENT;
}

static int reader_get_by_key(struct haul_reader *reader, const struct haul_text *keys,
			     uint32_t count, struct haul_node *nodes, int32_t *statuses)
{
	struct reader_store *store = reader_store_of(reader);
	struct rounds rounds = rounds_begin(store, count);

	while (rounds_next(&rounds)) {
		const uint32_t done = rounds.done;
		const uint32_t led = keys_lead(store, keys + done, rounds.count, statuses + done);
		rounds.answered = reader_ask(store, TREE_NODE, led, &store->arena);
		for (uint32_t i = 0; i < rounds.answered; i++) {
			const uint32_t at = done + i;
			if (statuses[at] == 0)
				statuses[at] = key_settle(&store->asks[i], &keys[at], &nodes[at]);
		}
	}
	return rounds.result;
}

void reader_edge_put(const struct tree_key *out, const struct table_ask *ask,
		     struct haul_edge *edge)
{
	record_get_edge(ask->row.value, ask->row.bytes, edge);
	edge->id = (struct haul_edge_id){ .src = out->word[0],
					  .type = (uint32_t)(out->word[1] >> 32),
					  .disc = (uint32_t)out->word[1],
					  .dst = out->word[2] };
	edge->version = ask->row.op;
}

static int reader_get_edges(struct haul_reader *reader, const struct haul_edge_id *ids,
			    uint32_t count, struct haul_edge *edges, int32_t *statuses)
{
	struct reader_store *store = reader_store_of(reader);
	struct rounds rounds = rounds_begin(store, count);

	while (rounds_next(&rounds)) {
		const uint32_t done = rounds.done;
		for (uint32_t i = 0; i < rounds.count; i++) {
			const struct haul_edge_id *id = &ids[done + i];
			store->asks[i].key =
				(struct tree_key){ { id->src, (uint64_t)id->type << 32 | id->disc,
						     id->dst } };
		}
		rounds_ask(&rounds, TREE_OUT, statuses);
		for (uint32_t i = 0; i < rounds.answered; i++) {
			const struct table_ask *ask = &store->asks[i];
			if (statuses[done + i] == 0)
				reader_edge_put(&ask->key, ask, &edges[done + i]);
		}
	}
	return rounds.result;
}

int reader_edges(struct reader_store *store, uint32_t count, struct haul_edge *edges)
{
	const uint32_t answered = reader_ask(store, TREE_OUT, count, &store->arena);

	for (uint32_t i = 0; i < answered; i++) {
		const int status = reader_status(&store->asks[i]);
		if (status < 0)
			return status == -ENOENT ? HAUL_ECORRUPT : status;
		reader_edge_put(&store->asks[i].key, &store->asks[i], &edges[i]);
	}
	return (int)answered;
}

/* Nothing but embeddings is in the arena, whose lengths are multiples of a float's: so the vectors
 * are aligned. */
static void embedding_put(const struct table_ask *ask, struct haul_embedding *embedding)
{
	record_get_embedding(ask->row.value, ask->row.bytes, embedding);
	embedding->index = (uint32_t)ask->key.word[0];
	embedding->node = ask->key.word[1];
	embedding->version = ask->row.op;
}

static int reader_get_embeddings(struct haul_reader *reader,
				 const struct haul_embedding_names *names,
				 struct haul_embedding *embeddings, int32_t *statuses)
{
	struct reader_store *store = reader_store_of(reader);
	struct rounds rounds = rounds_begin(store, names->count);

	while (rounds_next(&rounds)) {
		const uint32_t done = rounds.done;
		for (uint32_t i = 0; i < rounds.count; i++)
			store->asks[i].key =
				(struct tree_key){ { names->index, names->nodes[done + i], 0 } };
		rounds_ask(&rounds, TREE_EMBEDDING, statuses);
		for (uint32_t i = 0; i < rounds.answered; i++) {
			if (statuses[done + i] == 0)
				embedding_put(&store->asks[i], &embeddings[done + i]);
		}
	}
	return rounds.result;
}

/* ---- by likeness ---- */

static int reader_near(struct haul_reader *reader, const struct haul_near *query,
		       struct haul_near_hit *hits)
{
	struct reader_store *store = reader_store_of(reader);
	const struct vectors_sight sight = {
		.seen = &store->seen,
		.stop = &reader->stop,
		.scratch = store->scratch,
		.work = { .data = store->work, .bytes = store->work_bytes },
	};

	if (reader_stopped(reader))
		return -ECANCELED;
	const int result = vectors_near(store->vectors, &sight, query, hits);
	if (result == -ECANCELED)
		(void)reader_stopped(reader);
	return result;
}

/* ---- pin, open, close ---- */

static int reader_pin(struct haul_reader *reader)
{
	struct reader_store *store = reader_store_of(reader);
	uint64_t op = 0;

	if (store->seen.fixed)
		return -EINVAL;
	const int error = lsm_pin(store->seen.lsm, &op);
	if (error < 0)
		return error;
	store->seen.fixed = true;
	store->seen.op = op;
	return 0;
}

static void reader_unpin(struct haul_reader *reader)
{
	struct reader_store *store = reader_store_of(reader);

	if (store->seen.fixed)
		lsm_unpin(store->seen.lsm, store->seen.op);
	store->seen.fixed = false;
}

static void reader_close(struct haul_reader *reader)
{
	struct reader_store *store = reader_store_of(reader);

	HAUL_ASSERT(store->seen.view == NULL);
	reader_unpin(reader);
	lsm_scratch_free(store->scratch);
	free(store->asks);
	free(store->arena.data);
	free(store->work);
	free(store);
}

static const struct haul_reader_calls reader_calls = {
	.close = reader_close,
	.pin = reader_pin,
	.unpin = reader_unpin,
	.get = reader_get,
	.get_by_key = reader_get_by_key,
	.get_edges = reader_get_edges,
	.get_embeddings = reader_get_embeddings,
	.scan = reader_scan,
	.scan_edges = reader_scan_edges,
	.scan_embeddings = reader_scan_embeddings,
	.neighbours = reader_neighbours,
	.traverse = reader_traverse,
	.path = reader_path,
	.near = reader_near,
};

int reader_store_new(struct haul_reader **ret_reader, struct lsm *lsm, struct vectors *vectors,
		     uint64_t bytes)
{
	struct reader_store *store = calloc(1, sizeof *store);

	if (store == NULL)
		return -ENOMEM;
	bytes = bytes == 0 ? READER_BYTES : bytes;
	bytes = bytes < READER_BYTES_MIN ? READER_BYTES_MIN : bytes;
	bytes = (bytes + 63) & ~UINT64_C(63);
	store->reader.calls = &reader_calls;
	store->seen.lsm = lsm;
	store->vectors = vectors;
	store->arena.bytes = bytes;
	store->arena.data = aligned_alloc(64, bytes);
	store->work_bytes = bytes * 2 < VECTORS_WORK_MIN ? VECTORS_WORK_MIN : bytes * 2;
	store->work = aligned_alloc(64, store->work_bytes);
	store->asks = calloc(READER_ASKS, sizeof *store->asks);
	if (store->arena.data == NULL || store->work == NULL || store->asks == NULL ||
	    lsm_scratch_new(&store->scratch, READER_ASKS) < 0) {
		reader_close(&store->reader);
		return -ENOMEM;
	}
	*ret_reader = &store->reader;
	return 0;
}
