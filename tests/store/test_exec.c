#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "store/exec_group.h"
#include "store/frame_sample.h"

/* ---- changes in short ---- */

struct node_of {
	uint32_t kind;
	const char *key;
	const char *text; /* of property "p" */
	uint32_t flags;
	uint64_t version;
};

static int node(bool create, uint64_t id, struct node_of of)
{
	const struct haul_change_options options = { of.flags, of.version };
	const struct haul_property property = {
		.name = "p",
		.name_bytes = 1,
		.type = HAUL_TEXT,
		.data = of.text,
		.data_bytes = of.text == NULL ? 0 : (uint32_t)strlen(of.text),
	};
	uint8_t buffer[256];
	struct haul_node of_it = {
		.id = id,
		.kind = of.kind,
		.key = of.key,
		.key_bytes = of.key == NULL ? 0 : (uint32_t)strlen(of.key),
	};

	assert_int_equal(haul_properties_encode(&property, of.text != NULL, buffer, sizeof buffer,
						&of_it.properties),
			 0);
	const int rc = create ? haul_changes_create_node(lab->changes, &of_it, &options)
			      : haul_changes_update_node(lab->changes, &of_it, &options);
	assert_true(rc >= 0);
	return rc;
}
#define CREATE(id, ...) node(true, id, (struct node_of){ __VA_ARGS__ })
#define UPDATE(id, ...) node(false, id, (struct node_of){ __VA_ARGS__ })

static int create(uint64_t id)
{
	return CREATE(id, .kind = 0);
}

static int update(uint64_t id)
{
	return UPDATE(id, .kind = 0);
}

static int delete_node(uint64_t id, uint32_t flags, uint64_t version)
{
	const struct haul_change_options options = { flags, version };

	return haul_changes_delete_node(lab->changes, id, &options);
}

enum edge_verb { EDGE_CREATE, EDGE_UPDATE, EDGE_DELETE };
static int edge(enum edge_verb verb, uint64_t src, uint64_t dst, struct haul_change_options options)
{
	const struct haul_edge of = { .id = { .src = src, .dst = dst, .type = 5, .disc = 6 } };

	if (verb == EDGE_CREATE)
		return haul_changes_create_edge(lab->changes, &of, &options);
	if (verb == EDGE_UPDATE)
		return haul_changes_update_edge(lab->changes, &of, &options);
	return haul_changes_delete_edge(lab->changes, &of.id, &options);
}
#define OPTIONS(...) ((struct haul_change_options){ __VA_ARGS__ })

static int embed(uint64_t id, uint32_t index, uint32_t dimensions)
{
	static const float vector[8] = { 1, 2, 3 };
	const struct haul_embedding embedding = {
		.node = id, .index = index, .dimensions = dimensions, .vector = vector
	};

	return haul_changes_set_embedding(lab->changes, &embedding);
}

/* Execute what was gathered; the status of the last change. */
static int last(void)
{
	const uint32_t count = haul_changes_count(lab->changes);

	assert_true(count > 0);
	assert_int_equal(lab_run(lab), 0);
	assert_int_equal(lab->result.count, count);
	return lab->statuses[count - 1];
}

static bool has(enum tree tree, uint64_t a, uint64_t b, uint64_t c)
{
	return lab_find(lab, tree, (struct tree_key){ { a, b, c } }) != NULL;
}

static bool has_edge(uint64_t src, uint64_t dst)
{
	const uint64_t middle = UINT64_C(5) << 32 | 6;
	const bool out = has(TREE_OUT, src, middle, dst), in = has(TREE_IN, dst, middle, src);

	assert_int_equal(out, in);
	return out;
}

/* The node that a key leads to, 0 if none. */
static uint64_t by_key(const char *key)
{
	const struct lab_row *row =
		lab_find(lab, TREE_NAME, record_name(key, (uint32_t)strlen(key)));

	return row == NULL ? 0 : le64_load(row->value);
}

static const char *text_of(uint64_t id)
{
	static char text[64];
	const struct lab_row *row = lab_find(lab, TREE_NODE, (struct tree_key){ { id } });
	struct haul_property property = { 0 };
	struct haul_node of;

	assert_non_null(row);
	record_get_node(row->value, row->bytes, &of);
	if (haul_property_find(&of.properties, "p", &property) != 0)
		return "";
	memcpy(text, property.data, property.data_bytes);
	text[property.data_bytes] = 0;
	return text;
}

/* ---- nodes ---- */

/* A node is not there, or cannot be found by its key or kind. */
static void test_exec__create_node(void **state)
{
	(void)state;
	(void)CREATE(1, .kind = 3, .key = "one", .text = "x");
	(void)create(2);
	assert_int_equal(last(), 0);
	assert_int_equal(lab->result.failed, 0);
	assert_true(has(TREE_NODE, 1, 0, 0) && has(TREE_NODE, 2, 0, 0));
	assert_true(has(TREE_KIND, 3, 1, 0));
	assert_int_equal(lab_rows(lab, TREE_KIND), 1);
	assert_int_equal(by_key("one"), 1);
	assert_string_equal(text_of(1), "x");
	assert_int_equal(lab->lsm.memory_finds, 0); /* nothing of it was written before */
}

