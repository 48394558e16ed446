/* What each subcommand of `haul map` takes: one table of options, one of subcommands. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/map.h"
#include "cli/option.h"

enum { TUNE_RUNS = 5, RUNS_MAX = 1000, STAT_TOP = 10 };

/* Who takes an option. */
enum {
	ENGINE = 1 << 0,
	FORMAT = 1 << 1,
	JSON = 1 << 2,
	HEX = 1 << 3,
	WHERE = 1 << 4,
	SCAN = 1 << 5,
	ALL = 1 << 6,
	NEW = 1 << 7,
	EXISTING = 1 << 8,
	ROWS = 1 << 9,
	EXPORT = 1 << 10,
	IMPORT = 1 << 11,
	TUNE = 1 << 12,
	STAT = 1 << 13,
	QUIET = 1 << 14,
	COUNT = 1 << 15
};

enum {
	KEY_ENGINE = 256,
	KEY_BATCH,
	KEY_EXPLAIN,
	KEY_JSON,
	KEY_NDJSON,
	KEY_CSV,
	KEY_HEX,
	KEY_WHERE,
	KEY_LIMIT,
	KEY_THREADS,
	KEY_CHECK,
	KEY_ALL,
	KEY_NEW,
	KEY_EXISTING,
	KEY_KEEP_GOING,
	KEY_RESUME,
	KEY_OVERWRITE,
	KEY_BLOCK,
	KEY_REPLACE,
	KEY_MERGE,
	KEY_DRY_RUN,
	KEY_RUNS,
	KEY_FIELD,
	KEY_TOP,
	KEY_COUNT,
	KEY_QUIET
};

struct known {
	uint32_t who;
	struct argp_option argp;
};

#define OPTION(who, key, name, arg, doc)                                                           \
	{                                                                                          \
		who,                                                                               \
		{                                                                                  \
			name, key, arg, 0, doc, 0                                                  \
		}                                                                                  \
	}
static const struct known options[] = {
	OPTION(FORMAT | JSON, KEY_JSON, "json", NULL, "one JSON document"),
	OPTION(FORMAT, KEY_NDJSON, "ndjson", NULL, "a line of JSON an entry"),
	OPTION(FORMAT, KEY_CSV, "csv", NULL, "comma-separated, the fields' names first"),
	OPTION(HEX, KEY_HEX, "hex", NULL, "bytes, as if the map had no BTF"),
	OPTION(WHERE, KEY_WHERE, "where", "EXPR",
	       "only entries for which this holds, as in 'value.bytes > 1M and key.port == 443', "
	       "or "
	       "by OFFSET:WIDTH in bytes, 'value[8:4] > 0' (key[0:2]be: network order); again for "
	       "more conditions, all must hold"),
	OPTION(SCAN, KEY_LIMIT, "limit", "N", "end after so many entries"),
	OPTION(SCAN, KEY_CHECK, "check", NULL,
	       "look for keys seen twice, count before and after, and report it on stderr"),
	OPTION(SCAN, KEY_THREADS, "threads", "N", "read ranges of a hash map at once"),
	OPTION(ENGINE, KEY_ENGINE, "engine", "NAME",
	       "auto, single, batch or kernel; other than auto: this one or none"),
	OPTION(ENGINE, KEY_BATCH, "batch", "N", "entries a call, 16 to 65536; default: tuned"),
	OPTION(ENGINE, KEY_EXPLAIN, "explain", NULL, "say on stderr which engine, and why"),
	OPTION(ALL, KEY_ALL, "all", NULL, "every entry, without --where"),
	OPTION(COUNT, KEY_COUNT, "count", NULL, "also how many entries each map has"),
	OPTION(NEW, KEY_NEW, "only-new", NULL, "leave entries that are there as they are"),
	OPTION(EXISTING, KEY_EXISTING, "only-existing", NULL, "add no entries"),
	OPTION(ROWS, KEY_KEEP_GOING, "keep-going", NULL, "skip lines that are bad or refused"),
	OPTION(EXPORT, KEY_RESUME, "resume", NULL, "go on with the file of an export that stopped"),
	OPTION(EXPORT, KEY_OVERWRITE, "overwrite", NULL, "replace the file"),
	OPTION(EXPORT, KEY_BLOCK, "block", "N", "entries a block, 16 to 65536; default 4096"),
	OPTION(IMPORT, KEY_MERGE, "merge", NULL, "put the file's entries, keep others (default)"),
	OPTION(IMPORT, KEY_REPLACE, "replace", NULL, "afterwards the map holds the file only"),
	OPTION(IMPORT, KEY_DRY_RUN, "dry-run", NULL, "verify the file, change nothing"),
	OPTION(TUNE, KEY_RUNS, "runs", "N", "reads of the map at each size; default 5"),
	OPTION(STAT, KEY_FIELD, "field", "FIELD", "as in --where: value.bytes, value[8:8]"),
	OPTION(STAT, KEY_TOP, "top", "N", "show the N largest, at most 256; default 10"),
	OPTION(QUIET, KEY_QUIET, "quiet", NULL, "no progress on stderr"),
};

