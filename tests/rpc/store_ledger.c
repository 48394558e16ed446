/* What kill -9 of a served store is tested with: a client that writes down what it was told.
 *
 * store_ledger ADDRESS: one client object, four threads; each commits groups of three nodes
 * and two edges, now and then one that has to fail, and keeps what it was told. The server is
 * killed and started again meanwhile, by others. When its standard input ends it waits for the
 * rest, then reads all of it back: every group that was told is there and whole, every other is
 * whole or absent, none was done twice (a second time would have said "exists already"). */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <haul/client.h>
#include "base/assert.h"

enum { THREADS = 4, GROUPS_MAX = 200000, GROUP = 3 };
#define STRIDE      (UINT64_C(1) << 32) /* ids of a thread */
#define DEADLINE_NS INT64_C(2000000000)

enum fate { FATE_NONE, FATE_TOLD, FATE_FAILED, FATE_UNKNOWN, FATE_NEVER };

struct ledger;
struct writer {
	pthread_t thread;
	struct ledger *ledger;
	struct haul_client *client;
	uint32_t number;
	uint8_t fates[GROUPS_MAX];
	uint32_t count, told, unknown, settled, wrong;
};
struct ledger {
	struct writer writers[THREADS];
	_Atomic bool end;
};

static uint64_t first_id(const struct writer *writer, uint32_t group)
{
	return STRIDE * (writer->number + 1) + (uint64_t)group * GROUP;
}

static bool shall_fail(uint32_t group)
{
	return group % 7 == 6;
}

/* Three nodes in a circle half closed; the last change fails when it shall. */
static void put_group(const struct writer *writer, struct haul_changes *changes, uint32_t group)
{
	const uint64_t id = first_id(writer, group);
	int rc = 0;

	haul_changes_clear(changes);
	rc |= haul_changes_begin(changes);
	for (uint32_t i = 0; i < GROUP; i++) {
		const struct haul_node node = { .id = id + i, .kind = 1 };
		rc |= haul_changes_create_node(changes, &node, NULL) < 0;
	}
	for (uint32_t i = 0; i + 1 < GROUP; i++) {
		const uint64_t to = shall_fail(group) && i + 2 == GROUP ? 1 : id + i + 1;
		const struct haul_edge edge = { .id = { id + i, to, 5, 0 } };
		rc |= haul_changes_create_edge(changes, &edge, NULL) < 0;
	}
	rc |= haul_changes_end(changes);
	HAUL_ASSERT(rc == 0);
}

/* What it was told, against what it has to be. */
static enum fate judge(struct writer *writer, uint32_t group, const int32_t *statuses)
{
	const int last = 2 * GROUP - 2;
	bool good = true;

	for (int i = 0; i <= last; i++) {
		const int32_t want = !shall_fail(group) ? 0 : i == last ? -ENOENT : -ECANCELED;
		good &= statuses[i] == want;
	}
	if (!good) {
		fprintf(stderr, "thread %u group %u: told %d %d %d %d %d\n", writer->number, group,
			statuses[0], statuses[1], statuses[2], statuses[3], statuses[4]);
		writer->wrong++;
	}
	return shall_fail(group) ? FATE_FAILED : FATE_TOLD;
}

static enum fate settle(struct writer *writer, uint32_t group, uint64_t seq)
{
	enum haul_outcome outcome = HAUL_OUTCOME_UNKNOWN;

	if (haul_client_outcome(writer->client, seq, &outcome) != 0)
		return FATE_UNKNOWN;
	writer->settled += outcome != HAUL_OUTCOME_UNKNOWN;
	if (outcome == HAUL_OUTCOME_COMMITTED)
		return shall_fail(group) ? FATE_FAILED : FATE_TOLD;
	return outcome == HAUL_OUTCOME_NEVER ? FATE_NEVER : FATE_UNKNOWN;
}

