/* A graph store in a folder: people who know each other, written in groups that are whole or not at
 * all, read again by key, along edges and by likeness. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <haul/store.h>

enum { PEOPLE = 1000, PERSON = 1, KNOWS = 1, FACES = 0, DIMENSIONS = 4, MIB = 1 << 20 };

static int add_person(struct haul_changes *changes, uint64_t id)
{
	char key[32];
	uint8_t buffer[64];
	struct haul_node node = { .id = id, .kind = PERSON, .key = key };
	struct haul_property age = {
		.name = "age", .name_bytes = 3, .type = HAUL_INTEGER, .integer = 20 + (int)(id % 60)
	};
	float face[DIMENSIONS] = { (float)id, (float)(id % 7), 1, 0 };
	struct haul_embedding embedding = { id, 0, FACES, DIMENSIONS, face };

	node.key_bytes = (uint32_t)snprintf(key, sizeof key, "person %llu", (unsigned long long)id);
	int rc = haul_properties_encode(&age, 1, buffer, sizeof buffer, &node.properties);
	if (rc == 0)
		rc = haul_changes_create_node(changes, &node, NULL);
	return rc < 0 ? rc : haul_changes_set_embedding(changes, &embedding);
}

/* A person and whom he knows: one group, so that nobody is half there. */
static int fill(struct haul_store *store, struct haul_changes *changes)
{
	for (uint64_t id = 1; id <= PEOPLE; id++) {
		struct haul_edge knows = { .id = { .src = id, .dst = id / 2, .type = KNOWS } };
		int rc = haul_changes_begin(changes);
		if (rc == 0)
			rc = add_person(changes, id);
		if (rc >= 0 && id > 1)
			rc = haul_changes_create_edge(changes, &knows, NULL);
		if (rc >= 0)
			rc = haul_changes_end(changes);
		if (rc < 0)
			return rc;
	}
	struct haul_commit commit;
	int rc = haul_store_commit(store, changes, NULL, &commit); /* durable when it returns */
	if (rc == 0)
		printf("frame %llu: %u of %u changes failed\n", (unsigned long long)commit.op,
		       commit.failed, haul_changes_count(changes));
	return rc < 0 ? rc : (int)commit.failed;
}

static int look(struct haul_reader *reader)
{
	struct haul_text key = { "person 700", 10 };
	struct haul_neighbours query = { .direction = HAUL_BOTH, .type = KNOWS };
	struct haul_edge edges[8];
	struct haul_node node;
	uint64_t path[32];
	int32_t status;

	if (haul_reader_get_by_key(reader, &key, 1, &node, &status) != 1 || status < 0)
		return -1;
	query.node = node.id;
	printf("person %llu is of kind %u\n", (unsigned long long)node.id, node.kind);
	int count = haul_reader_neighbours(reader, &query, edges, 8);
	for (int i = 0; i < count; i++)
		printf("%llu knows %llu\n", (unsigned long long)edges[i].id.src,
		       (unsigned long long)edges[i].id.dst);
	struct haul_path between = { 999, 1000, HAUL_BOTH, KNOWS, 32 };
	int steps = haul_reader_path(reader, &between, path, 32);
	printf("from 999 to 1000 by way of %d people\n", steps - 2);

	float face[DIMENSIONS] = { 500.2F, 3, 1, 0 };
	struct haul_near near = { .index = FACES, .dimensions = DIMENSIONS, .k = 3, .count = 1 };
	struct haul_near_hit hits[3];
	near.vectors = face;
	if (haul_reader_near(reader, &near, hits) != 1)
		return -1;
	printf("most alike: %llu\n", (unsigned long long)hits[0].node);
	return count > 0 && steps > 2 && hits[0].node == 500 ? 0 : -1;
}

static int use(const char *path, struct haul_err *err)
{
	struct haul_store_options options = { .memory = 128 * MIB };
	struct haul_changes *changes = NULL;
	struct haul_reader *reader = NULL;
	struct haul_store *store = NULL;
	int rc = haul_store_init(path, err);

	if (rc == 0)
		rc = haul_store_open(&store, path, &options, err);
	if (rc == 0)
		rc = haul_changes_new(&changes, 0, 0, 0);
	if (rc == 0)
		rc = fill(store, changes);
	if (rc == 0)
		rc = haul_store_reader(store, 0, &reader);
	if (rc == 0)
		rc = look(reader);
	haul_reader_close(reader);
	haul_changes_free(changes);
	int closed = haul_store_close(store);
	return rc != 0 ? rc : closed;
}

static int take_away(const char *path, const struct stat *status, int flag, struct FTW *at)
{
	(void)status;
	(void)flag;
	(void)at;
	return remove(path);
}

int main(void)
{
	char path[] = "/var/tmp/haul-example-XXXXXX";
	struct haul_err err = { 0 };
	int rc = mkdtemp(path) == NULL ? -1 : use(path, &err);

	if (rc != 0)
		fprintf(stderr, "%s\n", err.text[0] != '\0' ? err.text : haul_strerror(rc));
	(void)nftw(path, take_away, 8, FTW_DEPTH | FTW_PHYS);
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
