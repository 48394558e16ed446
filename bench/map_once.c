/* Work of whole programs, and what happens once: dumping by two tools, a map without entries, the
 * first use of the kernel engine. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "map_bare.h"
#include "map_work.h"
#include "os/netns.h"
#include "tool.h"

enum { FIRST_ROWS = 16, EMPTY_SCANS = 10 };

static int failed(struct haul_err *err, int rc, const char *what)
{
	return haul_err_set(err, rc, "%s: %s", what, haul_strerror(rc));
}

/* ---- two programs that dump ---- */

struct dump_command {
	char id[16];
	const char *argv[8];
};

static void bpftool_command(struct dump_command *command, const struct map_run *run)
{
	const char *const argv[] = { "bpftool", "-j", "map", "dump", "id", command->id, NULL };
	snprintf(command->id, sizeof command->id, "%u", haul_map_info(run->table->any)->id);
	memcpy(command->argv, argv, sizeof argv);
}

static void haul_command(struct dump_command *command, const struct map_run *run)
{
	const char *const argv[] = { "/proc/self/exe", "map", "dump", command->id, "--json", NULL };
	snprintf(command->id, sizeof command->id, "%u", haul_map_info(run->table->any)->id);
	memcpy(command->argv, argv, sizeof argv);
}

static int own_netns(struct haul_err *err)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? failed(err, -errno, "/proc/self/ns/net") : fd;
}

/* From start to end of the program, its output thrown away. */
static int dump_run(struct map_run *run, const struct dump_command *command, struct haul_err *err)
{
	int netns = own_netns(err);
	int rc = netns < 0 ? netns : tool_run(netns, command->argv, err);
	if (netns >= 0)
		close(netns);
	run->ops = run->table->entries;
	return rc;
}

static int dump_bpftool(struct map_run *run, struct haul_err *err)
{
	struct dump_command command;
	bpftool_command(&command, run);
	int rc = dump_run(run, &command, err);
	return rc == -ENOENT ? haul_err_set(err, -ENOTSUP, "bpftool is not installed") : rc;
}

static int dump_haul(struct map_run *run, struct haul_err *err)
{
	struct dump_command command;
	haul_command(&command, run);
	run->is_haul = true;
	return dump_run(run, &command, err);
}

/* How often a text comes in a stream that arrives in pieces. */
struct counter {
	const char *text;
	size_t at; /* characters of it that have been seen */
	uint64_t bytes, hits;
};

static void count_add(struct counter *counter, const char *data, size_t bytes)
{
	size_t length = strlen(counter->text);
	counter->bytes += bytes;
	for (size_t i = 0; i < bytes; i++) {
		if (data[i] == counter->text[counter->at])
			counter->at++;
		else
			counter->at = data[i] == counter->text[0];
		if (counter->at == length) {
			counter->hits++;
			counter->at = 0;
		}
	}
}

static int count_output(int netns, const struct dump_command *command, struct counter *counter,
			struct haul_err *err)
{
	static char data[65536];
	int ends[2], status = 0;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return failed(err, -errno, "pipe");
	int pid = netns_spawn(netns, command->argv, ends[1], err);
	close(ends[1]);
	ssize_t bytes;
	while (pid > 0 && (bytes = read(ends[0], data, sizeof data)) > 0)
		count_add(counter, data, (size_t)bytes);
	close(ends[0]);
	if (pid < 0)
		return pid;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return haul_err_set(err, -EIO, "haul map dump failed");
	return 0;
}

/* Once more, into a pipe: as many keys as entries must have come out of it. Of the foreign program
 * this is believed. */
static int dump_check(const struct map_run *run, struct haul_err *err)
{
	struct dump_command command;
	struct counter counter = { .text = "\"key\"" };
	if (!run->is_haul)
		return 0;
	int netns = own_netns(err);
	if (netns < 0)
		return netns;
	haul_command(&command, run);
	int rc = count_output(netns, &command, &counter, err);
	close(netns);
	if (rc >= 0 && counter.hits != run->table->entries)
		return haul_err_set(err, -EIO, "haul map dump: %llu entries, right is %u",
				    (unsigned long long)counter.hits, run->table->entries);
	return rc;
}

