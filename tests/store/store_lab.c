#include "store_lab.h"

#include <errno.h>
#include <string.h>

static void lab_vfs(struct store_lab *lab)
{
	lab->vfs = vfs_sim_vfs(lab->disk);
	assert_non_null(lab->vfs);
	lab->deep.vfs = lab->vfs;
}

void store_lab_init_empty(struct store_lab *lab, uint64_t seed)
{
	memset(lab, 0, sizeof *lab);
	prng_init(&lab->prng, seed);
	os_sim_init(&lab->os, seed);
	assert_int_equal(vfs_sim_open(&lab->disk, STORE_LAB_DISK, seed), 0);
	lab->deep = (struct store_deep){
		.os = &lab->os.os,
		.segment_bytes = STORE_LAB_SEGMENT,
		.table_bytes = STORE_LAB_TABLE,
		.block_bytes = STORE_LAB_BLOCK,
		.frame_budget = STORE_LAB_BUDGET,
		.log_buffer_bytes = STORE_LAB_LOG,
	};
	lab->options = (struct haul_store_options){
		.memory = STORE_LAB_MEMORY,
		.memtable_bytes = STORE_LAB_MEMTABLE,
		.level_factor = 3,
	};
	lab_vfs(lab);
	assert_int_equal(haul_changes_new(&lab->changes, 0, 0, 0), 0);
}

void store_lab_init(struct store_lab *lab, uint64_t seed)
{
	store_lab_init_empty(lab, seed);
	assert_int_equal(store_lab_make(lab), 0);
}

static void lab_vfs_close(struct store_lab *lab)
{
	if (lab->vfs != NULL)
		VFS_CALL(lab->vfs, close_all, lab->vfs);
	lab->vfs = NULL;
}

void store_lab_done(struct store_lab *lab)
{
	if (lab->store != NULL)
		store_abandon(lab->store);
	haul_changes_free(lab->changes);
	lab_vfs_close(lab);
	vfs_sim_close(lab->disk);
	memset(lab, 0, sizeof *lab);
}

int store_lab_setup(void **state)
{
	struct store_lab *lab = test_malloc(sizeof *lab);

	store_lab_init(lab, 7);
	assert_int_equal(store_lab_open(lab), 0);
	*state = lab;
	return 0;
}

int store_lab_teardown(void **state)
{
	store_lab_done(*state);
	test_free(*state);
	return 0;
}

int store_lab_make(struct store_lab *lab)
{
	uint8_t uuid[16];

	lab->deep.os->random(lab->deep.os, uuid, sizeof uuid);
	const int rc = store_init_on(&lab->deep, uuid, &lab->err);
	/* what it locked is free again */
	lab_vfs_close(lab);
	lab_vfs(lab);
	return rc;
}

int store_lab_open(struct store_lab *lab)
{
	assert_null(lab->store);
	const int rc = store_open_on(&lab->store, &lab->deep, &lab->options, &lab->err);
	if (rc < 0) {
		assert_null(lab->store);
		lab_vfs_close(lab);
		lab_vfs(lab);
	}
	return rc;
}

int store_lab_close(struct store_lab *lab)
{
	const int rc = haul_store_close(lab->store);

	lab->store = NULL;
	lab_vfs_close(lab);
	lab_vfs(lab);
	return rc;
}

void store_lab_crash(struct store_lab *lab, enum vfs_sim_crash how)
{
	if (lab->store != NULL)
		store_abandon(lab->store);
	lab->store = NULL;
	lab_vfs_close(lab);
	vfs_sim_stop_after(lab->disk, UINT64_MAX);
	vfs_sim_crash(lab->disk, how, &lab->prng);
	lab_vfs(lab);
}

void store_lab_reopen(struct store_lab *lab)
{
	assert_int_equal(store_lab_close(lab), 0);
	assert_int_equal(store_lab_open(lab), 0);
}

int store_lab_settle(struct store_lab *lab)
{
	int rc;

	while ((rc = store_step(lab->store)) > 0)
		continue;
	return rc;
}

/* ---- changes ---- */

int lab_node(struct store_lab *lab, uint64_t id, uint32_t kind, const char *key, const char *text)
{
	uint8_t buffer[1024];
	struct haul_node node = { .id = id, .kind = kind };

	if (key != NULL) {
		node.key = key;
		node.key_bytes = (uint32_t)strlen(key);
	}
	if (text != NULL) {
		const struct haul_property property = { .name = "text",
							.name_bytes = 4,
							.type = HAUL_TEXT,
							.data = text,
							.data_bytes = (uint32_t)strlen(text) };
		assert_int_equal(haul_properties_encode(&property, 1, buffer, sizeof buffer,
							&node.properties),
				 0);
	}
	return haul_changes_create_node(lab->changes, &node, NULL);
}

int lab_edge(struct store_lab *lab, uint64_t src, uint64_t dst, uint32_t type)
{
	const struct haul_edge edge = { .id = { .src = src, .dst = dst, .type = type } };

	return haul_changes_create_edge(lab->changes, &edge, NULL);
}

int lab_delete(struct store_lab *lab, uint64_t id, uint32_t flags)
{
	const struct haul_change_options options = { .flags = flags };

	return haul_changes_delete_node(lab->changes, id, &options);
}

int lab_embedding(struct store_lab *lab, uint64_t node, uint32_t index, const float *vector,
		  uint32_t dimensions)
{
	const struct haul_embedding embedding = {
		.node = node, .index = index, .dimensions = dimensions, .vector = vector
	};

	return haul_changes_set_embedding(lab->changes, &embedding);
}

int store_lab_commit(struct store_lab *lab)
{
	const int rc = haul_store_commit(lab->store, lab->changes, lab->statuses, &lab->commit);

	haul_changes_clear(lab->changes);
	return rc;
}

/* ---- looking ---- */

bool lab_has(struct store_lab *lab, uint64_t id, const char *text)
{
	struct haul_reader *reader;
	struct haul_node node;
	struct haul_property property;
	int32_t status;

	assert_int_equal(haul_store_reader(lab->store, 0, &reader), 0);
	assert_int_equal(haul_reader_get(reader, &id, 1, &node, &status), 1);
	bool has = status == 0;
	assert_true(status == 0 || status == -ENOENT);
	if (has && text != NULL)
		has = haul_property_find(&node.properties, "text", &property) == 0 &&
		      property.data_bytes == strlen(text) &&
		      memcmp(property.data, text, property.data_bytes) == 0;
	haul_reader_close(reader);
	return has;
}

uint32_t lab_count_nodes(struct store_lab *lab)
{
	enum { PAGE = 64 };
	struct haul_reader *reader;
	struct haul_node nodes[PAGE];
	struct haul_scan scan = { 0 };
	uint32_t count = 0;
	int rc;

	assert_int_equal(haul_store_reader(lab->store, 0, &reader), 0);
	while ((rc = haul_reader_scan(reader, &scan, nodes, PAGE)) > 0)
		count += (uint32_t)rc;
	assert_int_equal(rc, 0);
	haul_reader_close(reader);
	return count;
}