static void *write_groups(void *arg)
{
	struct writer *writer = arg;
	struct haul_changes *changes;

	HAUL_ASSERT(haul_changes_new(&changes, 16, 4096, 0) == 0);
	while (!writer->ledger->end && writer->count < GROUPS_MAX) {
		struct haul_client_result result = { 0 };
		int32_t statuses[2 * GROUP] = { 0 };
		const uint32_t group = writer->count++;
		put_group(writer, changes, group);
		const int rc = haul_client_commit(writer->client, changes, statuses, &result);
		if (rc == 0) {
			writer->fates[group] = (uint8_t)judge(writer, group, statuses);
			writer->told++;
		} else if (rc == -ETIMEDOUT) {
			writer->fates[group] = (uint8_t)settle(writer, group, result.seq);
			writer->unknown++;
		} else {
			fprintf(stderr, "thread %u group %u: %s\n", writer->number, group,
				haul_strerror(rc));
			writer->wrong++;
			break;
		}
	}
	haul_changes_free(changes);
	return NULL;
}

/* What is there of a group: nodes and edges, counted. */
static uint32_t there(struct haul_reader *reader, const struct writer *writer, uint32_t group)
{
	const uint64_t id = first_id(writer, group);
	uint64_t ids[GROUP];
	struct haul_edge_id names[GROUP - 1];
	struct haul_node nodes[GROUP];
	struct haul_edge edges[GROUP - 1];
	int32_t statuses[GROUP];
	uint32_t count = 0;

	for (uint32_t i = 0; i < GROUP; i++)
		ids[i] = id + i;
	for (uint32_t i = 0; i + 1 < GROUP; i++)
		names[i] = (struct haul_edge_id){ id + i, id + i + 1, 5, 0 };
	if (haul_reader_get(reader, ids, GROUP, nodes, statuses) != GROUP)
		return UINT32_MAX;
	for (uint32_t i = 0; i < GROUP; i++)
		count += statuses[i] == 0;
	if (haul_reader_get_edges(reader, names, GROUP - 1, edges, statuses) != GROUP - 1)
		return UINT32_MAX;
	for (uint32_t i = 0; i + 1 < GROUP; i++)
		count += statuses[i] == 0;
	return count;
}

static uint32_t check_writer(struct haul_reader *reader, const struct writer *writer)
{
	const uint32_t whole = 2 * GROUP - 1;
	uint32_t wrong = 0;

	for (uint32_t group = 0; group < writer->count; group++) {
		const enum fate fate = (enum fate)writer->fates[group];
		const uint32_t count = there(reader, writer, group);
		bool good = count == 0 || count == whole;
		if (fate == FATE_TOLD)
			good = count == whole;
		else if (fate == FATE_FAILED || fate == FATE_NEVER)
			good = count == 0;
		if (good)
			continue;
		wrong++;
		fprintf(stderr, "thread %u group %u: fate %d, %u of %u are there\n", writer->number,
			group, (int)fate, count, whole);
	}
	return wrong;
}

static int finish(struct ledger *ledger, struct haul_client *client)
{
	uint32_t wrong = 0, told = 0, unknown = 0, settled = 0;
	struct haul_reader *reader;

	HAUL_ASSERT(haul_client_reader(client, 0, &reader) == 0);
	for (uint32_t i = 0; i < THREADS; i++) {
		struct writer *writer = &ledger->writers[i];
		wrong += writer->wrong + check_writer(reader, writer);
		told += writer->told;
		unknown += writer->unknown;
		settled += writer->settled;
	}
	haul_reader_close(reader);
	printf("told %u unknown %u settled %u wrong %u\n", told, unknown, settled, wrong);
	return wrong == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct ledger ledger;
	const struct haul_client_options options = { .policy = HAUL_CLIENT_SELFCLOCK,
						     .deadline_ns = DEADLINE_NS };
	struct haul_err err = { 0 };
	struct haul_client *client;
	char away[64];

	HAUL_ASSERT(argc == 2);
	if (haul_client_open(&client, argv[1], &options, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		return 2;
	}
	for (uint32_t i = 0; i < THREADS; i++) {
		struct writer *writer = &ledger.writers[i];
		writer->client = client;
		writer->number = i;
		writer->ledger = &ledger;
		HAUL_ASSERT(pthread_create(&writer->thread, NULL, write_groups, writer) == 0);
	}
	printf("begun\n");
	(void)fflush(stdout);
	while (read(STDIN_FILENO, away, sizeof away) > 0)
		;
	ledger.end = true;
	for (uint32_t i = 0; i < THREADS; i++)
		(void)pthread_join(ledger.writers[i].thread, NULL);
	const int rc = finish(&ledger, client);
	haul_client_close(client);
	return rc;
}