/* What is there is overwritten, or another node's key is taken. */
static void test_exec__create_node_that_exists(void **state)
{
	(void)state;
	(void)CREATE(1, .key = "one", .text = "first");
	assert_int_equal(last(), 0);
	for (int flushed = 0; flushed < 2; flushed++) {
		(void)CREATE(1, .text = "second");
		assert_int_equal(last(), -EEXIST);
		(void)CREATE(2, .key = "one");
		assert_int_equal(last(), -EEXIST);
		(void)CREATE(3, .key = "two");
		(void)CREATE(4, .key = "two"); /* of this very frame */
		assert_int_equal(last(), -EEXIST);
		assert_int_equal(lab->result.failed, 1);
		(void)delete_node(3, 0, 0);
		assert_int_equal(last(), 0);
		lab_flush(lab);
	}
	assert_string_equal(text_of(1), "first");
	assert_int_equal(by_key("one"), 1);
	assert_false(has(TREE_NODE, 2, 0, 0) || has(TREE_NODE, 4, 0, 0));
}

/* An upsert leaves key or kind of what was there before. */
static void test_exec__upsert_node_replaces(void **state)
{
	(void)state;
	(void)CREATE(1, .kind = 1, .key = "one", .text = "first", .flags = HAUL_UPSERT);
	assert_int_equal(last(), 0);
	lab_flush(lab);
	(void)CREATE(1, .kind = 2, .key = "uno", .text = "second", .flags = HAUL_UPSERT);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "second");
	assert_int_equal(by_key("one"), 0);
	assert_int_equal(by_key("uno"), 1);
	assert_true(has(TREE_KIND, 2, 1, 0) && !has(TREE_KIND, 1, 1, 0));
	(void)CREATE(1, .flags = HAUL_UPSERT);
	assert_int_equal(last(), 0);
	assert_int_equal(by_key("uno"), 0);
	assert_int_equal(lab_rows(lab, TREE_KIND) + lab_rows(lab, TREE_NAME), 0);
	(void)CREATE(2, .key = "two");
	(void)CREATE(1, .key = "two", .flags = HAUL_UPSERT);
	assert_int_equal(last(), -EEXIST);
}

/* A key of its own counts as that of another. */
static void test_exec__node_keeps_its_own_key(void **state)
{
	(void)state;
	(void)CREATE(1, .kind = 4, .key = "one");
	assert_int_equal(last(), 0);
	const uint32_t rows = lab->lsm.count;
	(void)UPDATE(1, .kind = 4, .key = "one", .text = "x");
	assert_int_equal(last(), 0);
	assert_int_equal(lab->lsm.count, rows + 1); /* neither key nor kind is written again */
	(void)UPDATE(1, .key = "two");
	(void)UPDATE(1, .key = "one");
	(void)CREATE(2, .key = "two");
	assert_int_equal(last(), 0);
	assert_int_equal(by_key("one"), 1);
	assert_int_equal(by_key("two"), 2);
}

/* An update makes what is not there, or keeps what it does not say. */
static void test_exec__update_node(void **state)
{
	(void)state;
	(void)UPDATE(1, .kind = 1);
	assert_int_equal(last(), -ENOENT);
	(void)CREATE(1, .kind = 1, .key = "one", .text = "x");
	(void)UPDATE(1, .kind = 2);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "");
	assert_int_equal(by_key("one"), 0);
	assert_true(has(TREE_KIND, 2, 1, 0) && !has(TREE_KIND, 1, 1, 0));
}

/* A patch takes away what it does not name. */
static void test_exec__patch_node(void **state)
{
	(void)state;
	static const uint8_t null[] = { HAUL_NULL, 1, 0, 0, 0, 0, 0, 0, 'p' };
	const struct haul_change_options patch = { .flags = HAUL_PATCH };
	const struct haul_node taken = { .id = 1, .properties = { null, sizeof null, 1 } };

	(void)CREATE(1, .kind = 1, .key = "one", .text = "x");
	assert_int_equal(last(), 0);
	lab_flush(lab);
	(void)UPDATE(1, .flags = HAUL_PATCH);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "x");
	assert_int_equal(by_key("one"), 1);
	assert_true(has(TREE_KIND, 1, 1, 0));
	(void)UPDATE(1, .text = "y", .kind = 2, .flags = HAUL_PATCH);
	(void)UPDATE(1, .key = "uno", .flags = HAUL_PATCH);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "y");
	assert_int_equal(by_key("uno"), 1);
	assert_int_equal(by_key("one"), 0);
	assert_true(has(TREE_KIND, 2, 1, 0) && !has(TREE_KIND, 1, 1, 0));
	assert_true(haul_changes_update_node(lab->changes, &taken, &patch) >= 0);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "");
}

static void fill(struct haul_properties *properties, const char *name, uint32_t data_bytes,
		 uint8_t *buffer)
{
	static char data[HAUL_PROPERTIES_MAX];
	const struct haul_property property = { .name = name,
						.name_bytes = 1,
						.type = HAUL_BYTES,
						.data = data,
						.data_bytes = data_bytes };

	assert_int_equal(
		haul_properties_encode(&property, 1, buffer, HAUL_PROPERTIES_MAX, properties), 0);
}

