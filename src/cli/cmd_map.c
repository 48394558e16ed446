#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/group.h"
#include "cli/map.h"
#include "cli/map_where.h"
#include "cli/stop.h"

enum { SIMILAR = 3, EXPECTED_FROM = 262144 };

int map_op_fail(const struct map_request *request, int code)
{
	if (code == -ENOTSUP)
		fprintf(stderr, "haul: map: %s: a map of type %s cannot do that%s%s\n",
			request->name, haul_map_type_name(request->type),
			request->open.engine != HAUL_MAP_AUTO ? " with engine " : "",
			request->open.engine != HAUL_MAP_AUTO
				? haul_map_engine_name(request->open.engine)
				: "");
	else if (code == -EPERM && request->frozen)
		fprintf(stderr, "haul: map: %s: the map is frozen: it can only be read\n",
			request->name);
	else
		return cli_fail_code("map", request->name, code);
	return CLI_FAILED;
}

/* ---- which map ---- */

struct similar {
	const char *name;
	size_t alike; /* first bytes that are the same, of the best so far */
	char found[HAUL_MAP_NAME];
};

/* The name that starts most alike, or holds what was typed. */
static int find_similar(const struct haul_map_info *info, void *arg)
{
	struct similar *similar = arg;
	size_t alike = 0;
	while (info->name[alike] != '\0' && info->name[alike] == similar->name[alike])
		alike++;
	if (info->name[0] != '\0' && strstr(info->name, similar->name) != NULL)
		alike = strlen(similar->name);
	if (alike < SIMILAR || alike < strlen(similar->name) / 2 || alike <= similar->alike)
		return 0;
	similar->alike = alike;
	memcpy(similar->found, info->name, sizeof similar->found);
	return 0;
}

static int open_failed(const char *what, const struct haul_err *err)
{
	struct similar similar = { .name = what };
	if (err->code == -ENOENT && strlen(what) >= SIMILAR && strchr(what, '/') == NULL)
		(void)haul_map_each(find_similar, &similar, NULL);
	fprintf(stderr, "haul: map: %s", err->text);
	if (similar.found[0] != '\0')
		fprintf(stderr, "; did you mean '%s'?", similar.found);
	else if (err->code == -ENOENT && strchr(what, '/') == NULL &&
		 strstr(err->text, "haul map list") == NULL)
		fprintf(stderr, "; 'haul map list' shows all");
	fprintf(stderr, "\n");
	return CLI_FAILED;
}

int map_begin(struct map_request *request)
{
	struct haul_err err = { 0 };
	int rc = haul_map_open(&request->map, request->args[0], &request->open, &err);
	if (rc < 0)
		return open_failed(request->args[0], &err);
	request->info = haul_map_info(request->map);
	request->type = request->info->type;
	request->frozen = request->info->frozen;
	rc = typed_open(&request->typed, request->info, request->plain, &err);
	if (rc < 0 && !request->plain) {
		fprintf(stderr, "haul: map: shown as bytes: %s\n", err.text);
		rc = typed_open(&request->typed, request->info, true, &err);
	}
	for (uint32_t i = 0; rc == 0 && i < request->where_count; i++)
		rc = map_where(request->where[i], request->info, &request->typed, &request->filter,
			       &err);
	if (rc == 0)
		rc = haul_map_filter_check(request->info, &request->filter, &err);
	if (rc == 0)
		return CLI_OK;
	map_end(request);
	return cli_fail("map", &err);
}

void map_end(struct map_request *request)
{
	progress_end(&request->progress);
	typed_close(&request->typed);
	haul_map_close(request->map);
	request->map = NULL;
}

void map_explain(struct map_request *request, enum haul_map_op op, uint64_t rows)
{
	char text[HAUL_MAP_TEXT];
	if (!request->explain)
		return;
	(void)haul_map_explain(request->map, op, rows, text);
	fprintf(stderr, "engine: %s\n", text);
}

uint64_t map_expected(struct map_request *request)
{
	struct haul_map_result result;
	uint64_t count = 0;
	char text[HAUL_MAP_TEXT];
	if (request->info->max_entries < EXPECTED_FROM)
		return 0; /* over before anybody wonders */
	if (haul_map_explain(request->map, HAUL_MAP_OP_COUNT, 0, text) != HAUL_MAP_KERNEL)
		return 0; /* a walk only to know how long the walk will be */
	return haul_map_count(request->map, &count, &result) < 0 ? 0 : count;
}

/* ---- dispatch ---- */

static int run(const char *name, int (*subcommand)(struct map_request *request), int argc,
	       char **argv)
{
	struct map_request request = { .name = name };
	map_usage(&request, name, argc, argv);
	stop_catch();
	return subcommand(&request);
}

#define X(name, help)                                                                              \
	static int run_##name(int argc, char **argv)                                               \
	{                                                                                          \
		return run(#name, map_##name, argc, argv);                                         \
	}
MAP_COMMAND_LIST(X)
#undef X

int cmd_map(int argc, char **argv)
{
	static const struct command subcommands[] = {
#define X(name, help) { #name, help, run_##name },
		MAP_COMMAND_LIST(X)
#undef X
	};
	static const struct command_group group = {
		.prefix = "haul map",
		.noun = "subcommand",
		.commands = subcommands,
		.count = sizeof subcommands / sizeof subcommands[0],
		.args_doc = "SUBCOMMAND [MAP] [ARGUMENT...]",
		.doc = "Work with any BPF map of this kernel, many entries a call. MAP is an id, a "
		       "name, or the path of a pin.\v"
		       "Examples:\n"
		       "  haul map list\n"
		       "  haul map dump flows --where 'value.bytes > 1M'\n"
		       "  haul map export flows flows.map\n",
	};

	return cli_end_output("map", group_run(&group, argc, argv));
}