struct usage {
	const char *name;
	uint32_t takes;
	uint32_t args_min, args_max;
	const char *args_doc;
	const char *doc;
};

static const struct usage usages[] = {
	{ "list", JSON | COUNT, 0, 0, "",
	  "List all maps of this kernel.\vExample:\n  sudo haul map list\n" },
	{ "dump", ENGINE | FORMAT | HEX | WHERE | SCAN | QUIET, 1, 1, "MAP",
	  "Print the entries of a map, by the fields of its BTF if it has that, else as bytes.\v"
	  "Examples:\n  sudo haul map dump flows --limit 10\n"
	  "  sudo haul map dump 17 --where 'value > 100' --ndjson\n"
	  "  sudo haul map dump /sys/fs/bpf/counts --csv --check\n" },
	{ "get", ENGINE | FORMAT | HEX, 2, UINT32_MAX, "MAP KEY...",
	  "Print the values of some keys, read in one call. KEY is a number, bytes as 0x0a000001 "
	  "or "
	  "'0a 00 00 01', or JSON by the names of BTF; - reads a KEY a line from stdin.\v"
	  "Examples:\n  sudo haul map get counts 80 443\n"
	  "  sudo haul map get flows '{\"addr\": 1, \"port\": 443}'\n" },
	{ "count", ENGINE | JSON | HEX | WHERE, 1, 1, "MAP",
	  "Count the entries of a map; without --where that needs no walk on most hash maps.\v"
	  "Examples:\n  sudo haul map count flows\n"
	  "  sudo haul map count flows --where 'value.packets == 0'\n" },
	{ "stat", ENGINE | FORMAT | HEX | WHERE | STAT, 1, 1, "MAP",
	  "Sum, smallest, largest, mean, histogram and largest entries of one field.\v"
	  "Example:\n  sudo haul map stat flows --field value.bytes --top 5\n" },
	{ "set", ENGINE | HEX | NEW | EXISTING, 3, 3, "MAP KEY VALUE",
	  "Put one entry. VALUE is written as KEY is (see haul map get --help); on a per-CPU map "
	  "it "
	  "is that of each CPU. A negative number needs -- before it.\v"
	  "Examples:\n  sudo haul map set counts 443 0\n"
	  "  sudo haul map set limits 1 '{\"rate\": 1000}' --only-new\n" },
	{ "upsert", ENGINE | JSON | HEX | ROWS | QUIET, 1, 2, "MAP [FILE]",
	  "Put the entries of FILE (or stdin), as haul map dump writes them, and tell exactly how "
	  "many were new and how many were updated.\v"
	  "Example:\n  echo '{\"key\": 443, \"value\": 1}' | sudo haul map upsert counts\n" },
	{ "load", ENGINE | JSON | HEX | ROWS | NEW | EXISTING | QUIET, 2, 2, "MAP FILE",
	  "Put the entries of FILE: JSON, JSON Lines or CSV as haul map dump or bpftool -j writes "
	  "it. "
	  "The whole file is checked before the first entry is put (stdin, -, cannot be).\v"
	  "Examples:\n  sudo haul map load counts counts.ndjson\n"
	  "  sudo haul map load counts counts.csv --only-new\n" },
	{ "del", ENGINE | JSON | HEX, 2, UINT32_MAX, "MAP KEY...",
	  "Delete some keys in one call; - reads a KEY a line from stdin. Exit status 1 if one was "
	  "not there.\vExample:\n  sudo haul map del counts 80 443\n" },
	{ "clean", ENGINE | JSON | HEX | WHERE | ALL, 1, 1, "MAP",
	  "Delete every entry for which --where holds.\v"
	  "Example:\n  sudo haul map clean flows --where 'value.packets < 2'\n" },
	{ "export", ENGINE | JSON | EXPORT | QUIET, 2, 2, "MAP FILE",
	  "Write all entries to FILE in blocks with checksums; what was stopped can be resumed.\v"
	  "Examples:\n  sudo haul map export flows flows.map\n"
	  "  sudo haul map export flows flows.map --resume\n" },
	{ "import", ENGINE | JSON | IMPORT | NEW | QUIET, 2, 2, "MAP FILE",
	  "Put the entries of an exported FILE, after all of it was verified.\v"
	  "Examples:\n  sudo haul map import flows flows.map\n"
	  "  sudo haul map import flows flows.map --replace\n" },
	{ "tune", JSON | TUNE | QUIET, 1, 1, "MAP",
	  "Read a map at every batch size from 16 to 65536 and recommend one. Nothing is changed.\v"
	  "Example:\n  sudo haul map tune flows\n" },
};

