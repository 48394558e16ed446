/* Work on some keys of a map, at random: get, update, upsert, delete. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "map_bare.h"
#include "map_work.h"

enum { TINY = 16, CHECK_EVERY = 97 };

static int failed(struct haul_err *err, int rc, const char *what)
{
	return haul_err_set(err, rc, "%s: %s", what, haul_strerror(rc));
}

static int wrong(struct haul_err *err, const char *what, uint64_t is, uint64_t should)
{
	return haul_err_set(err, -EIO, "%s: %llu, right is %llu", what, (unsigned long long)is,
			    (unsigned long long)should);
}

/* ---- rows ---- */

static void row_set(struct map_run *run, uint32_t row, uint32_t index)
{
	map_table_key(index, &run->keys[row]);
	map_table_value(index, &run->values[row]);
	run->values[row].packets[1] = run->turn;
}

/* Keys that are there, each once, others each time: caches know them no better than other keys. */
static int existing(struct map_run *run, struct haul_err *err)
{
	(void)err;
	struct map_table *table = run->table;
	run->rows = table->rows;
	HAUL_ASSERT(run->rows <= MAP_TABLE_ROWS_MAX && run->rows <= table->entries);
	if (table->next + run->rows > table->entries)
		table->next = 0;
	for (uint32_t i = 0; i < run->rows; i++)
		row_set(run, i, table->order[table->next + i]);
	table->next += run->rows;
	return 0;
}

/* Every other row is of an entry behind the last. */
static int half_new(struct map_run *run, struct haul_err *err)
{
	int rc = existing(run, err);
	for (uint32_t i = 1; i < run->rows; i += 2)
		row_set(run, i, run->table->entries + i / 2);
	return rc;
}

static struct haul_map_rows rows_of(struct map_run *run)
{
	return (struct haul_map_rows){ .count = run->rows,
				       .keys = run->keys,
				       .values = run->values };
}

static int result_take(struct map_run *run, const struct haul_map_result *result)
{
	run->ops = run->rows;
	run->calls += result->calls;
	run->done += result->done;
	run->engine = result->engine;
	return 0;
}

/* ---- get ---- */

static int multiget_one(struct map_run *run, struct haul_err *err)
{
	struct map_bare one;
	int rc = 0;
	map_bare_init(&one, run->table->fd);
	for (uint32_t i = 0; i < run->rows && rc >= 0; i++)
		rc = map_bare_get(&one, &run->keys[i], &run->got[i]);
	run->ops = run->done = run->rows;
	run->calls = one.calls;
	return rc < 0 ? failed(err, rc, "look up one by one") : 0;
}

static int multiget_any(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_rows rows = { .count = run->rows,
					    .keys = run->keys,
					    .values = run->got };
	struct haul_map_result result;
	int rc = haul_map_get(run->table->any, &rows, &result);
	return rc < 0 ? failed(err, rc, "look up") : result_take(run, &result);
}

/* A handle that has done nothing else: no program of a larger batch is there to help. */
static int multiget_tiny(struct map_run *run, struct haul_err *err)
{
	for (uint32_t at = 0; at < run->rows; at += TINY) {
		const struct haul_map_rows rows = { .count = TINY,
						    .keys = &run->keys[at],
						    .values = &run->got[at] };
		struct haul_map_result result;
		int rc = haul_map_get(run->fresh, &rows, &result);
		if (rc < 0)
			return failed(err, rc, "look up");
		result_take(run, &result);
	}
	return 0;
}

static int fresh_handle(struct map_run *run, struct haul_err *err)
{
	int rc = existing(run, err);
	run->rows -= run->rows % TINY;
	return rc < 0 ? rc : haul_map_open_fd(&run->fresh, run->table->fd, NULL, err);
}

static int fresh_close(struct map_run *run, struct haul_err *err)
{
	(void)err;
	haul_map_close(run->fresh);
	run->fresh = NULL;
	return 0;
}

static int multiget_check(const struct map_run *run, struct haul_err *err)
{
	if (run->done != run->rows)
		return wrong(err, "keys found", run->done, run->rows);
	for (uint32_t i = 0; i < run->rows; i++)
		if (run->got[i].bytes[0] != run->values[i].bytes[0])
			return wrong(err, "value", run->got[i].bytes[0], run->values[i].bytes[0]);
	return 0;
}

/* ---- update ---- */

static int update_one(struct map_run *run, struct haul_err *err)
{
	struct map_bare one;
	int rc = 0;
	map_bare_init(&one, run->table->fd);
	for (uint32_t i = 0; i < run->rows && rc >= 0; i++)
		rc = map_bare_put(&one, &run->keys[i], &run->values[i], BPF_ANY);
	run->ops = run->done = run->rows;
	run->calls = one.calls;
	return rc < 0 ? failed(err, rc, "update one by one") : 0;
}