/* Patches make a record that is longer than a record may be. */
static void test_exec__patch_over_the_limit(void **state)
{
	(void)state;
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	const struct haul_change_options patch = { .flags = HAUL_PATCH };
	struct haul_node of = { .id = 1 };
	struct haul_edge of_edge = { .id = { 1, 1, 0, 0 } };

	fill(&of.properties, "a", 9000, buffer);
	of_edge.properties = of.properties;
	assert_true(haul_changes_create_node(lab->changes, &of, NULL) >= 0);
	assert_true(haul_changes_create_edge(lab->changes, &of_edge, NULL) >= 0);
	assert_int_equal(last(), 0);
	fill(&of.properties, "b", 9000, buffer);
	of_edge.properties = of.properties;
	assert_true(haul_changes_update_node(lab->changes, &of, &patch) >= 0);
	assert_int_equal(last(), HAUL_ELIMIT);
	assert_true(haul_changes_update_edge(lab->changes, &of_edge, &patch) >= 0);
	assert_int_equal(last(), HAUL_ELIMIT);
	fill(&of.properties, "b", 7000, buffer);
	assert_true(haul_changes_update_node(lab->changes, &of, &patch) >= 0);
	assert_int_equal(last(), 0);
}

/* A change of what has been changed meanwhile goes through. */
static void test_exec__expected_version(void **state)
{
	(void)state;
	(void)create(1);
	(void)create(2);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	lab_flush(lab);
	(void)UPDATE(1, .version = 2);
	assert_int_equal(last(), HAUL_ESTALE);
	(void)UPDATE(1, .version = 1);
	(void)UPDATE(1, .version = 1); /* has that of this frame now */
	assert_int_equal(last(), HAUL_ESTALE);
	assert_int_equal(lab->statuses[0], 0);
	(void)UPDATE(1, .version = lab->op, .flags = HAUL_PATCH);
	(void)UPDATE(1, .version = lab->op + 1, .flags = HAUL_PATCH);
	assert_int_equal(last(), 0);
	(void)CREATE(1, .version = 1, .flags = HAUL_UPSERT);
	assert_int_equal(last(), HAUL_ESTALE);
	(void)CREATE(9, .version = 1, .flags = HAUL_UPSERT); /* no version at all */
	assert_int_equal(last(), HAUL_ESTALE);
	(void)delete_node(1, HAUL_DETACH, 1);
	assert_int_equal(last(), HAUL_ESTALE);
	(void)edge(EDGE_UPDATE, 1, 2, OPTIONS(.expected_version = 9));
	assert_int_equal(last(), HAUL_ESTALE);
	(void)edge(EDGE_DELETE, 1, 2, OPTIONS(.expected_version = 9));
	assert_int_equal(last(), HAUL_ESTALE);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(HAUL_UPSERT, 9));
	assert_int_equal(last(), HAUL_ESTALE);
	(void)edge(EDGE_CREATE, 2, 1, OPTIONS(HAUL_UPSERT, 9));
	assert_int_equal(last(), HAUL_ESTALE);
	(void)edge(EDGE_UPDATE, 1, 2, OPTIONS(.expected_version = 1));
	assert_int_equal(last(), 0);
	(void)edge(EDGE_DELETE, 1, 2, OPTIONS(.expected_version = lab->op));
	assert_int_equal(last(), 0);
	(void)delete_node(2, 0, 1);
	assert_int_equal(last(), 0);
}

/* A node goes and leaves edges or embeddings of nobody, or its key or kind. */
static void test_exec__delete_node(void **state)
{
	(void)state;
	(void)delete_node(1, 0, 0);
	assert_int_equal(last(), -ENOENT);
	(void)CREATE(1, .kind = 1, .key = "one");
	(void)create(2);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	(void)delete_node(1, 0, 0);
	assert_int_equal(last(), -ENOTEMPTY);
	(void)delete_node(2, 0, 0);
	assert_int_equal(last(), -ENOTEMPTY);
	(void)edge(EDGE_DELETE, 1, 2, OPTIONS(.flags = 0));
	(void)embed(1, 7, 3);
	(void)delete_node(1, 0, 0);
	assert_int_equal(last(), -ENOTEMPTY);
	(void)haul_changes_delete_embedding(lab->changes, 1, 7);
	(void)delete_node(1, 0, 0);
	assert_int_equal(last(), 0);
	assert_false(has(TREE_NODE, 1, 0, 0));
	assert_int_equal(lab_rows(lab, TREE_KIND) + lab_rows(lab, TREE_NAME), 0);
	assert_int_equal(lab_rows(lab, TREE_OF_NODE) + lab_rows(lab, TREE_EMBEDDING), 0);
	(void)CREATE(3, .key = "one");
	assert_int_equal(last(), 0);
}

