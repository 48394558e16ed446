/* Sets of vectors in memory: filled from the tree, brought up to date, let go. */
#include <errno.h>
#include <string.h>

#include "store/exec.h"
#include "store/vectors_state.h"

enum { AHEAD = 16 };

void vectors_let_go(struct vectors_index *of)
{
	if (of->set.pool != NULL)
		vector_set_clear(&of->set);
	of->filled = false;
	for (uint32_t i = 0; i < VECTOR_GRAPHS; i++) {
		__atomic_store_n(&of->wanted[i], false, __ATOMIC_RELAXED);
		__atomic_store_n(&of->stuck[i], 0, __ATOMIC_RELAXED);
	}
}

/* The set that was not searched for longest gives its memory away. false: there is none. */
static bool others_give(struct vectors *vectors, const struct vectors_index *but)
{
	struct vectors_index *oldest = NULL;
	uint64_t oldest_used = UINT64_MAX;

	for (uint32_t i = 0; i < HAUL_EMBEDDING_INDEXES; i++) {
		struct vectors_index *of = &vectors->index[i];
		const uint64_t used = __atomic_load_n(&of->used, __ATOMIC_RELAXED);
		if (of == but || used >= oldest_used || pthread_rwlock_trywrlock(&of->lock) != 0)
			continue;
		if (of->filled) {
			if (oldest != NULL)
				(void)pthread_rwlock_unlock(&oldest->lock);
			oldest = of;
			oldest_used = used;
		} else {
			(void)pthread_rwlock_unlock(&of->lock);
		}
	}
	if (oldest == NULL)
		return false;
	vectors_let_go(oldest);
	(void)pthread_rwlock_unlock(&oldest->lock);
	return true;
}

static void graphs_init(struct vectors *vectors, struct vectors_index *of)
{
	hnsw_init(&of->graph[HAUL_EUCLIDEAN], &of->set, vectors->kernels, HAUL_EUCLIDEAN);
	hnsw_init(&of->graph[HAUL_COSINE], &of->set, vectors->kernels, HAUL_COSINE);
}

/* Graphs give their memory to rows. false: they had none. */
static bool graphs_give(struct vectors *vectors, struct vectors_index *of)
{
	const uint32_t taken = of->set.taken;

	vector_set_unlink(&of->set);
	if (of->set.taken == taken)
		return false;
	of->set.named = 0;
	vector_set_pack(&of->set);
	graphs_init(vectors, of);
	return true;
}

/* What was put is what the tree says: so a row that was dropped for want of room is put again. */
static int set_put(struct vectors *vectors, struct vectors_index *of, uint64_t node,
		   const struct vectors_row *row)
{
	int error = HAUL_EFULL;

	do {
		error = vector_set_put(&of->set, node, row->vector);
	} while (error == HAUL_EFULL && (others_give(vectors, of) || graphs_give(vectors, of)));
	return error;
}

/* A new set begins with its first row. */
static int set_row(struct vectors *vectors, struct vectors_index *of, uint64_t node,
		   const uint8_t *value, uint32_t bytes)
{
	struct vectors_row row;
	const int error = vectors_row(value, bytes, &row);

	if (error < 0)
		return error;
	if (of->set.live == 0 && of->set.dimensions != row.dimensions) {
		vector_set_clear(&of->set);
		vector_set_init(&of->set, &vectors->pool, row.dimensions);
		graphs_init(vectors, of);
	}
	if (of->set.dimensions != row.dimensions)
		return HAUL_ECORRUPT;
	return set_put(vectors, of, node, &row);
}

static int rows_take(struct vectors *vectors, struct vectors_index *of, const struct rows *rows)
{
	int error = 0;

	for (uint32_t i = 0; i < rows->count && error == 0; i++) {
		const uint32_t start = i == 0 ? 0 : rows->end[i - 1];
		error = set_row(vectors, of, rows->key[(size_t)i * rows->words + 1],
				rows->heap + start, rows->end[i] - start);
	}
	return error;
}

