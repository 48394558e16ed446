#include "cli/flows_tables.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { LIST_BYTES = 160 };

static int add_name(struct flows_names *names, char *name)
{
	if (names->count == FLOWS_TABLES_MAX)
		return HAUL_ELIMIT;
	names->name[names->count++] = name;
	return 0;
}

error_t flows_names_parse(int key, char *arg, struct flows_names *names, struct argp_state *state)
{
	if (key != ARGP_KEY_ARG)
		return ARGP_ERR_UNKNOWN;
	if (add_name(names, arg) < 0)
		argp_error(state, "at most %d names", FLOWS_TABLES_MAX);
	return 0;
}

static int load_name(const char *name, void *arg)
{
	struct flows_names *names = arg;
	char *copy = strdup(name);
	int rc = copy == NULL ? -ENOMEM : add_name(names, copy);

	if (rc < 0)
		free(copy);
	return rc;
}

void flows_names_free(struct flows_names *names)
{
	while (names->count > 0)
		free(names->name[--names->count]);
}

int flows_names_load(struct flows_names *names, struct haul_err *err)
{
	int rc;

	names->count = 0;
	rc = haul_flows_each(load_name, names, err);
	if (rc == HAUL_ELIMIT)
		(void)haul_err_set(err, rc, "more than %d tables are attached: name some",
				   FLOWS_TABLES_MAX);
	if (rc < 0)
		flows_names_free(names);
	return rc < 0 ? rc : 0;
}

/* "a, b, c", or "none"; what does not fit is told by "...". */
static void list_attached(char list[LIST_BYTES])
{
	struct flows_names names = { 0 };
	size_t used = 0;

	(void)snprintf(list, LIST_BYTES, "none");
	if (flows_names_load(&names, NULL) < 0)
		return;
	for (uint32_t i = 0; i < names.count && used < LIST_BYTES; i++) {
		const char *name = used + HAUL_FLOWS_NAME > LIST_BYTES - 8 ? "..." : names.name[i];
		int n = snprintf(list + used, LIST_BYTES - used, "%s%s", i > 0 ? ", " : "", name);

		HAUL_ASSERT(n > 0);
		used += (size_t)n;
		if (name != names.name[i])
			break;
	}
	flows_names_free(&names);
}

int flows_tables_missing(const char *name, struct haul_err *err)
{
	char list[LIST_BYTES];

	list_attached(list);
	return haul_err_set(err, -ENOENT, "no table '%.*s' is attached; attached: %s",
			    HAUL_FLOWS_NAME, name, list);
}

static int open_table(struct haul_flows **ret_flows, const char *name, struct haul_err *err)
{
	int rc = haul_flows_open(ret_flows, name, err);

	return rc == -ENOENT ? flows_tables_missing(name, err) : rc;
}

static int open_all(struct flows_tables *tables, const struct flows_names *names,
		    struct haul_err *err)
{
	tables->count = 0;
	for (uint32_t i = 0; i < names->count; i++) {
		int rc = open_table(&tables->flows[i], names->name[i], err);

		if (rc < 0) {
			flows_tables_close(tables);
			return rc;
		}
		tables->count++;
	}
	return 0;
}

static int nothing(struct haul_err *err)
{
	return haul_err_set(err, -ENOENT, "no table is attached; 'haul flows attach IF' makes one");
}

int flows_tables_open(struct flows_tables *tables, const struct flows_names *names,
		      struct haul_err *err)
{
	struct flows_names all = { 0 };
	int rc;

	HAUL_ASSERT(names->count <= FLOWS_TABLES_MAX);
	if (names->count > 0)
		return open_all(tables, names, err);
	rc = flows_names_load(&all, err);
	if (rc < 0)
		return rc;
	rc = all.count == 0 ? nothing(err) : open_all(tables, &all, err);
	flows_names_free(&all);
	return rc;
}

int flows_tables_open_one(struct haul_flows **ret_flows, const char *name, struct haul_err *err)
{
	struct flows_names all = { 0 };
	char list[LIST_BYTES];
	int rc;

	if (name != NULL)
		return open_table(ret_flows, name, err);
	rc = flows_names_load(&all, err);
	if (rc < 0)
		return rc;
	list_attached(list);
	if (all.count == 0)
		rc = nothing(err);
	else if (all.count > 1)
		rc = haul_err_set(err, -EINVAL, "several tables are attached, name one: %s", list);
	else
		rc = open_table(ret_flows, all.name[0], err);
	flows_names_free(&all);
	return rc;
}

void flows_tables_close(struct flows_tables *tables)
{
	while (tables->count > 0)
		haul_flows_close(tables->flows[--tables->count]);
}

void flows_tables_warn(const struct haul_flows *flows, const uint64_t totals[HAUL_FLOW_TOTALS])
{
	const struct haul_flows_info *info = haul_flows_info(flows);
	uint64_t entries = 2 * (uint64_t)info->entries_max;

	if (totals[HAUL_FLOW_T_OVERFLOW] == 0)
		return;
	if (entries > HAUL_FLOWS_ENTRIES_MAX)
		entries = HAUL_FLOWS_ENTRIES_MAX;
	fprintf(stderr,
		"haul: %s: the table was full: %" PRIu64 " packets are in the totals only; "
		"attach it again with --entries %" PRIu64 "\n",
		info->name, totals[HAUL_FLOW_T_OVERFLOW], entries);
}