/* Detaching leaves one side of an edge, or an embedding. */
static void test_exec__detach(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 4; id++)
		(void)create(id);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	(void)edge(EDGE_CREATE, 3, 1, OPTIONS(.flags = 0));
	(void)edge(EDGE_CREATE, 1, 1, OPTIONS(.flags = 0));
	(void)edge(EDGE_CREATE, 2, 3, OPTIONS(.flags = 0));
	(void)embed(1, 0, 2);
	(void)embed(1, 255, 3);
	(void)embed(2, 255, 3);
	assert_int_equal(last(), 0);
	lab_flush(lab);
	const uint32_t before = lab->lsm.count;
	(void)edge(EDGE_CREATE, 4, 1, OPTIONS(.flags = 0)); /* of this frame */
	(void)delete_node(1, HAUL_DETACH, 0);
	assert_int_equal(last(), 0);
	assert_false(has_edge(1, 2) || has_edge(3, 1) || has_edge(1, 1) || has_edge(4, 1));
	assert_true(has_edge(2, 3));
	assert_false(has(TREE_EMBEDDING, 0, 1, 0) || has(TREE_EMBEDDING, 255, 1, 0));
	assert_false(has(TREE_OF_NODE, 1, 0, 0) || has(TREE_OF_NODE, 1, 255, 0));
	assert_true(has(TREE_EMBEDDING, 255, 2, 0));
	/* 2 new, 4 edges and 2 embeddings from both sides, the node, 2 rows of indexes */
	assert_int_equal(lab->lsm.count - before, 2 + 8 + 4 + 1 + 2);
	assert_int_equal(lab->staged_count, 2);
	assert_int_equal(lab->staged[0].node, 1);
	assert_int_equal(lab->staged[0].op, lab->op);
}

/* A node with more edges than a frame can take away takes some of them away. */
static void test_exec__detach_over_the_limit(void **state)
{
	(void)state;
	const struct tree_row in = { 0 };
	struct tree_key key = { { 1, 0, 0 } };

	(void)create(1);
	assert_int_equal(last(), 0);
	for (uint64_t i = 0; i < EXEC_DETACH_MAX; i++) {
		key.word[2] = i + 2;
		assert_int_equal(lsm_put(&lab->lsm, TREE_IN, &key, 1, &in), 0);
	}
	const uint32_t rows = lab->lsm.count;
	(void)delete_node(1, HAUL_DETACH, 0);
	(void)delete_node(1, 0, 0);
	assert_int_equal(last(), -ENOENT);
	assert_int_equal(lab->statuses[0], 0);
	assert_int_equal(lab->lsm.count - rows, 2 * EXEC_DETACH_MAX + 1);

	(void)create(1);
	assert_int_equal(last(), 0);
	for (uint64_t i = 0; i <= EXEC_DETACH_MAX; i++) {
		key.word[2] = i + 2;
		assert_int_equal(lsm_put(&lab->lsm, TREE_IN, &key, lab->op, &in), 0);
	}
	const uint64_t hash = lab_hash(lab, true);
	(void)delete_node(1, HAUL_DETACH, 0);
	assert_int_equal(last(), HAUL_ELIMIT);
	assert_true(lab_hash(lab, true) == hash);
}

/* ---- edges ---- */

/* An edge is there on one side only, or has an end that is not there. */
static void test_exec__edges(void **state)
{
	(void)state;
	(void)create(1);
	assert_int_equal(last(), 0);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), -ENOENT);
	(void)edge(EDGE_CREATE, 2, 1, OPTIONS(.flags = 0));
	assert_int_equal(last(), -ENOENT);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = HAUL_LOOSE));
	assert_int_equal(last(), 0);
	assert_true(has_edge(1, 2));
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = HAUL_LOOSE));
	assert_int_equal(last(), -EEXIST);
	(void)create(2);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = HAUL_UPSERT));
	(void)edge(EDGE_CREATE, 2, 1, OPTIONS(.flags = 0));
	(void)edge(EDGE_CREATE, 2, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	assert_int_equal(lab->result.failed, 0);
	lab_flush(lab);
	const uint32_t rows = lab->lsm.count;
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = HAUL_UPSERT));
	assert_int_equal(last(), 0);
	assert_int_equal(lab->lsm.count - rows, 1); /* the way back stays as it is */
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), -EEXIST);
	(void)edge(EDGE_UPDATE, 1, 1, OPTIONS(.flags = 0));
	assert_int_equal(last(), -ENOENT);
	(void)edge(EDGE_DELETE, 1, 1, OPTIONS(.flags = 0));
	assert_int_equal(last(), -ENOENT);
	(void)edge(EDGE_UPDATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	(void)edge(EDGE_DELETE, 1, 2, OPTIONS(.flags = 0));
	(void)edge(EDGE_DELETE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), -ENOENT);
	assert_int_equal(lab->statuses[0], 0);
	assert_false(has_edge(1, 2));
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	assert_true(has_edge(1, 2) && has_edge(2, 1) && has_edge(2, 2));
}