/* Does not fit: nothing is kept but how much it was. */
static int set_refuse(struct vectors_index *of, uint32_t chunks)
{
	of->refused = chunks == 0 ? 1 : chunks;
	of->refused_calls = 0;
	vectors_let_go(of);
	return 0;
}

/* Chunks that an index of so many vectors takes, by what the executor notes of it; 0: not known. */
static uint64_t set_wants(struct vectors *vectors, uint32_t index,
			  const struct vectors_sight *sight)
{
	struct table_ask ask = { .key = { { 0, index, 0 } }, .op_max = sight->seen->op };
	struct arena values = sight->work;
	struct exec_index of;
	struct vector_set set;

	lsm_get(sight->seen->view, TREE_OF_NODE, &ask, 1, lsm_into(sight->scratch, &values));
	if (ask.status != 0 || ask.row.op == 0 || ask.row.deleted || ask.row.bytes != sizeof of)
		return 0;
	memcpy(&of, ask.row.value, sizeof of);
	if (of.dimensions < 1 || of.dimensions > HAUL_DIMENSIONS_MAX)
		return 0;
	vector_set_init(&set, &vectors->pool, of.dimensions);
	return vector_set_wants(&set, of.count);
}

/* The place in the ring of the first change behind op. */
static uint64_t ring_behind(struct vectors *vectors, uint64_t op)
{
	(void)pthread_mutex_lock(&vectors->ring_lock);
	uint64_t place = vectors->ring_end;
	const uint64_t first = place < VECTORS_STAGED_MAX ? 0 : place - VECTORS_STAGED_MAX;
	while (place > first && vectors->ring[(place - 1) % VECTORS_STAGED_MAX].op > op)
		place--;
	(void)pthread_mutex_unlock(&vectors->ring_lock);
	return place;
}

int vectors_fill(struct vectors *vectors, uint32_t index, const struct vectors_sight *sight)
{
	struct vectors_index *of = &vectors->index[index];
	const struct lsm_walk_options options = {
		.tree = TREE_EMBEDDING,
		.from = { { index, 0, 0 } },
		.to = { { index, UINT64_MAX, 0 } },
		.prefix = true,
		.ahead = AHEAD,
	};
	struct snapshot_walk walk;
	struct rows rows;

	vectors_let_go(of);
	vector_set_init(&of->set, &vectors->pool, 1);
	graphs_init(vectors, of);
	/* What cannot fit takes nothing from others. */
	if (set_wants(vectors, index, sight) > vectors->pool.count)
		return set_refuse(of, vectors->pool.count);
	int error = snapshot_walk_open(&walk, sight->seen, &options);
	while (error == 0) {
		const int more = snapshot_walk_next(&walk, &rows);
		error = more < 0 ? more : (vectors_stopped(sight) ? -ECANCELED : 0);
		if (more <= 0 || error < 0)
			break;
		error = rows_take(vectors, of, &rows);
	}
	snapshot_walk_close(&walk);
	if (error == HAUL_EFULL)
		return set_refuse(of, of->set.taken);
	if (error < 0) {
		vectors_let_go(of);
		return error;
	}
	of->filled = true;
	of->refused = 0;
	of->op = sight->seen->op;
	/* All changes up to op were staged before op could be seen. */
	of->place = ring_behind(vectors, of->op);
	return 1;
}

/* ---- up to date ---- */

/* Nodes that changed, from the set's place on; *ret_place: behind them. -ENODATA: written over. */
static int ring_read(struct vectors *vectors, uint32_t index, uint64_t op, uint64_t *ret_place,
		     struct table_ask *asks)
{
	int count = 0;

	(void)pthread_mutex_lock(&vectors->ring_lock);
	const uint64_t end = vectors->ring_end;
	if (end - *ret_place > VECTORS_STAGED_MAX) {
		count = -ENODATA;
	} else {
		uint64_t place = *ret_place;
		for (; place < end && count < VECTORS_ASKS; place++) {
			const struct staged *staged = &vectors->ring[place % VECTORS_STAGED_MAX];
			if (staged->op > op)
				break;
			if (staged->index == index)
				asks[count++].key = (struct tree_key){ { index, staged->node, 0 } };
		}
		*ret_place = place;
	}
	(void)pthread_mutex_unlock(&vectors->ring_lock);
	return count;
}

