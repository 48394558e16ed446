/* haul cache serve against memcached with extstore: two processes of this bench's own, on loopback
 * ports, with the same memory, threads and client, and values that lie on the disk.
 *
 * Cold       memcached reads through the page cache, which would hold all of it: before each run of
 *            it, what it has cached is dropped. Asked for is only the half stored first, what
 *            memcached still has of it, in one shuffled order that goes round and round: a value
 *            comes again when much more than the servers' memory has been read in between. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "disk_client.h"
#include "disk_work.h"

enum {
	THREADS = 2,
	PIPELINED = 64,
	GET_CONNECTIONS = 32,
	MGET_CONNECTIONS = 8,
	MGET_KEYS = 100,
	START_SECONDS = 20,
	END_TRIES = 500, /* of 10 ms */
	ARGUMENT = 256,
};

/* So slow that extstore's writer keeps up: 64 sets and a pause make 60 MB/s at most. */
static const int64_t MEMCACHED_PAUSE_NS = 4 * NS_PER_MS;

/* MEMCACHED is as it comes, with one thread for its disk; MEMCACHED_TWO has as many as haul. */
enum which { HAUL, MEMCACHED, MEMCACHED_TWO, SERVERS };

struct one_server {
	pid_t pid; /* 0 = none */
	uint16_t port;
	struct disk_file file;
};

struct disk_server {
	struct one_server one[SERVERS];
	uint32_t *numbers; /* cold keys that both have, shuffled */
	uint32_t number_count;
	uint32_t place[SERVERS];
};

/* ---- processes ---- */

/* One that was free a moment ago. */
static int free_port(uint16_t *ret_port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t bytes = sizeof address;
	int error = 0, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &bytes) < 0)
		error = -errno;
	close(fd);
	*ret_port = ntohs(address.sin_port);
	return error;
}

static int spawn(char *const argv[], pid_t *ret_pid)
{
	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execvp(argv[0], argv);
		_exit(127);
	}
	*ret_pid = pid;
	return 0;
}

static void server_stop(struct one_server *server)
{
	const struct timespec pause = { .tv_nsec = 10 * NS_PER_MS };
	if (server->pid > 0) {
		kill(server->pid, SIGTERM);
		pid_t ended = 0;
		for (uint32_t i = 0; i < END_TRIES && ended == 0; i++) {
			ended = waitpid(server->pid, NULL, WNOHANG);
			if (ended == 0)
				nanosleep(&pause, NULL);
		}
		if (ended == 0) {
			kill(server->pid, SIGKILL);
			waitpid(server->pid, NULL, 0);
		}
	}
	server->pid = 0;
	disk_file_close(&server->file);
}