/* Properties of an edge are lost by a patch, or kept by an update. */
static void test_exec__patch_edge(void **state)
{
	(void)state;
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	const struct haul_change_options patch = { .flags = HAUL_PATCH };
	struct haul_edge of = { .id = { 1, 2, 5, 6 } }, got;
	struct haul_property property;
	const struct tree_key key = { { 1, UINT64_C(5) << 32 | 6, 2 } };

	fill(&of.properties, "a", 10, buffer);
	const struct haul_change_options loose = { .flags = HAUL_LOOSE };
	assert_true(haul_changes_create_edge(lab->changes, &of, &loose) >= 0);
	assert_int_equal(last(), 0);
	lab_flush(lab);
	fill(&of.properties, "b", 20, buffer);
	assert_true(haul_changes_update_edge(lab->changes, &of, &patch) >= 0);
	assert_int_equal(last(), 0);
	const struct lab_row *row = lab_find(lab, TREE_OUT, key);
	record_get_edge(row->value, row->bytes, &got);
	assert_int_equal(got.properties.count, 2);
	assert_int_equal(haul_property_find(&got.properties, "a", &property), 0);
	assert_true(haul_changes_update_edge(lab->changes, &of, NULL) >= 0);
	assert_int_equal(last(), 0);
	row = lab_find(lab, TREE_OUT, key);
	record_get_edge(row->value, row->bytes, &got);
	assert_int_equal(got.properties.count, 1);
}

/* ---- embeddings ---- */

static struct exec_index index_of(uint32_t index)
{
	const struct lab_row *row = lab_find(lab, TREE_OF_NODE, (struct tree_key){ { 0, index } });
	struct exec_index of = { 0 };

	if (row != NULL) {
		assert_int_equal(row->bytes, sizeof of);
		memcpy(&of, row->value, sizeof of);
	}
	return of;
}

/* Vectors that cannot be compared get into one index, or it is told wrong what it holds. */
static void test_exec__embeddings(void **state)
{
	(void)state;
	(void)embed(1, 3, 4);
	assert_int_equal(last(), -ENOENT);
	(void)create(1);
	(void)create(2);
	(void)embed(1, 3, 4);
	assert_int_equal(last(), 0);
	assert_int_equal(index_of(3).count, 1);
	assert_int_equal(index_of(3).dimensions, 4);
	lab_flush(lab);
	lab_reopen(lab);
	(void)embed(2, 3, 5);
	assert_int_equal(last(), -EINVAL);
	(void)embed(2, 4, 5); /* another index */
	assert_int_equal(last(), 0);
	(void)embed(1, 3, 6); /* the only one may be replaced by any */
	assert_int_equal(last(), 0);
	(void)embed(2, 3, 6);
	(void)embed(2, 3, 6);
	assert_int_equal(last(), 0);
	assert_int_equal(index_of(3).count, 2);
	assert_int_equal(index_of(3).dimensions, 6);
	assert_int_equal(lab->staged_count, 2);
	(void)embed(1, 3, 4);
	assert_int_equal(last(), -EINVAL);
	assert_int_equal(lab->staged_count, 0);
	(void)haul_changes_delete_embedding(lab->changes, 2, 3);
	(void)haul_changes_delete_embedding(lab->changes, 2, 3);
	assert_int_equal(last(), -ENOENT);
	(void)haul_changes_delete_embedding(lab->changes, 1, 3);
	(void)embed(1, 3, 8); /* empty in between */
	assert_int_equal(last(), 0);
	assert_int_equal(index_of(3).dimensions, 8);
	(void)haul_changes_delete_embedding(lab->changes, 1, 3);
	assert_int_equal(last(), 0);
	assert_int_equal(index_of(3).count, 0);
	assert_int_equal(lab_rows(lab, TREE_OF_NODE), 2); /* of index 4 and its one node */
}

/* ---- order and groups ---- */

/* The original did all nodes, then all edges: what was deleted and made again was gone. */
static void test_exec__original_reordered_between_kinds(void **state)
{
	(void)state;
	(void)CREATE(1, .text = "first");
	(void)delete_node(1, 0, 0);
	(void)CREATE(1, .text = "second");
	(void)edge(EDGE_CREATE, 1, 1, OPTIONS(.flags = 0));
	(void)edge(EDGE_DELETE, 1, 1, OPTIONS(.flags = 0));
	(void)delete_node(1, 0, 0);
	(void)CREATE(1, .text = "third");
	(void)UPDATE(1, .text = "fourth");
	assert_int_equal(last(), 0);
	assert_int_equal(lab->result.failed, 0);
	assert_string_equal(text_of(1), "fourth");
}

/* The original stopped at what failed and kept what was done before it. */
static void test_exec__original_had_no_undo(void **state)
{
	(void)state;
	(void)CREATE(1, .key = "one");
	assert_int_equal(last(), 0);
	const uint64_t hash = lab_hash(lab, true);
	assert_int_equal(haul_changes_begin(lab->changes), 0);
	(void)CREATE(2, .key = "two", .kind = 2);
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
	(void)embed(1, 0, 3);
	(void)UPDATE(1, .key = "uno");
	(void)create(1);
	(void)create(3);
	assert_int_equal(haul_changes_end(lab->changes), 0);
	assert_int_equal(last(), -ECANCELED);
	for (int i = 0; i < 4; i++)
		assert_int_equal(lab->statuses[i], -ECANCELED);
	assert_int_equal(lab->statuses[4], -EEXIST);
	assert_int_equal(lab->result.failed, 6);
	assert_int_equal(lab->staged_count, 0);
	assert_true(lab_hash(lab, true) == hash);
	(void)embed(1, 0, 5); /* the index has no dimensions yet */
	assert_int_equal(last(), 0);
}

