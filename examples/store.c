/* A graph in a folder: changes that share a write and a sync, a group that is done whole or not at
 * all, and questions about many nodes in one call. Through a server it is the same, with a client
 * (haul/client.h) in place of the store. */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <haul/store.h>

enum { PEOPLE = 1000, KIND_PERSON = 1, TYPE_KNOWS = 1, ASKED = 5 };

static int add_people(struct haul_store *store, struct haul_changes *changes)
{
	struct haul_commit commit;
	for (int i = 1; i <= PEOPLE; i++) {
		uint8_t encoded[64];
		char key[32];
		struct haul_property age = {
			.name = "age", .name_bytes = 3, .type = HAUL_INTEGER, .integer = 20 + i % 60
		};
		struct haul_node node = { .id = (uint64_t)i, .kind = KIND_PERSON, .key = key };
		node.key_bytes = (uint32_t)snprintf(key, sizeof key, "person_%d", i);
		haul_properties_encode(&age, 1, encoded, sizeof encoded, &node.properties);
		if (haul_changes_create_node(changes, &node, NULL) < 0)
			return -1;
	}
	for (int i = 1; i < PEOPLE; i++) {
		struct haul_edge edge = { .id = { (uint64_t)i, (uint64_t)i + 1, TYPE_KNOWS, 0 } };
		if (haul_changes_create_edge(changes, &edge, NULL) < 0)
			return -1;
	}
	int rc = haul_store_commit(store, changes, NULL, &commit); /* one frame, durable */
	printf("%u changes in frame %llu, %u failed\n", haul_changes_count(changes),
	       (unsigned long long)commit.op, commit.failed);
	return rc;
}

/* The second change cannot be done, so the first is not either. */
static int try_group(struct haul_store *store, struct haul_changes *changes)
{
	struct haul_edge edge = { .id = { 1, 3, TYPE_KNOWS, 0 } };
	struct haul_node taken = { .id = 7, .kind = KIND_PERSON };
	int32_t statuses[2];
	haul_changes_clear(changes);
	haul_changes_begin(changes);
	haul_changes_create_edge(changes, &edge, NULL);
	haul_changes_create_node(changes, &taken, NULL);
	haul_changes_end(changes);
	int rc = haul_store_commit(store, changes, statuses, &(struct haul_commit){ 0 });
	if (rc < 0)
		return rc;
	printf("edge: %s; node: %s\n", haul_strerror(statuses[0]), haul_strerror(statuses[1]));
	return statuses[0] == -ECANCELED && statuses[1] == -EEXIST ? 0 : -1;
}

static int ask(struct haul_reader *reader)
{
	const uint64_t ids[ASKED] = { 1, 10, 100, 1000, 10000 };
	const struct haul_path query = { .src = 1, .dst = 9, .depth_max = 10 };
	struct haul_node nodes[ASKED];
	int32_t statuses[ASKED];
	uint64_t path[11];
	int got = haul_reader_get(reader, ids, ASKED, nodes, statuses); /* sorted, prefetched */
	for (int i = 0; i < got; i++) {
		struct haul_property age;
		if (statuses[i] == 0 && haul_property_find(&nodes[i].properties, "age", &age) == 0)
			printf("%.*s is %lld\n", (int)nodes[i].key_bytes, nodes[i].key,
			       (long long)age.integer);
		else
			printf("%llu: %s\n", (unsigned long long)ids[i],
			       haul_strerror(statuses[i]));
	}
	int steps = haul_reader_path(reader, &query, path, 11);
	printf("from 1 to 9 it takes %d edges\n", steps - 1);
	return got == ASKED && steps == 9 ? 0 : -1;
}

static int use(struct haul_store *store)
{
	struct haul_changes *changes = NULL;
	struct haul_reader *reader = NULL;
	int rc = haul_changes_new(&changes, 0, 0, 0);
	if (rc == 0)
		rc = add_people(store, changes);
	if (rc == 0)
		rc = try_group(store, changes);
	if (rc == 0)
		rc = haul_store_reader(store, 0, &reader);
	if (rc == 0)
		rc = ask(reader);
	haul_reader_close(reader);
	haul_changes_free(changes);
	return rc;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *place)
{
	(void)st;
	(void)flag;
	(void)place;
	return remove(path);
}

int main(void)
{
	char folder[] = "/var/tmp/haul-example-XXXXXX";
	const struct haul_store_options options = { .memory = 128 << 20 };
	struct haul_store *store = NULL;
	struct haul_err err = { 0 };
	if (mkdtemp(folder) == NULL)
		return EXIT_FAILURE;
	int rc = haul_store_init(folder, &err);
	if (rc == 0)
		rc = haul_store_open(&store, folder, &options, &err);
	if (rc == 0)
		rc = use(store);
	else
		fprintf(stderr, "%s\n", err.text);
	if (haul_store_close(store) < 0)
		rc = -1;
	nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