static bool has_memcached(void)
{
	char *const argv[] = { (char[]){ "memcached" }, (char[]){ "-V" }, NULL };
	pid_t pid;
	int status = 1;
	return spawn(argv, &pid) == 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int haul_start(struct disk_bench *bench, struct one_server *server, struct haul_err *err)
{
	const struct haul_cache_format format = { .bytes = bench->sizes.serve_bytes,
						  .partitions = THREADS };
	char program[4096], address[32], threads[8], ram[16];
	int error = haul_cache_format(server->file.path, &format, err);
	if (error < 0)
		return error;
	snprintf(program, sizeof program, "%s", bench->haul);
	snprintf(address, sizeof address, "127.0.0.1:%u", server->port);
	snprintf(threads, sizeof threads, "%d", THREADS);
	/* A quarter for values, a quarter for writes; the half that is left are read buffers. */
	snprintf(ram, sizeof ram, "%uM", bench->sizes.serve_ram_mib / 4);
	char *const argv[] = { program,
			       (char[]){ "cache" },
			       (char[]){ "serve" },
			       server->file.path,
			       (char[]){ "--listen" },
			       address,
			       (char[]){ "--threads" },
			       threads,
			       (char[]){ "--memory" },
			       ram,
			       (char[]){ "--buffer" },
			       ram,
			       NULL };
	return spawn(argv, &server->pid);
}

static int memcached_start(struct disk_bench *bench, struct one_server *server, uint32_t io_threads)
{
	char port[8], memory[16], threads[8], extstore[ARGUMENT];
	snprintf(port, sizeof port, "%u", server->port);
	snprintf(memory, sizeof memory, "%u", bench->sizes.serve_ram_mib);
	snprintf(threads, sizeof threads, "%d", THREADS);
	snprintf(extstore, sizeof extstore,
		 "ext_path=%s:%lluM,ext_threads=%u,ext_item_size=512,ext_item_age=0",
		 server->file.path, (unsigned long long)(bench->sizes.serve_bytes >> 20),
		 io_threads);
	char *const argv[] = { (char[]){ "memcached" },
			       (char[]){ "-u" },
			       (char[]){ "root" },
			       (char[]){ "-l" },
			       (char[]){ "127.0.0.1" },
			       (char[]){ "-p" },
			       port,
			       (char[]){ "-m" },
			       memory,
			       (char[]){ "-t" },
			       threads,
			       (char[]){ "-o" },
			       extstore,
			       NULL };
	return spawn(argv, &server->pid);
}

static int server_start(struct disk_bench *bench, enum which which, struct one_server *server,
			struct haul_err *err)
{
	*server = (struct one_server){ .file.fd = -1 };
	int error = disk_file_open(bench, &server->file, bench->sizes.serve_bytes, err);
	if (error < 0)
		return error;
	error = free_port(&server->port);
	if (error < 0)
		return haul_err_set(err, error, "find a port: %s", haul_strerror(error));
	error = which == HAUL ? haul_start(bench, server, err)
			      : memcached_start(bench, server, which == MEMCACHED ? 1 : THREADS);
	if (error < 0)
		return error;
	error = disk_client_wait(server->port, START_SECONDS, err);
	return error < 0 ? haul_err_wrap(err, error, "%s",
					 which == HAUL ? "haul cache serve" : "memcached")
			 : 0;
}

/* ---- what is asked for ---- */

static int there_of(const struct one_server *server, uint32_t entries, bool *there,
		    struct haul_err *err)
{
	uint32_t *all = calloc(entries, sizeof *all);
	if (all == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < entries; i++)
		all[i] = i;
	struct disk_gets gets = { .port = server->port,
				  .numbers = all,
				  .number_count = entries,
				  .per_request = MGET_KEYS,
				  .connections = 1,
				  .there = there };
	int error = disk_client_gets(&gets, err);
	free(all);
	return error;
}

static int numbers_make(struct disk_bench *bench, struct haul_err *err)
{
	struct disk_server *servers = bench->servers;
	uint32_t entries = bench->sizes.serve_entries;
	bool *there[SERVERS];
	int error = 0;
	for (uint32_t i = 0; i < SERVERS; i++) {
		there[i] = calloc(entries, sizeof *there[i]);
		if (there[i] == NULL)
			error = haul_err_set(err, -ENOMEM, "no memory");
		if (error == 0)
			error = there_of(&servers->one[i], entries, there[i], err);
	}
	for (uint32_t i = 0; i < entries / 2 && error == 0; i++)
		if (there[HAUL][i] && there[MEMCACHED][i] && there[MEMCACHED_TWO][i])
			servers->numbers[servers->number_count++] = i;
	for (uint32_t i = 0; i < SERVERS; i++)
		free(there[i]);
	for (uint32_t i = servers->number_count; i > 1; i--) {
		uint32_t other = prng_below(&bench->prng, i), kept = servers->numbers[i - 1];
		servers->numbers[i - 1] = servers->numbers[other];
		servers->numbers[other] = kept;
	}
	if (error == 0 && servers->number_count < entries / 8)
		return haul_err_set(err, -EIO, "only %u of %u values are on both servers",
				    servers->number_count, entries / 2);
	return error;
}

static int server_fill(struct disk_bench *bench, const struct one_server *server, int64_t pause_ns,
		       uint32_t *ret_stored, struct haul_err *err)
{
	const struct disk_sets sets = {
		.port = server->port,
		.value = bench->value,
		.count = bench->sizes.serve_entries,
		.pipelined = PIPELINED,
		.pause_ns = pause_ns,
	};
	return disk_client_sets(&sets, ret_stored, err);
}

int disk_serve_fill(struct disk_bench *bench, struct haul_err *err)
{
	if (!has_memcached())
		return haul_err_set(err, -ENOTSUP, "there is no memcached: install it");
	bench->servers = calloc(1, sizeof *bench->servers);
	if (bench->servers == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	struct disk_server *servers = bench->servers;
	for (uint32_t i = 0; i < SERVERS; i++)
		servers->one[i].file.fd = -1;
	servers->numbers = calloc(bench->sizes.serve_entries, sizeof *servers->numbers);
	if (servers->numbers == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	uint32_t stored;
	int error = 0;
	for (uint32_t i = 0; i < SERVERS && error == 0; i++) {
		error = server_start(bench, i, &servers->one[i], err);
		if (error == 0)
			error = server_fill(bench, &servers->one[i],
					    i == HAUL ? 0 : MEMCACHED_PAUSE_NS, &stored, err);
	}
	return error == 0 ? numbers_make(bench, err) : error;
}

void disk_serve_end(struct disk_bench *bench)
{
	struct disk_server *servers = bench->servers;
	if (servers == NULL)
		return;
	for (uint32_t i = 0; i < SERVERS; i++)
		server_stop(&servers->one[i]);
	free(servers->numbers);
	free(servers);
	bench->servers = NULL;
}

/* ---- cases ---- */

int disk_serve_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		   struct bench_sample *ret_sample, struct haul_err *err)
{
	struct disk_bench *bench = ctx;
	uint32_t keys = (uint32_t)(self->parameter >> 1);
	enum which peer = self->parameter & 1 ? MEMCACHED_TWO : MEMCACHED;
	enum which which = arm == BENCH_BATCHED ? HAUL : peer;
	int error = disk_bench_enter(bench, DISK_SERVE, err);
	if (error < 0)
		return error;
	struct disk_server *servers = bench->servers;
	struct one_server *server = &servers->one[which];
	fdatasync(server->file.fd);
	(void)posix_fadvise(server->file.fd, 0, 0, POSIX_FADV_DONTNEED);
	struct disk_gets gets = {
		.port = server->port,
		.numbers = servers->numbers,
		.number_count = servers->number_count,
		.place = servers->place[which],
		.per_request = keys,
		.connections = keys > 1 ? MGET_CONNECTIONS : GET_CONNECTIONS,
		.seconds = seconds,
	};
	error = disk_client_gets(&gets, err);
	if (error < 0)
		return haul_err_wrap(err, error, "%s", which == HAUL ? "haul" : "memcached");
	servers->place[which] = gets.place % servers->number_count;
	ret_sample->value = (double)gets.answered / gets.took;
	snprintf(ret_sample->note, sizeof ret_sample->note,
		 "%.1f %% hits, %u connections, %u cold keys",
		 100.0 * (double)gets.answered / (double)gets.asked, gets.connections,
		 servers->number_count);
	return 0;
}

/* ---- the ledger ---- */

static int ledger_row(struct disk_bench *bench, enum which which, json_t *rows,
		      struct haul_err *err)
{
	struct one_server server = { .file.fd = -1 };
	uint32_t stored = 0, found = 0, entries = bench->sizes.serve_entries;
	bool *there = calloc(entries, sizeof *there);
	int error = there != NULL ? server_start(bench, which, &server, err) : -ENOMEM;
	if (error == 0)
		error = server_fill(bench, &server, 0, &stored, err);
	if (error == 0)
		error = there_of(&server, entries, there, err);
	server_stop(&server);
	for (uint32_t i = 0; i < entries && error == 0; i++)
		found += there[i];
	free(there);
	if (error < 0)
		return error;
	double share = stored > 0 ? 100.0 * found / stored : 0;
	json_t *row = json_pack("[s, i, i, f]", which == HAUL ? "haul" : "memcached extstore",
				(int)stored, (int)found, share);
	return json_array_append_new(rows, row) < 0 ? -ENOMEM : 0;
}

int disk_serve_tables(void *ctx, json_t *tables, struct haul_err *err)
{
	struct disk_bench *bench = ctx;
	if (!has_memcached())
		return 0;
	/* What the cases had is given back first: two files at a time would be too much. */
	int error = disk_bench_enter(bench, DISK_NONE, err);
	json_t *rows = json_array();
	for (uint32_t i = HAUL; i <= MEMCACHED && error == 0; i++)
		error = ledger_row(bench, i, rows, err);
	if (error < 0) {
		json_decref(rows);
		return error;
	}
	json_t *table =
		json_pack("{s: s, s: s, s: [s, s, s, s], s: o}", "table", "stored_is_there", "what",
			  "4 KiB values stored as fast as the server takes them, each "
			  "answered STORED, and how many of them are there right after.",
			  "columns", "server", "stored", "there", "percent", "rows", rows);
	return json_array_append_new(tables, table) < 0 ? -ENOMEM : 0;
}
