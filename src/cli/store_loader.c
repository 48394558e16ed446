#include "cli/store_loader.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/assert.h"

enum {
	ROW_BYTES_MAX = HAUL_PROPERTIES_MAX + 2 * HAUL_KEY_MAX +
			STORE_ROW_EMBEDDINGS * (HAUL_DIMENSIONS_MAX * 4 + 16),
	ARENA_BYTES = (2 << 20) + ROW_BYTES_MAX,
	READER_BYTES = 8 << 20,
	TEXT = 200,
};

/* A row that waits for its batch. */
struct held {
	struct store_row row; /* what it points to is in the arena */
	uint64_t line;
	bool bad;
};

/* A change of a frame: for which line it is. */
struct place {
	uint64_t line;
	uint64_t a, b; /* node; or src and dst */
};

enum frame_state { IDLE, UNDER_WAY, TOLD };

struct frame {
	struct store_loader *loader;
	struct haul_changes *changes;
	struct place *places;
	int32_t *statuses;
	/* under the lock */
	enum frame_state state;
	int error;
};

struct store_loader {
	struct store_loader_options options;
	struct haul_reader *reader; /* only when keys are looked up */
	bool edges;
	store_loader_bad *bad;
	void *arg;
	uint64_t loaded;
	/* gathered */
	struct held *held;
	uint32_t held_count;
	uint8_t *arena;
	size_t arena_used;
	/* lookups */
	struct haul_text *keys;
	struct store_end **ends;
	struct haul_node *nodes;
	int32_t *statuses;
	/* frames: a ring */
	struct frame frames[STORE_LOADER_FRAMES];
	uint32_t next, oldest; /* counts; next - oldest are under way */
	pthread_mutex_t lock;
	pthread_cond_t told;
};

uint64_t store_loader_id(const struct haul_text *key)
{
	const uint64_t id = XXH3_64bits(key->data, key->bytes) & INT64_MAX;
	return id != 0 ? id : 1;
}

uint64_t store_loader_loaded(const struct store_loader *loader)
{
	return loader->loaded;
}

/* ---- making ---- */

static int frame_init(struct store_loader *loader, struct frame *frame)
{
	frame->loader = loader;
	frame->places = calloc(HAUL_CHANGES_OPS, sizeof *frame->places);
	frame->statuses = calloc(HAUL_CHANGES_OPS, sizeof *frame->statuses);
	if (frame->places == NULL || frame->statuses == NULL)
		return -ENOMEM;
	return haul_changes_new(&frame->changes, 0, 0, 0);
}

static int gather_init(struct store_loader *loader)
{
	const uint32_t rows = loader->options.batch;
	loader->held = calloc(rows, sizeof *loader->held);
	loader->arena = malloc(ARENA_BYTES);
	loader->keys = calloc(2 * (size_t)rows, sizeof *loader->keys);
	loader->ends = calloc(2 * (size_t)rows, sizeof(struct store_end *));
	loader->nodes = calloc(2 * (size_t)rows, sizeof *loader->nodes);
	loader->statuses = calloc(2 * (size_t)rows, sizeof *loader->statuses);
	return loader->held != NULL && loader->arena != NULL && loader->keys != NULL &&
			       loader->ends != NULL && loader->nodes != NULL &&
			       loader->statuses != NULL
		       ? 0
		       : -ENOMEM;
}

int store_loader_new(struct store_loader **ret_loader, const struct store_loader_options *options,
		     struct haul_err *err)
{
	struct store_loader *loader = calloc(1, sizeof *loader);
	HAUL_ASSERT(options->batch >= 1 && options->batch <= HAUL_CHANGES_OPS);
	int rc = loader != NULL ? 0 : -ENOMEM;
	if (rc == 0) {
		loader->options = *options;
		pthread_mutex_init(&loader->lock, NULL);
		pthread_cond_init(&loader->told, NULL);
		rc = gather_init(loader);
	}
	for (uint32_t i = 0; i < STORE_LOADER_FRAMES && rc == 0; i++)
		rc = frame_init(loader, &loader->frames[i]);
	if (rc < 0) {
		store_loader_free(loader);
		return haul_err_set(err, rc, "no memory for batches of %u rows", options->batch);
	}
	*ret_loader = loader;
	return 0;
}

void store_loader_free(struct store_loader *loader)
{
	if (loader == NULL)
		return;
	HAUL_ASSERT(loader->next == loader->oldest);
	for (uint32_t i = 0; i < STORE_LOADER_FRAMES; i++) {
		haul_changes_free(loader->frames[i].changes);
		free(loader->frames[i].places);
		free(loader->frames[i].statuses);
	}
	haul_reader_close(loader->reader);
	free(loader->held);
	free(loader->arena);
	free(loader->keys);
	free(loader->ends);
	free(loader->nodes);
	free(loader->statuses);
	pthread_cond_destroy(&loader->told);
	pthread_mutex_destroy(&loader->lock);
	free(loader);
}