static int update_any(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_rows rows = rows_of(run);
	struct haul_map_result result;
	int rc = haul_map_update(run->table->any, &rows, HAUL_MAP_ANY, &result);
	return rc < 0 ? failed(err, rc, "update") : result_take(run, &result);
}

/* A sample of the rows is in the map, as written in this turn. */
static int update_check(const struct map_run *run, struct haul_err *err)
{
	struct map_bare one;
	if (run->done != run->rows)
		return wrong(err, "entries written", run->done, run->rows);
	map_bare_init(&one, run->table->fd);
	for (uint32_t i = 0; i < run->rows; i += CHECK_EVERY) {
		struct haul_flow_value value;
		int rc = map_bare_get(&one, &run->keys[i], &value);
		if (rc < 0)
			return failed(err, rc, "entry that was written");
		if (memcmp(&value, &run->values[i], sizeof value) != 0)
			return wrong(err, "written in turn", value.packets[1], run->turn);
	}
	return 0;
}

/* ---- upsert ---- */

/* Only one way tells inserted from updated: try to insert, and update what was there. */
static int upsert_one(struct map_run *run, struct haul_err *err)
{
	struct map_bare one;
	int rc = 0;
	map_bare_init(&one, run->table->fd);
	for (uint32_t i = 0; i < run->rows && rc >= 0; i++) {
		rc = map_bare_put(&one, &run->keys[i], &run->values[i], BPF_NOEXIST);
		run->inserted += rc == 0;
		if (rc == -EEXIST)
			rc = map_bare_put(&one, &run->keys[i], &run->values[i], BPF_EXIST);
	}
	run->ops = run->done = run->rows;
	run->calls = one.calls;
	return rc < 0 ? failed(err, rc, "upsert one by one") : 0;
}

static int upsert_any(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_rows rows = rows_of(run);
	struct haul_map_result result;
	int rc = haul_map_upsert(run->table->any, &rows, &result);
	run->inserted = result.inserted;
	if (rc == 0 && result.inserted + result.updated != result.done)
		return wrong(err, "inserted and updated", result.inserted + result.updated,
			     result.done);
	return rc < 0 ? failed(err, rc, "upsert") : result_take(run, &result);
}

static int upsert_check(const struct map_run *run, struct haul_err *err)
{
	if (run->inserted != run->rows / 2)
		return wrong(err, "inserted", run->inserted, run->rows / 2);
	return update_check(run, err);
}

static int upsert_restore(struct map_run *run, struct haul_err *err)
{
	int rc = map_table_remove(run->table, run->table->entries, run->rows / 2);
	return rc < 0 ? failed(err, rc, "take away") : 0;
}

/* ---- delete ---- */

static int delete_one(struct map_run *run, struct haul_err *err)
{
	struct map_bare one;
	int rc = 0;
	map_bare_init(&one, run->table->fd);
	for (uint32_t i = 0; i < run->rows && rc >= 0; i++)
		rc = map_bare_delete(&one, &run->keys[i]);
	run->ops = run->done = run->rows;
	run->calls = one.calls;
	return rc < 0 ? failed(err, rc, "delete one by one") : 0;
}

static int delete_batches(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_rows rows = rows_of(run);
	struct haul_map_result result;
	int rc = haul_map_delete(run->table->batch, &rows, &result);
	return rc < 0 ? failed(err, rc, "delete") : result_take(run, &result);
}

static int delete_check(const struct map_run *run, struct haul_err *err)
{
	struct map_bare one;
	if (run->done != run->rows)
		return wrong(err, "entries deleted", run->done, run->rows);
	map_bare_init(&one, run->table->fd);
	for (uint32_t i = 0; i < run->rows; i += CHECK_EVERY) {
		struct haul_flow_value value;
		if (map_bare_get(&one, &run->keys[i], &value) != -ENOENT)
			return haul_err_set(err, -EIO, "row %u is still there", i);
	}
	return 0;
}

static int delete_restore(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_rows rows = rows_of(run);
	struct haul_map_result result;
	int rc = haul_map_update(run->table->batch, &rows, HAUL_MAP_ANY, &result);
	return rc < 0 ? failed(err, rc, "put back") : 0;
}

const struct map_work map_work_multiget = { .prepare = existing,
					    .arm = { multiget_one, multiget_any },
					    .check = multiget_check };
const struct map_work map_work_multiget_16 = { .prepare = fresh_handle,
					       .arm = { multiget_one, multiget_tiny },
					       .check = multiget_check,
					       .restore = fresh_close };
const struct map_work map_work_update = { .prepare = existing,
					  .arm = { update_one, update_any },
					  .check = update_check };
const struct map_work map_work_upsert = { .prepare = half_new,
					  .arm = { upsert_one, upsert_any },
					  .check = upsert_check,
					  .restore = upsert_restore };
const struct map_work map_work_delete_batch = { .prepare = existing,
						.arm = { delete_one, delete_batches },
						.check = delete_check,
						.restore = delete_restore };