/* A group that failed is seen by those behind it, or takes them with it. */
static void test_exec__groups_fail_alone(void **state)
{
	(void)state;
	(void)create(1);
	for (uint64_t group = 0; group < 3; group++) {
		assert_int_equal(haul_changes_begin(lab->changes), 0);
		(void)CREATE(10 + group, .key = "shared");
		(void)create(20 + group);
		(void)edge(EDGE_CREATE, 10 + group, group == 0 ? 99 : 1, OPTIONS(.flags = 0));
		assert_int_equal(haul_changes_end(lab->changes), 0);
	}
	(void)edge(EDGE_CREATE, 20, 21, OPTIONS(.flags = 0));
	(void)edge(EDGE_CREATE, 21, 11, OPTIONS(.flags = 0));
	assert_int_equal(last(), 0);
	static const int want[] = { 0, -ECANCELED, -ECANCELED, -ENOENT,    0,       0,
				    0, -EEXIST,    -ECANCELED, -ECANCELED, -ENOENT, 0 };
	for (uint32_t i = 0; i < sizeof want / sizeof *want; i++)
		assert_int_equal(lab->statuses[i], want[i]);
	assert_int_equal(by_key("shared"), 11);
	assert_false(has(TREE_NODE, 10, 0, 0) || has(TREE_NODE, 20, 0, 0));
	assert_int_equal(lab->lsm.aborts, 2);
}

/* What a group takes back before it fails is gone for those behind it. */
static void test_exec__failed_group_gives_back_what_was_there(void **state)
{
	(void)state;
	for (int flushed = 0; flushed < 2; flushed++) {
		haul_changes_clear(lab->changes);
		(void)CREATE(1, .key = "one", .text = "x", .flags = HAUL_UPSERT);
		(void)embed(1, 0, 3);
		assert_int_equal(last(), 0);
		if (flushed)
			lab_flush(lab);
		assert_int_equal(haul_changes_begin(lab->changes), 0);
		(void)delete_node(1, HAUL_DETACH, 0);
		(void)CREATE(1, .text = "y");
		(void)delete_node(77, 0, 0);
		assert_int_equal(haul_changes_end(lab->changes), 0);
		(void)UPDATE(1, .version = lab->op, .flags = HAUL_PATCH);
		(void)CREATE(2, .key = "one");
		(void)haul_changes_delete_embedding(lab->changes, 1, 0);
		assert_int_equal(last(), 0);
		static const int want[] = { -ECANCELED, -ECANCELED, -ENOENT, 0, -EEXIST, 0 };
		for (uint32_t i = 0; i < sizeof want / sizeof *want; i++)
			assert_int_equal(lab->statuses[i], want[i]);
		assert_string_equal(text_of(1), "x");
		assert_int_equal(by_key("one"), 1);
	}
}

/* Unordered: a status goes to another change, or kinds are not done in their order. */
static void test_exec__unordered(void **state)
{
	(void)state;
	haul_changes_free(lab->changes);
	assert_int_equal(haul_changes_new(&lab->changes, 0, 0, HAUL_CHANGES_UNORDERED), 0);
	(void)embed(1, 0, 3);                               /* after the nodes */
	(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0)); /* after the nodes */
	(void)update(7);                                    /* is not there */
	(void)create(2);
	(void)create(1);
	(void)delete_node(1, 0, 0); /* before them */
	(void)create(1);
	(void)last();
	static const int want[] = { 0, 0, -ENOENT, 0, 0, -ENOENT, -EEXIST };
	for (uint32_t i = 0; i < sizeof want / sizeof *want; i++)
		assert_int_equal(lab->statuses[i], want[i]);
	assert_true(has_edge(1, 2));
}

/* ---- the frame ---- */

/* A frame asks tables once a change, not once a frame. */
static void test_exec__asks_for_all_of_a_frame_at_once(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 1000; id++)
		(void)CREATE(id, .key = "one");
	for (uint64_t id = 1; id <= 1000; id++) {
		(void)edge(EDGE_CREATE, id, 1001 - id, OPTIONS(.flags = HAUL_LOOSE));
		(void)update(id);
	}
	const uint32_t before = lab->lsm.finds;
	(void)last();
	/* names, nodes with values and without, edges */
	assert_int_equal(lab->lsm.finds - before, 4);
	for (uint64_t id = 2001; id <= 2008; id++)
		(void)create(id);
	(void)last();
	const uint32_t memory = lab->lsm.memory_finds;
	for (uint64_t id = 2001; id <= 2008; id++)
		(void)update(id);
	(void)last();
	/* The frame before is no matter; two keys may share a bit. */
	assert_true(lab->lsm.memory_finds - memory <= 1);
}

/* Values that do not fit into memory at once make a change fail, or are those of before the
 * frame. */