enum { OPTIONS = sizeof options / sizeof options[0], USAGES = sizeof usages / sizeof usages[0] };

struct parsed {
	struct map_request *request;
	const struct usage *usage;
	struct option_words words;
};

static error_t parse_value(int key, const char *arg, struct argp_state *state)
{
	struct map_request *request = ((struct parsed *)state->input)->request;
	switch (key) {
	case KEY_ENGINE:
		if (haul_map_engine_by_name(arg, &request->open.engine) < 0)
			argp_error(state, "--engine '%s': there are auto, single, batch, kernel",
				   arg);
		return 0;
	case KEY_BATCH:
		request->open.batch = (uint32_t)option_number("batch", arg, HAUL_MAP_BATCH_MIN,
							      HAUL_MAP_BATCH_MAX, state);
		return 0;
	case KEY_WHERE:
		if (request->where_count == HAUL_MAP_CONDITIONS)
			argp_error(state, "--where: at most %d conditions", HAUL_MAP_CONDITIONS);
		request->where[request->where_count++] = arg;
		return 0;
	case KEY_LIMIT:
		request->limit = option_number("limit", arg, 1, UINT64_MAX, state);
		return 0;
	case KEY_THREADS:
		request->threads =
			(uint32_t)option_number("threads", arg, 1, HAUL_MAP_THREADS_MAX, state);
		return 0;
	case KEY_BLOCK:
		request->block = (uint32_t)option_number("block", arg, HAUL_MAP_BATCH_MIN,
							 HAUL_MAP_FILE_BLOCK_MAX, state);
		return 0;
	case KEY_RUNS:
		request->runs = (uint32_t)option_number("runs", arg, 1, RUNS_MAX, state);
		return 0;
	case KEY_FIELD:
		request->field = arg;
		return 0;
	case KEY_TOP:
		request->top = (uint32_t)option_number("top", arg, 0, HAUL_MAP_TOP_MAX, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static error_t parse_flag(int key, struct map_request *request)
{
	switch (key) {
	case KEY_JSON:
		request->format = MAP_JSON;
		return 0;
	case KEY_NDJSON:
		request->format = MAP_NDJSON;
		return 0;
	case KEY_CSV:
		request->format = MAP_CSV;
		return 0;
	case KEY_NEW:
		request->mode = HAUL_MAP_ONLY_NEW;
		request->import_mode = HAUL_MAP_IMPORT_ONLY_NEW;
		return 0;
	case KEY_EXISTING:
		request->mode = HAUL_MAP_ONLY_EXISTING;
		return 0;
	case KEY_REPLACE:
		request->import_mode = HAUL_MAP_IMPORT_REPLACE;
		return 0;
	case KEY_MERGE:
		request->import_mode = HAUL_MAP_IMPORT_MERGE;
		return 0;
	default:
		break;
	}
	bool *flag = key == KEY_EXPLAIN                   ? &request->explain
		     : key == KEY_HEX                     ? &request->plain
		     : key == KEY_CHECK                   ? &request->check
		     : key == KEY_ALL || key == KEY_COUNT ? &request->all
		     : key == KEY_KEEP_GOING              ? &request->keep_going
		     : key == KEY_RESUME                  ? &request->resume
		     : key == KEY_OVERWRITE               ? &request->overwrite
		     : key == KEY_DRY_RUN                 ? &request->dry_run
		     : key == KEY_QUIET                   ? &request->quiet
							  : NULL;
	if (flag == NULL)
		return ARGP_ERR_UNKNOWN;
	*flag = true;
	return 0;
}

/* What only all options together can tell. */
static void check(const struct parsed *parsed, struct argp_state *state)
{
	const struct usage *usage = parsed->usage;
	const struct map_request *request = parsed->request;
	if ((usage->takes & ALL) && request->where_count == 0 && !request->all)
		argp_error(state, "--where is missing; --all deletes every entry");
	if ((usage->takes & ALL) && request->where_count > 0 && request->all)
		argp_error(state, "--where and --all contradict each other");
	if ((usage->takes & STAT) && request->field == NULL)
		argp_error(state, "--field is missing, as in --field value.bytes");
	if ((usage->takes & STAT) && (request->format == MAP_CSV || request->format == MAP_NDJSON))
		argp_error(state, "text or --json only");
	if (request->resume && request->overwrite)
		argp_error(state, "--resume and --overwrite contradict each other");
	if (request->threads > 1 && request->limit > 0)
		argp_error(state, "--threads and --limit contradict each other");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct parsed *parsed = state->input;
	switch (key) {
	case ARGP_KEY_ARGS:
		return option_words(key, &parsed->words, state);
	case ARGP_KEY_END:
		(void)option_words(key, &parsed->words, state);
		parsed->request->args = parsed->words.word;
		parsed->request->arg_count = parsed->words.count;
		check(parsed, state);
		return 0;
	default:
		break;
	}
	if (arg != NULL && key >= KEY_ENGINE && key <= KEY_QUIET)
		return parse_value(key, arg, state);
	return parse_flag(key, parsed->request);
}

void map_usage(struct map_request *request, const char *name, int argc, char **argv)
{
	struct argp_option takes[OPTIONS + 1] = { 0 };
	struct parsed parsed = { .request = request };
	uint32_t count = 0;
	for (uint32_t i = 0; i < USAGES; i++)
		if (!strcmp(usages[i].name, name))
			parsed.usage = &usages[i];
	if (parsed.usage == NULL)
		abort();
	parsed.words.min = parsed.usage->args_min;
	parsed.words.max = parsed.usage->args_max;
	for (uint32_t i = 0; i < OPTIONS; i++)
		if (options[i].who & parsed.usage->takes)
			takes[count++] = options[i].argp;
	struct argp argp = { .options = takes,
			     .parser = parse,
			     .args_doc = parsed.usage->args_doc,
			     .doc = parsed.usage->doc };
	request->import_mode = HAUL_MAP_IMPORT_MERGE;
	request->runs = TUNE_RUNS;
	request->top = STAT_TOP;
	if (argp_parse(&argp, argc, argv, 0, NULL, &parsed))
		exit(CLI_USAGE);
}