void store_loader_begin(struct store_loader *loader, bool edges, store_loader_bad *bad, void *arg)
{
	HAUL_ASSERT(loader->held_count == 0 && loader->next == loader->oldest);
	loader->edges = edges;
	loader->bad = bad;
	loader->arg = arg;
}

/* ---- frames under way ---- */

static void told(struct frame *frame, int error, const int32_t *statuses, uint32_t count)
{
	struct store_loader *loader = frame->loader;
	(void)pthread_mutex_lock(&loader->lock);
	HAUL_ASSERT(frame->state == UNDER_WAY && count <= HAUL_CHANGES_OPS);
	if (error == 0 && statuses != NULL)
		memcpy(frame->statuses, statuses, count * sizeof *statuses);
	frame->error = error;
	frame->state = TOLD;
	(void)pthread_cond_signal(&loader->told);
	(void)pthread_mutex_unlock(&loader->lock);
}

static void told_by_store(void *arg, int error, const struct haul_commit *commit,
			  const int32_t *statuses, uint32_t count)
{
	(void)commit;
	told(arg, error, statuses, error == 0 ? count : 0);
}

static void told_by_client(void *arg, const struct haul_client_result *result)
{
	told(arg, result->error, result->statuses, result->error == 0 ? result->count : 0);
}

static void tell_bad(const struct store_loader *loader, const struct place *place, int status)
{
	char text[TEXT];
	const bool upsert = loader->options.upsert;
	if (status == -EEXIST && loader->edges)
		snprintf(text, sizeof text,
			 "the edge %" PRIu64 " -> %" PRIu64
			 " of this type and disc is there already: --upsert replaces it",
			 place->a, place->b);
	else if (status == -EEXIST)
		snprintf(text, sizeof text, "node %" PRIu64 "%s", place->a,
			 upsert ? ": another node has this key"
				: " or its key is there already: --upsert replaces it");
	else if (status == -ENOENT && loader->edges)
		snprintf(text, sizeof text,
			 "%" PRIu64 " or %" PRIu64
			 " is no node: load nodes before edges, or use --loose",
			 place->a, place->b);
	else if (status == -EINVAL && !loader->edges)
		snprintf(text, sizeof text,
			 "node %" PRIu64
			 ": embeddings of one index all have the same number of dimensions",
			 place->a);
	else
		snprintf(text, sizeof text, "%s %" PRIu64 ": %s",
			 loader->edges ? "edge of" : "node", place->a, haul_strerror(status));
	loader->bad(place->line, text, loader->arg);
}

/* Rows, of which each is one or more changes. */
static void frame_count(struct store_loader *loader, const struct frame *frame)
{
	const uint32_t count = haul_changes_count(frame->changes);
	for (uint32_t i = 0; i < count;) {
		const struct place *place = &frame->places[i];
		int status = 0;
		for (; i < count && frame->places[i].line == place->line; i++)
			if (status == 0 || status == -ECANCELED)
				status = frame->statuses[i];
		if (status == 0)
			loader->loaded++;
		else
			tell_bad(loader, place, status);
	}
}

/* Wait for the oldest frame. */
static int frame_wait(struct store_loader *loader, struct haul_err *err)
{
	struct frame *frame = &loader->frames[loader->oldest % STORE_LOADER_FRAMES];
	const uint32_t count = haul_changes_count(frame->changes);
	HAUL_ASSERT(loader->oldest != loader->next && count > 0);
	(void)pthread_mutex_lock(&loader->lock);
	while (frame->state != TOLD)
		(void)pthread_cond_wait(&loader->told, &loader->lock);
	const int error = frame->error;
	frame->state = IDLE;
	(void)pthread_mutex_unlock(&loader->lock);
	loader->oldest++;
	if (error == 0)
		frame_count(loader, frame);
	const uint64_t first = frame->places[0].line, last = frame->places[count - 1].line;
	haul_changes_clear(frame->changes);
	if (error == 0)
		return 0;
	return haul_err_set(err, error, "lines %" PRIu64 " to %" PRIu64 ": %s%s", first, last,
			    haul_strerror(error),
			    error == -ETIMEDOUT || error == -EIO
				    ? ": not known whether they are loaded; load them again with "
				      "--upsert"
				    : "");
}