static void test_exec__values_over_the_arena(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 200; id++)
		(void)CREATE(id, .text = "some text", .key = NULL, .kind = 1);
	assert_int_equal(last(), 0);
	lab_flush(lab);
	lab->lsm.arena_max = 100; /* five records at a time */
	for (uint64_t id = 200; id >= 1; id--)
		(void)UPDATE(id, .flags = HAUL_PATCH, .kind = 2);
	for (uint64_t id = 1; id <= 200; id++)
		(void)UPDATE(id, .flags = HAUL_PATCH, .version = lab->op + 1);
	assert_int_equal(last(), 0);
	assert_int_equal(lab->result.failed, 0);
	for (uint64_t id = 1; id <= 200; id++) {
		assert_string_equal(text_of(id), "some text");
		assert_true(has(TREE_KIND, 2, id, 0) && !has(TREE_KIND, 1, id, 0));
	}
}

/* As above, and a group that fails in between: its rows are taken for the truth. */
static void test_exec__values_over_the_arena_and_groups(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 40; id++)
		(void)CREATE(id, .text = "before");
	assert_int_equal(last(), 0);
	lab_flush(lab);
	lab->lsm.arena_max = 64;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(haul_changes_begin(lab->changes), 0);
		for (uint64_t id = 40; id >= 1; id--)
			(void)UPDATE(id, .flags = HAUL_PATCH, .text = "wrong");
		(void)update(41);
		assert_int_equal(haul_changes_end(lab->changes), 0);
	}
	for (uint64_t id = 1; id <= 40; id++)
		(void)UPDATE(id, .flags = HAUL_PATCH, .kind = 1, .version = 1);
	assert_int_equal(last(), 0);
	assert_int_equal(lab->result.failed, 3 * 41);
	for (uint64_t id = 1; id <= 40; id++)
		assert_string_equal(text_of(id), "before");
}

/* The same, as small as can be: what is asked for again while a group is under way is its row. */
static void test_exec__value_asked_for_again_in_a_group(void **state)
{
	(void)state;
	(void)CREATE(1, .text = "before");
	(void)CREATE(2, .text = "before");
	assert_int_equal(last(), 0);
	lab_flush(lab);
	lab->lsm.arena_max = 30; /* one record */
	assert_int_equal(haul_changes_begin(lab->changes), 0);
	(void)UPDATE(1, .flags = HAUL_PATCH, .text = "wrong");
	(void)UPDATE(2, .flags = HAUL_PATCH, .text = "wrong");
	(void)update(3);
	assert_int_equal(haul_changes_end(lab->changes), 0);
	(void)UPDATE(1, .flags = HAUL_PATCH, .kind = 1, .version = 1);
	assert_int_equal(last(), 0);
	assert_string_equal(text_of(1), "before");
}

/* A frame writes more than the memory table has room for. */
static void test_exec__budget(void **state)
{
	(void)state;
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	struct haul_node of = { .id = 1 };
	uint32_t good = 0;

	lab->budget = 400 << 10;
	lab_reopen(lab);
	fill(&of.properties, "a", 10000, buffer);
	for (; of.id <= 100; of.id++)
		assert_true(haul_changes_create_node(lab->changes, &of, NULL) >= 0);
	(void)create(1000);
	const uint64_t used = lab->lsm.used;
	assert_int_equal(last(), 0); /* a small one still fits */
	for (uint32_t i = 0; i < 100; i++) {
		assert_true(lab->statuses[i] == 0 || lab->statuses[i] == HAUL_ELIMIT);
		assert_true(lab->statuses[i] != 0 || i == good);
		good += lab->statuses[i] == 0;
	}
	assert_true(good >= 35 && good < 41);
	assert_true(lab->lsm.used - used <= lab->budget);
	for (of.id = 101; of.id <= 135; of.id++)
		assert_true(haul_changes_create_node(lab->changes, &of, NULL) >= 0);
	assert_int_equal(last(), 0); /* the next has its own */
	assert_int_equal(lab->result.failed, 0);
}

/* Groups that fail write for nothing, over and over, until memory is full. */
static void test_exec__failed_groups_count_in_the_budget(void **state)
{
	(void)state;
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	struct haul_node of = { .id = 1 };

	lab->budget = 400 << 10;
	lab_reopen(lab);
	fill(&of.properties, "a", 10000, buffer);
	for (int group = 0; group < 10; group++) {
		assert_int_equal(haul_changes_begin(lab->changes), 0);
		for (of.id = 1; of.id <= 10; of.id++)
			assert_true(haul_changes_create_node(lab->changes, &of, NULL) >= 0);
		(void)delete_node(77, 0, 0);
		assert_int_equal(haul_changes_end(lab->changes), 0);
	}
	assert_int_equal(last(), -ECANCELED);
	assert_int_equal(lab->statuses[10], -ENOENT);
	assert_int_equal(lab->statuses[11 * 5], HAUL_ELIMIT);
	assert_true(lab->lsm.used <= lab->budget);
	assert_int_equal(lab_rows(lab, TREE_NODE), 0);
}