/* ---- a map without entries ---- */

static int empty_prepare(struct map_run *run, struct haul_err *err)
{
	struct map_table *table = run->table;
	if (table->empty)
		return 0;
	table->empty_fd =
		map_table_create("haul_empty", haul_map_info(table->any)->max_entries, err);
	if (table->empty_fd < 0)
		return table->empty_fd;
	return haul_map_open_fd(&table->empty, table->empty_fd, NULL, err);
}

static int empty_one(struct map_run *run, struct haul_err *err)
{
	for (unsigned i = 0; i < EMPTY_SCANS; i++) {
		struct map_bare_walk walk;
		const struct haul_flow_key *key;
		map_bare_walk_init(&walk, run->table->empty_fd);
		int rc = map_bare_walk_next(&walk, &key);
		if (rc != 0)
			return failed(err, rc < 0 ? rc : -EIO, "walk of an empty map");
		run->calls += walk.next.calls;
	}
	run->ops = EMPTY_SCANS;
	return 0;
}

static int nothing_visit(const struct haul_map_batch *batch, void *arg)
{
	struct map_run *run = arg;
	run->done += batch->count;
	return 0;
}

static int empty_any(struct map_run *run, struct haul_err *err)
{
	const struct haul_map_scan how = { .visit = nothing_visit, .arg = run };
	for (unsigned i = 0; i < EMPTY_SCANS; i++) {
		struct haul_map_report report;
		int rc = haul_map_scan(run->table->empty, &how, &report);
		if (rc < 0)
			return failed(err, rc, "scan of an empty map");
		run->calls += report.calls;
		run->engine = report.engine;
	}
	run->ops = EMPTY_SCANS;
	return 0;
}

static int empty_check(const struct map_run *run, struct haul_err *err)
{
	return run->done ? haul_err_set(err, -EIO, "entries in an empty map") : 0;
}

/* ---- the first use ---- */

static int first_prepare(struct map_run *run, struct haul_err *err)
{
	(void)err;
	run->rows = FIRST_ROWS;
	for (uint32_t i = 0; i < run->rows; i++)
		map_table_key(run->table->order[i], &run->keys[i]);
	return 0;
}

static int first_use(struct map_run *run, enum haul_map_engine engine, struct haul_err *err)
{
	const struct haul_map_options options = { .engine = engine };
	const struct haul_map_rows rows = { .count = run->rows,
					    .keys = run->keys,
					    .values = run->got };
	struct haul_map_result result;
	int rc = haul_map_open_fd(&run->fresh, run->table->fd, &options, err);
	if (rc < 0)
		return rc;
	rc = haul_map_get(run->fresh, &rows, &result);
	run->ops = 1;
	run->calls = result.calls;
	run->done = result.done;
	run->engine = result.engine;
	return rc < 0 ? failed(err, rc, "first use") : 0;
}

static int first_single(struct map_run *run, struct haul_err *err)
{
	return first_use(run, HAUL_MAP_SINGLE, err);
}

static int first_kernel(struct map_run *run, struct haul_err *err)
{
	return first_use(run, HAUL_MAP_KERNEL, err);
}

static int first_check(const struct map_run *run, struct haul_err *err)
{
	HAUL_ASSERT(run->rows == FIRST_ROWS);
	return run->done == run->rows ? 0 : haul_err_set(err, -EIO, "not all of the rows found");
}

static int first_restore(struct map_run *run, struct haul_err *err)
{
	(void)err;
	haul_map_close(run->fresh);
	run->fresh = NULL;
	return 0;
}

const struct map_work map_work_bpftool_dump = { .arm = { dump_bpftool, dump_haul },
						.check = dump_check };
const struct map_work map_work_empty_scan = { .prepare = empty_prepare,
					      .arm = { empty_one, empty_any },
					      .check = empty_check };
const struct map_work map_work_kernel_open = { .prepare = first_prepare,
					       .arm = { first_single, first_kernel },
					       .check = first_check,
					       .restore = first_restore };