static int frame_submit(struct store_loader *loader, struct frame *frame, struct haul_err *err)
{
	const struct store_target *target = loader->options.target;
	if (haul_changes_count(frame->changes) == 0)
		return 0;
	frame->state = UNDER_WAY;
	loader->next++;
	int rc =
		target->store != NULL
			? haul_store_submit(target->store, frame->changes, told_by_store, frame)
			: haul_client_submit(target->client, frame->changes, told_by_client, frame);
	if (rc >= 0)
		return 0;
	loader->next--;
	frame->state = IDLE;
	const uint64_t line = frame->places[0].line;
	haul_changes_clear(frame->changes);
	return haul_err_set(err, rc, "from line %" PRIu64 " on: %s", line, haul_strerror(rc));
}

/* One that is idle. */
static int frame_take(struct store_loader *loader, struct frame **ret_frame, struct haul_err *err)
{
	if (loader->next - loader->oldest == STORE_LOADER_FRAMES) {
		int rc = frame_wait(loader, err);
		if (rc < 0)
			return rc;
	}
	*ret_frame = &loader->frames[loader->next % STORE_LOADER_FRAMES];
	HAUL_ASSERT((*ret_frame)->state == IDLE);
	return 0;
}

/* ---- keys ---- */

static int look_up(struct store_loader *loader, uint32_t count, struct haul_err *err)
{
	uint32_t done = 0;
	int rc = loader->reader != NULL ? 0
					: store_target_reader(loader->options.target, READER_BYTES,
							      &loader->reader);
	while (rc >= 0 && done < count) {
		rc = haul_reader_get_by_key(loader->reader, loader->keys + done, count - done,
					    loader->nodes, loader->statuses + done);
		for (int i = 0; i < rc; i++)
			if (loader->statuses[done + (uint32_t)i] == 0)
				loader->ends[done + (uint32_t)i]->id = loader->nodes[i].id;
		HAUL_ASSERT(rc != 0);
		done += rc > 0 ? (uint32_t)rc : 0;
	}
	for (uint32_t i = 0; rc >= 0 && i < count; i++)
		if (loader->statuses[i] < 0 && loader->statuses[i] != -ENOENT)
			rc = loader->statuses[i];
	return rc < 0 ? haul_err_set(err, rc, "looking up keys of nodes: %s", haul_strerror(rc))
		      : 0;
}

static void want(struct store_loader *loader, struct store_end *end, uint32_t *count)
{
	if (end->id != 0)
		return;
	loader->keys[*count] = end->key;
	loader->ends[*count] = end;
	(*count)++;
}

static void bad_end(struct store_loader *loader, struct held *held, const char *name,
		    const struct store_end *end)
{
	char text[TEXT + HAUL_KEY_MAX];
	if (end->id != 0 || held->bad)
		return;
	held->bad = true;
	snprintf(text, sizeof text, "%s: no node has the key '%.*s'", name, (int)end->key.bytes,
		 end->key.data);
	loader->bad(held->line, text, loader->arg);
}

static int settle_edges(struct store_loader *loader, struct haul_err *err)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < loader->held_count; i++) {
		want(loader, &loader->held[i].row.src, &count);
		want(loader, &loader->held[i].row.dst, &count);
	}
	const int rc = count > 0 ? look_up(loader, count, err) : 0;
	for (uint32_t i = 0; rc == 0 && count > 0 && i < loader->held_count; i++) {
		bad_end(loader, &loader->held[i], "src", &loader->held[i].row.src);
		bad_end(loader, &loader->held[i], "dst", &loader->held[i].row.dst);
	}
	return rc;
}

/* Those that are there keep their ids; src is borrowed for them. */
static int settle_nodes(struct store_loader *loader, struct haul_err *err)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < loader->held_count && loader->options.upsert; i++) {
		struct store_row *row = &loader->held[i].row;
		row->src = (struct store_end){ .id = row->id, .key = row->key };
		want(loader, &row->src, &count);
	}
	const int rc = count > 0 ? look_up(loader, count, err) : 0;
	for (uint32_t i = 0; rc == 0 && i < loader->held_count; i++) {
		struct store_row *row = &loader->held[i].row;
		if (row->id == 0)
			row->id = row->src.id != 0 ? row->src.id : store_loader_id(&row->key);
	}
	return rc;
}

/* ---- rows ---- */

static int put_edge(const struct store_loader *loader, struct haul_changes *changes,
		    const struct store_row *row)
{
	const struct haul_edge edge = {
		.id = { row->src.id, row->dst.id, row->type, row->disc },
		.properties = row->properties,
	};
	const struct haul_change_options options = {
		.flags = (loader->options.upsert ? HAUL_UPSERT : 0u) |
			 (loader->options.loose ? HAUL_LOOSE : 0u),
	};
	return haul_changes_create_edge(changes, &edge, &options);
}

