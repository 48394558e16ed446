/* Rows in an arena, found through one hash table.
 *
 * A put writes the row and its value, then names it: first in its slots (release), then by the
 * count of its tree. So who finds a ref finds the whole row behind it, and the rows that its links
 * lead to. Nothing that was named is changed, but for the op of a row that is aborted: it becomes
 * MEMTABLE_DEAD, which nobody sees. The writer takes dead rows out of the slots, too, so that
 * failing over and over with the same key makes no chain longer; a reader who is just at such a row
 * still finds its links.
 *
 * A slot that loses its only row becomes GONE: probes go on over it, and the next key that is not
 * found takes its place. Slots are never more than rows put, so the table of slots, made for all
 * rows that fit, is never full.
 *
 * Keys come from strangers, so hashes are keyed with a secret that is another one in each table. */
#include "store/memtable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "base/hash.h"
#include "os/memory.h"
#include "store/memtable_state.h"

enum {
	CHUNK_ROWS_LOG2_MAX = 12,
	CHUNK_ROWS_LOG2_MIN = 5,
	CHUNKS_AIM = 512, /* all rows of a table of the shortest rows */
	/* Bytes a slot at most: an edge without a value takes 48 bytes and two slots. */
	SLOT_BYTES_MIN = 24,
	PAGE = 4096,
	CACHE_LINE = 64,
};
enum slot_kind { SLOT_KEY, SLOT_WORD, SLOT_KINDS };

/* A tag that no ref follows. */
#define GONE UINT32_C(1)

static bool tree_has_prefix(enum tree tree)
{
	return tree == TREE_OUT || tree == TREE_IN || tree == TREE_OF_NODE;
}

static uint32_t row_bytes(enum tree tree)
{
	uint32_t links = tree_hashed[tree] ? (uint32_t)sizeof(struct memtable_links) : 0;
	return (uint32_t)sizeof(struct memtable_row) + tree_words[tree] * 8U + links;
}

static uint64_t value_room(uint32_t bytes)
{
	return (bytes + (uint64_t)MEMTABLE_UNIT - 1) / MEMTABLE_UNIT * MEMTABLE_UNIT;
}

uint32_t memtable_cost(enum tree tree, uint32_t value_bytes)
{
	HAUL_ASSERT((unsigned)tree < TREES && value_bytes <= TREE_VALUE_MAX);
	return row_bytes(tree) + (uint32_t)value_room(value_bytes);
}

/* ---- memory ---- */

static uint32_t chunk_shift(uint64_t bytes)
{
	uint32_t shift = CHUNK_ROWS_LOG2_MIN;
	while (shift < CHUNK_ROWS_LOG2_MAX && (bytes / MEMTABLE_ROW_MIN >> shift) > CHUNKS_AIM)
		shift++;
	return shift;
}

/* Chunks a tree may need: each but the last is full. */
static uint64_t chunks_max(uint64_t bytes, enum tree tree)
{
	return (bytes / row_bytes(tree) >> chunk_shift(bytes)) + 1;
}

/* Pages of a part: large ones when it is large. */
static uint64_t page_of(uint64_t bytes)
{
	return bytes < MEMORY_LARGE ? PAGE : MEMORY_LARGE;
}