/* Look up and take over `count` rows; a batch that does not fit into the arena goes on behind. */
static int asks_take(struct vectors *vectors, struct vectors_index *of,
		     const struct vectors_sight *sight, struct table_ask *asks, uint32_t count)
{
	struct arena values = sight->work;
	uint32_t done = 0;

	values.used = VECTORS_ASKS * sizeof *asks;
	const uint64_t start = values.used;
	while (done < count) {
		uint32_t some = count - done;
		/* So many fit in any case. */
		const uint64_t room = (values.bytes - start) / (VECTOR_ROW_MAX);
		some = some < room ? some : (uint32_t)room;
		for (uint32_t i = 0; i < some; i++)
			asks[done + i].op_max = sight->seen->op;
		values.used = start;
		snapshot_renew(sight->seen);
		lsm_get(sight->seen->view, TREE_EMBEDDING, asks + done, some,
			lsm_into(sight->scratch, &values));
		for (uint32_t i = done; i < done + some; i++) {
			const struct tree_row *row = &asks[i].row;
			const uint64_t node = asks[i].key.word[1];
			int error = asks[i].status;
			if (error == 0 && (row->op == 0 || row->deleted))
				vector_set_drop(&of->set, node);
			else if (error == 0)
				error = set_row(vectors, of, node, row->value, row->bytes);
			if (error < 0)
				return error;
		}
		done += some;
	}
	return 0;
}

/* A graph of which a good part was dropped is made anew, in a set without gaps. */
static void set_tidy(struct vectors *vectors, struct vectors_index *of)
{
	struct vector_set *set = &of->set;

	if (set->slots - set->live <= set->slots / VECTORS_DEAD_SHARE)
		return;
	set->named = 0;
	vector_set_pack(set);
	for (uint32_t i = 0; i < VECTOR_GRAPHS; i++) {
		struct hnsw *graph = &of->graph[i];
		const struct hnsw before = *graph;
		hnsw_init(graph, set, vectors->kernels, graph->metric);
		graph->link_chunks = before.link_chunks;
		graph->upper_chunks = before.upper_chunks;
	}
}

int vectors_apply(struct vectors *vectors, uint32_t index, const struct vectors_sight *sight)
{
	struct vectors_index *of = &vectors->index[index];
	struct table_ask *asks = (struct table_ask *)(void *)sight->work.data;
	uint64_t place = of->place;

	HAUL_ASSERT(of->filled && of->op <= sight->seen->op);
	for (;;) {
		const int count = ring_read(vectors, index, sight->seen->op, &place, asks);
		if (count == -ENODATA)
			return vectors_fill(vectors, index, sight);
		int error = asks_take(vectors, of, sight, asks, (uint32_t)count);
		/* Its dimensions changed on the way: the last state decides. */
		if (error == HAUL_ECORRUPT)
			return vectors_fill(vectors, index, sight);
		if (error == HAUL_EFULL)
			return set_refuse(of, of->set.taken);
		if (error == 0 && vectors_stopped(sight))
			error = -ECANCELED;
		if (error < 0)
			return error;
		of->place = place;
		if (count < VECTORS_ASKS)
			break;
	}
	of->op = sight->seen->op;
	if (of->set.chunks != NULL)
		set_tidy(vectors, of);
	return 1;
}

int vectors_grow(struct vectors *vectors, struct vectors_index *of, uint32_t graph)
{
	struct hnsw *hnsw = &of->graph[graph];
	uint32_t stuck = 0;

	for (uint32_t i = 0; i < VECTORS_STEP && hnsw->taken < of->set.slots && stuck == 0; i++) {
		(void)pthread_rwlock_wrlock(&of->links);
		const int error = hnsw_add(hnsw, vectors->step_scratch);
		(void)pthread_rwlock_unlock(&of->links);
		if (error < 0)
			stuck = vector_pool_left(&vectors->pool) + 1;
	}
	__atomic_store_n(&of->stuck[graph], stuck, __ATOMIC_RELAXED);
	return stuck == 0 && hnsw->taken < of->set.slots;
}