static int put_node(const struct store_loader *loader, struct haul_changes *changes,
		    const struct store_row *row)
{
	const struct haul_node node = {
		.id = row->id,
		.kind = row->kind,
		.key = row->key.data,
		.key_bytes = row->key.bytes,
		.properties = row->properties,
	};
	const struct haul_change_options options = {
		.flags = loader->options.upsert ? HAUL_UPSERT : 0u,
	};
	if (row->embedding_count == 0)
		return haul_changes_create_node(changes, &node, &options);
	int rc = haul_changes_begin(changes);
	HAUL_ASSERT(rc == 0);
	rc = haul_changes_create_node(changes, &node, &options);
	for (uint32_t i = 0; i < row->embedding_count && rc >= 0; i++) {
		struct haul_embedding embedding = row->embeddings[i];
		embedding.node = row->id;
		rc = haul_changes_set_embedding(changes, &embedding);
	}
	if (rc >= 0)
		rc = haul_changes_end(changes);
	else
		haul_changes_cancel(changes);
	return rc;
}

static int put_row(struct store_loader *loader, struct frame *frame, const struct held *held)
{
	const uint32_t before = haul_changes_count(frame->changes);
	const struct store_row *row = &held->row;
	int rc = loader->edges ? put_edge(loader, frame->changes, row)
			       : put_node(loader, frame->changes, row);
	const struct place place = { .line = held->line,
				     .a = loader->edges ? row->src.id : row->id,
				     .b = row->dst.id };
	for (uint32_t i = before; rc >= 0 && i < haul_changes_count(frame->changes); i++)
		frame->places[i] = place;
	return rc;
}

/* All that is gathered becomes frames that are under way. */
static int put_held(struct store_loader *loader, struct haul_err *err)
{
	struct frame *frame = NULL;
	int rc = loader->edges ? settle_edges(loader, err) : settle_nodes(loader, err);
	if (rc == 0)
		rc = frame_take(loader, &frame, err);
	for (uint32_t i = 0; i < loader->held_count && rc == 0; i++) {
		const struct held *held = &loader->held[i];
		int put = held->bad ? 0 : put_row(loader, frame, held);
		if (put == HAUL_EFULL && haul_changes_count(frame->changes) > 0) {
			rc = frame_submit(loader, frame, err);
			if (rc == 0)
				rc = frame_take(loader, &frame, err);
			if (rc == 0)
				put = put_row(loader, frame, held);
		}
		if (rc == 0 && put < 0)
			loader->bad(held->line, haul_strerror(put), loader->arg);
	}
	if (rc == 0)
		rc = frame_submit(loader, frame, err);
	loader->held_count = 0;
	loader->arena_used = 0;
	return rc;
}

static const void *keep(struct store_loader *loader, const void *data, size_t bytes, size_t align)
{
	const size_t at = (loader->arena_used + align - 1) & ~(align - 1);
	HAUL_ASSERT(at + bytes <= ARENA_BYTES);
	if (bytes > 0)
		memcpy(loader->arena + at, data, bytes);
	loader->arena_used = at + bytes;
	return loader->arena + at;
}

int store_loader_add(struct store_loader *loader, const struct store_row *row, uint64_t line,
		     struct haul_err *err)
{
	struct held *held = &loader->held[loader->held_count++];
	struct store_row *copy = &held->row;
	*held = (struct held){ .row = *row, .line = line };
	copy->key.data = keep(loader, row->key.data, row->key.bytes, 1);
	copy->src.key.data = keep(loader, row->src.key.data, row->src.key.bytes, 1);
	copy->dst.key.data = keep(loader, row->dst.key.data, row->dst.key.bytes, 1);
	copy->properties.data = keep(loader, row->properties.data, row->properties.bytes, 1);
	for (uint32_t i = 0; i < row->embedding_count; i++)
		copy->embeddings[i].vector =
			keep(loader, row->embeddings[i].vector,
			     row->embeddings[i].dimensions * sizeof(float), sizeof(float));
	if (loader->held_count < loader->options.batch &&
	    loader->arena_used + ROW_BYTES_MAX <= ARENA_BYTES)
		return 0;
	return put_held(loader, err);
}

int store_loader_flush(struct store_loader *loader, struct haul_err *err)
{
	const struct store_target *target = loader->options.target;
	int rc = loader->held_count > 0 ? put_held(loader, err) : 0;
	/* What is under way is told also when something failed, which is what counts. */
	if (target->client != NULL && loader->next != loader->oldest)
		(void)haul_client_flush(target->client);
	while (loader->next != loader->oldest) {
		struct haul_err other = { 0 };
		int waited = frame_wait(loader, &other);
		if (rc == 0 && waited < 0)
			rc = haul_err_set(err, waited, "%s", other.text);
	}
	return rc;
}