/* What a row costs is less than what it takes. */
static void test_exec_cost__is_enough(void **state)
{
	(void)state;
	for (uint32_t bytes = 0; bytes < 100; bytes++) {
		for (int tree = 0; tree < TREES; tree++)
			assert_true(exec_cost(bytes) >= memtable_cost((enum tree)tree, bytes));
	}
	assert_int_equal(exec_cost(9), 64); /* of the format: frames fail by it */
}

/* A table cannot be read: half of the frame is done, or a change is told what nobody knows. */
static void test_exec__unreadable_table_undoes_the_frame(void **state)
{
	(void)state;
	for (uint64_t id = 1; id <= 10; id++)
		(void)CREATE(id, .key = NULL, .text = "x");
	(void)embed(1, 0, 3);
	assert_int_equal(last(), 0);
	lab_flush(lab);
	const uint64_t hash = lab_hash(lab, true), op = lab->op;
	for (uint32_t at = 1; at <= 30; at++) {
		haul_changes_clear(lab->changes);
		for (uint64_t id = 11; id <= 20; id++)
			(void)create(id);
		(void)embed(2, 0, 3);
		(void)edge(EDGE_CREATE, 1, 2, OPTIONS(.flags = 0));
		for (uint64_t id = 1; id <= 10; id++)
			(void)UPDATE(id, .flags = HAUL_PATCH);
		(void)delete_node(1, HAUL_DETACH, 0);
		lab->lsm.fail_find = at <= 25 ? at : 0;
		lab->lsm.fail_prefix = at > 25 && at <= 28 ? at - 25 : 0;
		lab->lsm.fail_put = at > 28 ? 10 * (at - 28) : 0;
		assert_int_equal(lab_run(lab), at > 28 ? HAUL_EFULL : -EIO);
		assert_true(lab_hash(lab, true) == hash && lab->op == op);
		assert_int_equal(lab->staged_count, 0);
	}
	(void)embed(2, 0, 4); /* what is known of the index was given back, too */
	assert_int_equal(last(), -EINVAL);
	(void)embed(2, 0, 3);
	assert_int_equal(last(), 0);
	assert_int_equal(index_of(0).count, 2);
	assert_int_equal(lab->lsm.fail_find, 0);
}

/* An executor is made on what it cannot read, or leaks. */
static void test_exec_new__refuses(void **state)
{
	(void)state;
	struct exec *exec = NULL;

	lab->lsm.fail_find = 1;
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), -EIO);
	lab->lsm.fail_prefix = 1;
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), -EIO);
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, EXEC_BUDGET_MIN - 1), HAUL_ELIMIT);
	assert_int_equal(exec_new(&exec, &lab->lsm, NULL, LSM_FRAME_BUDGET + 1), HAUL_ELIMIT);
	assert_null(exec);
	exec_free(NULL);
	for (uint32_t i = 0; i < 10; i++) {
		if (!test_malloc_fail(i))
			return;
		assert_int_equal(exec_new(&exec, &lab->lsm, NULL, 0), -ENOMEM);
	}
}

/* Executing allocates. */
static void test_exec__allocates_nothing(void **state)
{
	(void)state;
	static int32_t statuses[64];
	struct exec_result result;
	struct prng prng;
	struct frame frame;

	prng_init(&prng, 3);
	(void)sample_changes(&prng, lab->changes, 10, 60);
	const uint32_t bytes = sample_seal(lab->changes, lab->frame, FRAME_BYTES_MAX);
	assert_int_equal(frame_check(lab->frame, bytes, &frame), 0);
	const uint64_t mallocs = test_mallocs();
	const uint32_t rows = lab->lsm.count;
	assert_int_equal(exec_frame(lab->exec, &frame, 1, statuses, &result), 0);
	/* Those of the lab: one a row, and the list of rows. */
	assert_true(test_mallocs() - mallocs <= lab->lsm.count - rows + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_exec__create_node),
		T(test_exec__create_node_that_exists),
		T(test_exec__upsert_node_replaces),
		T(test_exec__node_keeps_its_own_key),
		T(test_exec__update_node),
		T(test_exec__patch_node),
		T(test_exec__patch_over_the_limit),
		T(test_exec__expected_version),
		T(test_exec__delete_node),
		T(test_exec__detach),
		T(test_exec__detach_over_the_limit),
		T(test_exec__edges),
		T(test_exec__patch_edge),
		T(test_exec__embeddings),
		T(test_exec__original_reordered_between_kinds),
		T(test_exec__original_had_no_undo),
		T(test_exec__groups_fail_alone),
		T(test_exec__failed_group_gives_back_what_was_there),
		T(test_exec__unordered),
		T(test_exec__asks_for_all_of_a_frame_at_once),
		T(test_exec__values_over_the_arena),
		T(test_exec__values_over_the_arena_and_groups),
		T(test_exec__value_asked_for_again_in_a_group),
		T(test_exec__budget),
		T(test_exec__failed_groups_count_in_the_budget),
		T(test_exec_cost__is_enough),
		T(test_exec__unreadable_table_undoes_the_frame),
		T(test_exec_new__refuses),
		T(test_exec__allocates_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