static uint64_t arena_bytes(uint64_t bytes)
{
	uint64_t all = CACHE_LINE + (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	for (int tree = 0; tree < TREES; tree++)
		all += (uint64_t)row_bytes((enum tree)tree) << chunk_shift(bytes);
	return (all + page_of(all) - 1) / page_of(all) * page_of(all);
}

/* One in five stays empty, so every probe ends soon. Not a power of two: that could be twice as
 * much. */
static uint64_t slot_count(uint64_t bytes)
{
	uint64_t used = bytes / SLOT_BYTES_MIN;
	return used + used / 4 + 1;
}

static uint64_t order_bytes(uint64_t bytes)
{
	return arena_bytes(bytes) / MEMTABLE_ROW_MIN * sizeof(uint32_t);
}

uint64_t memtable_memory(uint64_t bytes)
{
	uint64_t chunks = 0;
	for (int tree = 0; tree < TREES; tree++)
		chunks += chunks_max(bytes, (enum tree)tree);
	return arena_bytes(bytes) + order_bytes(bytes) +
	       (slot_count(bytes) + chunks) * sizeof(uint32_t) + sizeof(struct memtable);
}

static int memtable_alloc(struct memtable *table)
{
	uint64_t slots = table->slot_count;
	table->arena = aligned_alloc(page_of(table->arena_bytes), table->arena_bytes);
	/* Zeros that the kernel gives when they are touched: a store opens quickly. */
	table->slots = calloc(slots, sizeof *table->slots);
	table->order = malloc(order_bytes(table->bytes));
	if (!table->arena || !table->slots || !table->order)
		return -ENOMEM;
	memory_large(table->arena, table->arena_bytes);
	memory_large(table->slots, slots * sizeof *table->slots);
	for (int i = 0; i < TREES; i++) {
		struct memtable_tree *of = &table->tree[i];
		of->row_bytes = row_bytes((enum tree)i);
		of->words = tree_words[i];
		of->hashed = tree_hashed[i];
		of->prefix = tree_has_prefix((enum tree)i);
		of->chunk = calloc(chunks_max(table->bytes, (enum tree)i), sizeof *of->chunk);
		if (!of->chunk)
			return -ENOMEM;
	}
	return 0;
}

int memtable_new(struct memtable **ret_table, uint64_t bytes, struct memtable_sorter *sorter)
{
	if (bytes < MEMTABLE_BYTES_MIN || bytes > MEMTABLE_BYTES_MAX)
		return HAUL_ELIMIT;
	struct memtable *table = calloc(1, sizeof *table);
	if (!table)
		return -ENOMEM;
	for (int i = 0; i < TREES; i++)
		(void)pthread_rwlock_init(&table->tree[i].lock, NULL);
	table->sorter = sorter;
	table->bytes = bytes;
	table->arena_bytes = table->touched_top = arena_bytes(bytes);
	table->chunk_shift = chunk_shift(bytes);
	table->slot_count = slot_count(bytes);
	while (table->arena_bytes / MEMTABLE_UNIT >> table->ref_bits)
		table->ref_bits++;
	HAUL_ASSERT(table->ref_bits < 31);
	int error = memtable_alloc(table);
	if (error) {
		memtable_free(table);
		return error;
	}
	table->secret = hash_u64((uint64_t)(uintptr_t)table ^ hash_u64((uintptr_t)table->arena));
	memtable_clear(table);
	*ret_table = table;
	return 0;
}

void memtable_free(struct memtable *table)
{
	if (!table)
		return;
	for (int i = 0; i < TREES; i++) {
		(void)pthread_rwlock_destroy(&table->tree[i].lock);
		free(table->tree[i].chunk);
	}
	free(table->order);
	free(table->slots);
	free(table->arena);
	free(table);
}

/* Where values or rows end: memtable_ahead looks at it, too. */
static void end_set(uint64_t *end, uint64_t to)
{
	__atomic_store_n(end, to, __ATOMIC_RELAXED);
}

void memtable_clear(struct memtable *table)
{
	if (table->used)
		memset(table->slots, 0, table->slot_count * sizeof *table->slots);
	table->used = 0;
	end_set(&table->heap, CACHE_LINE); /* ref 0 and 1 name nothing */
	end_set(&table->top, table->arena_bytes);
	for (int i = 0; i < TREES; i++) {
		struct memtable_tree *of = &table->tree[i];
		of->rows = of->left = of->chunks = of->runs = 0;
		of->next = NULL;
	}
}

/* Take the next piece before `goal`. */
static bool touch_up(uint8_t *memory, uint64_t *touched, uint64_t goal)
{
	if (*touched >= goal)
		return false;
	uint64_t bytes = goal - *touched < MEMORY_LARGE ? goal - *touched : MEMORY_LARGE;
	memory_touch(memory + *touched, bytes);
	*touched += bytes;
	return true;
}

bool memtable_ahead(struct memtable *table, uint64_t ahead)
{
	uint8_t *slots = (uint8_t *)table->slots;
	if (touch_up(slots, &table->touched_slots, table->slot_count * sizeof *table->slots))
		return true;
	uint64_t goal = __atomic_load_n(&table->heap, __ATOMIC_RELAXED) + ahead;
	goal = (goal + MEMORY_LARGE - 1) / MEMORY_LARGE * MEMORY_LARGE;
	if (goal > table->touched_top)
		goal = table->touched_top;
	if (touch_up(table->arena, &table->touched_heap, goal))
		return true;
	goal = __atomic_load_n(&table->top, __ATOMIC_RELAXED);
	goal = goal > ahead ? goal - ahead : 0;
	if (table->touched_top <= goal || table->touched_top <= table->touched_heap)
		return false;
	uint64_t bytes = table->touched_top - table->touched_heap;
	bytes = bytes < MEMORY_LARGE ? bytes : MEMORY_LARGE;
	table->touched_top -= bytes;
	memory_touch(table->arena + table->touched_top, bytes);
	return true;
}

uint64_t memtable_used(const struct memtable *table)
{
	return __atomic_load_n(&table->used, __ATOMIC_RELAXED);
}

uint64_t memtable_rows(const struct memtable *table, enum tree tree)
{
	return __atomic_load_n(&table->tree[tree].rows, __ATOMIC_ACQUIRE);
}

/* ---- slots ---- */

static uint64_t hash_word(const struct memtable *table, enum tree tree, uint64_t word)
{
	return hash_u64((word ^ table->secret) + (uint64_t)tree * UINT64_C(0x9e3779b97f4a7c15));
}

static uint64_t hash_key(uint64_t hash, const uint64_t *key, uint32_t words)
{
	for (uint32_t i = 1; i < words; i++)
		hash = hash_u64(hash ^ key[i]);
	return hash;
}

/* By the lower half of the hash; the tag is from the upper one. */
static uint64_t home_of(const struct memtable *table, uint64_t hash)
{
	return (hash & UINT32_MAX) * table->slot_count >> 32;
}

/* Tag of a hash: its upper bits, the lowest of them says which kind of slot. */
static uint32_t tag_of(const struct memtable *table, uint64_t hash, enum slot_kind kind)
{
	uint32_t tag = (uint32_t)(hash >> 32) >> table->ref_bits << 1 | (uint32_t)kind;
	return tag << table->ref_bits;
}

static uint32_t ref_mask(const struct memtable *table)
{
	return (UINT32_C(1) << table->ref_bits) - 1;
}

static bool row_is(const struct memtable *table, uint32_t ref, const uint64_t *key, uint32_t words)
{
	const struct memtable_row *row = memtable_at(table, ref);
	for (uint32_t i = 0; i < words; i++) {
		if (row->key[i] != key[i])
			return false;
	}
	return true;
}

struct probe {
	enum tree tree;
	uint32_t words; /* that have to be the same */
	uint32_t tag;
	uint64_t hash;
	const uint64_t *key;
};

static struct probe probe_of(const struct memtable *table, enum tree tree, const uint64_t *key,
			     enum slot_kind kind)
{
	uint32_t words = kind == SLOT_KEY ? tree_words[tree] : 1;
	uint64_t hash = hash_key(hash_word(table, tree, key[0]), key, words);
	return (struct probe){ .tree = tree,
			       .words = words,
			       .tag = tag_of(table, hash, kind),
			       .hash = hash,
			       .key = key };
}

/* Ref of the row that the slot of a key names; 0 if it has none. *ret_slot: that slot, or the one
 * that it would get. */
static uint32_t probe_find(const struct memtable *table, const struct probe *probe,
			   uint64_t *ret_slot)
{
	uint64_t at = home_of(table, probe->hash), hole = UINT64_MAX;
	uint32_t mask = ref_mask(table);
	for (uint64_t steps = 0; steps < table->slot_count; steps++) {
		uint32_t slot = __atomic_load_n(&table->slots[at], __ATOMIC_ACQUIRE);
		uint32_t ref = slot & mask;
		if (slot == 0)
			break;
		if (slot == GONE) {
			hole = hole == UINT64_MAX ? at : hole;
		} else if ((slot & ~mask) == probe->tag &&
			   memtable_at(table, ref)->info >> MEMTABLE_INFO_TREE == probe->tree &&
			   row_is(table, ref, probe->key, probe->words)) {
			*ret_slot = at;
			return ref;
		}
		at = at + 1 == table->slot_count ? 0 : at + 1;
	}
	*ret_slot = hole == UINT64_MAX ? at : hole;
	return 0;
}

void memtable_prefetch(const struct memtable *table, enum tree tree, const struct tree_key *key)
{
	const struct memtable_tree *of = &table->tree[tree];
	if (!of->hashed)
		return;
	uint64_t hash = hash_word(table, tree, key->word[0]);
	if (of->prefix)
		__builtin_prefetch(&table->slots[home_of(table, hash)], 1);
	hash = hash_key(hash, key->word, of->words);
	__builtin_prefetch(&table->slots[home_of(table, hash)], 1);
}

uint32_t memtable_first(const struct memtable *table, enum tree tree, uint64_t word)
{
	uint64_t slot;
	struct probe probe = probe_of(table, tree, &word, SLOT_WORD);
	return probe_find(table, &probe, &slot);
}

bool memtable_prefix(const struct memtable *table, enum tree tree, uint64_t word)
{
	HAUL_ASSERT(table->tree[tree].prefix);
	return memtable_first(table, tree, word) != 0;
}

/* ---- put and get ---- */

static struct memtable_row *row_take(struct memtable *table, struct memtable_tree *of)
{
	if (of->left == 0) {
		uint64_t bytes = (uint64_t)of->row_bytes << table->chunk_shift;
		HAUL_ASSERT(table->top >= table->heap + bytes);
		end_set(&table->top, table->top - bytes);
		of->next = table->arena + table->top;
		of->left = UINT32_C(1) << table->chunk_shift;
		of->chunk[of->chunks++] = memtable_ref(table, of->next);
	}
	struct memtable_row *row = (struct memtable_row *)(void *)of->next;
	of->next += of->row_bytes;
	of->left--;
	return row;
}

/* Let the slot of a key name this row; what it named before goes into the row's link first, so that
 * who finds the row finds its link. */
static void slot_enter(struct memtable *table, const struct probe *probe, uint32_t ref,
		       uint32_t *link)
{
	uint64_t slot;
	*link = probe_find(table, probe, &slot);
	__atomic_store_n(&table->slots[slot], probe->tag | ref, __ATOMIC_RELEASE);
}

static void row_enter(struct memtable *table, enum tree tree, struct memtable_row *row)
{
	uint32_t ref = memtable_ref(table, row);
	struct memtable_links *links = memtable_links(row, tree_words[tree]);
	struct probe probe = probe_of(table, tree, row->key, SLOT_KEY);
	slot_enter(table, &probe, ref, &links->older);
	if (!table->tree[tree].prefix)
		return;
	probe = probe_of(table, tree, row->key, SLOT_WORD);
	slot_enter(table, &probe, ref, &links->same);
}

int memtable_put(struct memtable *table, enum tree tree, const struct tree_key *key, uint64_t op,
		 const struct tree_row *value)
{
	HAUL_ASSERT((unsigned)tree < TREES && value->bytes <= TREE_VALUE_MAX);
	HAUL_ASSERT(op > 0 && op < MEMTABLE_DEAD);
	struct memtable_tree *of = &table->tree[tree];
	uint64_t room = value_room(value->bytes);
	uint64_t used = table->used + of->row_bytes + room;
	if (used > table->bytes)
		return HAUL_EFULL;
	struct memtable_row *row = row_take(table, of);
	row->op = op | (value->deleted ? TREE_DELETED : 0);
	row->value = (uint32_t)(table->heap / MEMTABLE_UNIT);
	row->info = value->bytes | (uint32_t)tree << MEMTABLE_INFO_TREE;
	for (uint32_t i = 0; i < of->words; i++)
		row->key[i] = key->word[i];
	if (value->bytes > 0)
		memcpy(table->arena + table->heap, value->value, value->bytes);
	end_set(&table->heap, table->heap + room);
	HAUL_ASSERT(table->heap <= table->top);
	if (of->hashed)
		row_enter(table, tree, row);
	__atomic_store_n(&table->used, used, __ATOMIC_RELAXED);
	__atomic_store_n(&of->rows, of->rows + 1, __ATOMIC_RELEASE);
	return 0;
}

void memtable_get(const struct memtable *table, enum tree tree, const struct tree_key *key,
		  uint64_t op_max, struct tree_row *ret_row)
{
	HAUL_ASSERT((unsigned)tree < TREES && tree_hashed[tree]);
	uint64_t slot;
	struct probe probe = probe_of(table, tree, key->word, SLOT_KEY);
	uint32_t ref = probe_find(table, &probe, &slot);
	*ret_row = (struct tree_row){ 0 };
	while (ref) {
		struct memtable_row *row = memtable_at(table, ref);
		uint64_t op = memtable_op(row);
		if (memtable_sees(op, op_max)) {
			ret_row->op = op & ~TREE_DELETED;
			ret_row->deleted = (op & TREE_DELETED) != 0;
			ret_row->value = memtable_value(table, row);
			ret_row->bytes = memtable_bytes(row);
			return;
		}
		ref = memtable_links(row, probe.words)->older;
	}
}

/* ---- abort ---- */

void memtable_mark(const struct memtable *table, struct memtable_mark *ret_mark)
{
	ret_mark->used = table->used;
	for (int i = 0; i < TREES; i++)
		ret_mark->rows[i] = table->tree[i].rows;
}

/* The slot that names this row names the one before it again. */
static void slot_leave(struct memtable *table, const struct probe *probe, uint32_t ref,
		       uint32_t before)
{
	uint64_t slot;
	uint32_t found = probe_find(table, probe, &slot);
	HAUL_ASSERT(found == ref);
	__atomic_store_n(&table->slots[slot], before ? probe->tag | before : GONE,
			 __ATOMIC_RELEASE);
}

static void row_leave(struct memtable *table, enum tree tree, uint32_t number)
{
	const struct memtable_tree *of = &table->tree[tree];
	uint32_t ref = memtable_ref_of(table, of, number);
	struct memtable_row *row = memtable_at(table, ref);
	if (row->op == MEMTABLE_DEAD) /* with a group of the frame that is aborted now */
		return;
	__atomic_store_n(&row->op, MEMTABLE_DEAD, __ATOMIC_RELAXED);
	if (!of->hashed)
		return;
	const struct memtable_links *links = memtable_links(row, of->words);
	struct probe probe = probe_of(table, tree, row->key, SLOT_KEY);
	slot_leave(table, &probe, ref, links->older);
	if (!of->prefix)
		return;
	probe = probe_of(table, tree, row->key, SLOT_WORD);
	slot_leave(table, &probe, ref, links->same);
}

void memtable_abort(struct memtable *table, const struct memtable_mark *mark)
{
	HAUL_ASSERT(mark->used <= table->used);
	for (int i = 0; i < TREES; i++) {
		HAUL_ASSERT(mark->rows[i] <= table->tree[i].rows);
		/* Last first: a slot names the last row of its key. */
		for (uint32_t number = table->tree[i].rows; number > mark->rows[i]; number--)
			row_leave(table, (enum tree)i, number - 1);
	}
}
