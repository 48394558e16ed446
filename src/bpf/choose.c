/* Which engine takes an operation.
 *
 * Measured on 200 000 entries of 40 + 56 bytes, ns an entry, one call each / batch / in the kernel:
 * read 1014 / 243 / 52, get 585 / - / 72, update 674 / 392 / 86, delete 600 / 220 / 179. So the
 * kernel engine where there is much to do: loading its programs for rows costs as much as FEW of
 * them one by one, and those for walks (20 to 50 ms) what a walk by batch calls costs for
 * FEW_WALKED entries. Whoever walks a small map again and again has paid that some day; then they
 * are loaded. How many entries a hash has nobody tells without a program or a walk. But they lie
 * evenly over its buckets, so one batch call shows it: so many entries in so many of all buckets.
 *
 * A walk that must be exact under churn is for the batch engine. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/kernel.h"
#include "bpf/map_state.h"
#include "bpf/reader.h"

enum {
	FEW = 500, /* rows, below which the kernel engine is not loaded */
	FEW_WALKED = 131072,
	ALONE = 1 /* rows: a batch call costs as much as a single one */
};

static const char *const engine_names[] = {
#define X(id, name) [id] = (name),
	HAUL_MAP_ENGINE_LIST(X)
#undef X
};

const char *haul_map_engine_name(enum haul_map_engine engine)
{
	HAUL_ASSERT((unsigned)engine < HAUL_MAP_ENGINES);
	return engine_names[engine];
}

int haul_map_engine_by_name(const char *name, enum haul_map_engine *ret_engine)
{
	HAUL_ASSERT(name != NULL && ret_engine != NULL);
	for (unsigned i = 0; i < HAUL_MAP_ENGINES; i++) {
		if (strcmp(engine_names[i], name) == 0) {
			*ret_engine = (enum haul_map_engine)i;
			return 0;
		}
	}
	return -EINVAL;
}

static const struct map_engine *engine_of(enum haul_map_engine id)
{
	switch (id) {
	case HAUL_MAP_SINGLE:
		return &map_engine_single;
	case HAUL_MAP_BATCH:
		return &map_engine_batch;
	case HAUL_MAP_KERNEL:
		return &map_engine_kernel;
	case HAUL_MAP_AUTO:
	case HAUL_MAP_ENGINES:
		break;
	}
	return NULL;
}

/* Below how many rows, or entries of the map, loading a program does not pay. */
static uint64_t few_of(const struct haul_map *map, enum haul_map_op op, uint64_t rows)
{
	if (rows > 0 || (op != HAUL_MAP_OP_SCAN && op != HAUL_MAP_OP_AGGREGATE))
		return FEW;
	return map->walked < FEW_WALKED ? FEW_WALKED - map->walked : 0;
}

void map_look(struct haul_map *map, enum haul_map_op op, uint64_t rows)
{
	struct haul_map_cursor cursor = { 0 };
	struct haul_map_batch batch;
	struct haul_map_result result = { 0 };
	const char *why;
	bool walk = op == HAUL_MAP_OP_SCAN || op == HAUL_MAP_OP_AGGREGATE ||
		    op == HAUL_MAP_OP_DELETE_IF;
	if (!walk || rows > 0 || map->options.engine != HAUL_MAP_AUTO ||
	    map_kernel_ready(map, op) || map_type_of(map->info.type)->cursor != MAP_CURSOR_BUCKET ||
	    !map_engine_batch.can(map, HAUL_MAP_OP_SCAN, &why))
		return;
	int count = map_engine_batch.read(map, &cursor, false, &batch, &result);
	uint32_t bucket = 0;
	memcpy(&bucket, cursor.data, sizeof bucket);
	if (count < 0)
		map->entries = map->info.max_entries;
	else if (cursor.ended || bucket == 0)
		map->entries = (uint64_t)count;
	else
		map->entries = (uint64_t)count * map_buckets(&map->info) / bucket;
}

/* What decided, as text. */
static const char *choose(const struct haul_map *map, enum haul_map_op op, uint64_t rows,
			  bool exact, enum haul_map_engine *ret_best)
{
	uint64_t size = rows ? rows : map->entries;
	if (map->options.engine != HAUL_MAP_AUTO) {
		*ret_best = map->options.engine;
		return "as asked for, and no other";
	}
	*ret_best = HAUL_MAP_BATCH;
	if (op == HAUL_MAP_OP_TAKE)
		return "only calls that return entries can take them";
	if (exact)
		return "a walk by buckets is exact while the map changes";
	if (map_kernel_ready(map, op)) {
		*ret_best = HAUL_MAP_KERNEL;
		return "its program is loaded already";
	}
	if (rows > 0 && rows <= ALONE) {
		*ret_best = HAUL_MAP_SINGLE;
		return "a batch call for one row costs as much";
	}
	if (size <= few_of(map, op, rows))
		return "loading a program would cost more than so few entries do";
	*ret_best = HAUL_MAP_KERNEL;
	return "one call for many entries";
}

uint32_t map_choose(const struct haul_map *map, enum haul_map_op op, uint64_t rows, bool exact,
		    const struct map_engine *ret_engines[MAP_ENGINES_MAX])
{
	HAUL_ASSERT((unsigned)op < HAUL_MAP_OPS);
	enum haul_map_engine best;
	(void)choose(map, op, rows, exact, &best);
	uint32_t count = 0;
	ret_engines[count++] = engine_of(best);
	if (map->options.engine != HAUL_MAP_AUTO)
		return count;
	/* Down from there; the enum is in order of rank. */
	while (best > HAUL_MAP_SINGLE) {
		best--;
		ret_engines[count++] = engine_of(best);
	}
	HAUL_ASSERT(count <= MAP_ENGINES_MAX);
	return count;
}

__attribute__((format(printf, 3, 4))) static void text_add(char text[HAUL_MAP_TEXT], size_t *at,
							   const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int bytes = vsnprintf(text + *at, HAUL_MAP_TEXT - *at, format, args);
	va_end(args);
	*at += bytes > 0 ? (size_t)bytes : 0;
	if (*at >= HAUL_MAP_TEXT)
		*at = HAUL_MAP_TEXT - 1;
}

enum haul_map_engine haul_map_explain(struct haul_map *map, enum haul_map_op op, uint64_t rows,
				      char ret_text[HAUL_MAP_TEXT])
{
	HAUL_ASSERT(map != NULL && (unsigned)op < HAUL_MAP_OPS && ret_text != NULL);
	const struct map_engine *engines[MAP_ENGINES_MAX];
	enum haul_map_engine best;
	map_look(map, op, rows);
	const char *decided = choose(map, op, rows, false, &best);
	/* Whether its program may be loaded shows only when it is. */
	if (best == HAUL_MAP_KERNEL && map_engine_kernel.can(map, op, &decided))
		(void)map_kernel_open(map);
	decided = choose(map, op, rows, false, &best);
	uint32_t count = map_choose(map, op, rows, false, engines);
	char skipped[HAUL_MAP_TEXT] = "";
	size_t at = 0, skipped_at = 0;
	for (uint32_t i = 0; i < count; i++) {
		const char *why = "";
		if (engines[i]->can(map, op, &why)) {
			text_add(ret_text, &at, "%s: %s%s", haul_map_engine_name(engines[i]->id),
				 i == 0 ? decided : "the next one down", skipped);
			return engines[i]->id;
		}
		text_add(skipped, &skipped_at, "; not %s: %s", haul_map_engine_name(engines[i]->id),
			 why);
	}
	text_add(ret_text, &at, "no engine can%s", skipped);
	return HAUL_MAP_AUTO;
}
