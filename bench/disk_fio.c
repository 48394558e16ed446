/* fio, run as a child, and the one figure of its JSON that is wanted. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "disk_work.h"

enum { ARGUMENTS = 24, ARGUMENT = 96, OUTPUT = 1 << 18, NOT_FOUND = 127 };

struct arguments {
	char text[ARGUMENTS][ARGUMENT];
	char *argv[ARGUMENTS + 1];
	uint32_t count;
};

__attribute__((format(printf, 2, 3))) static void add(struct arguments *arguments,
						      const char *format, ...)
{
	va_list list;
	if (arguments->count == ARGUMENTS)
		return;
	va_start(list, format);
	vsnprintf(arguments->text[arguments->count], ARGUMENT, format, list);
	va_end(list);
	arguments->argv[arguments->count] = arguments->text[arguments->count];
	arguments->count++;
}

/* Fixed buffers count as locked memory, of which a user other than root has little. */
static bool may_lock(uint64_t bytes)
{
	struct rlimit limit;
	return geteuid() == 0 ||
	       (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur / 2 >= bytes);
}

static void arguments_make(struct arguments *arguments, const struct disk_fio *fio)
{
	*arguments = (struct arguments){ 0 };
	add(arguments, "fio");
	add(arguments, "--name=haul");
	add(arguments, "--filename=%s", fio->path);
	add(arguments, "--rw=%s", fio->rw);
	add(arguments, "--bs=%u", fio->bytes);
	add(arguments, "--size=%llu", (unsigned long long)fio->size);
	add(arguments, "--iodepth=%u", fio->depth);
	add(arguments, "--ioengine=io_uring");
	add(arguments, "--direct=1");
	if (may_lock((uint64_t)fio->depth * fio->bytes))
		add(arguments, "--fixedbufs=1");
	add(arguments, "--registerfiles=1");
	add(arguments, "--time_based");
	add(arguments, "--runtime=%dms", (int)(fio->seconds * 1e3) + 1);
	if (fio->sync_every > 0)
		add(arguments, "--fdatasync=%llu", (unsigned long long)fio->sync_every);
	if (strcmp(fio->rw, "randread") == 0) {
		/* As cheap as it can be: no map of which blocks were read. */
		add(arguments, "--norandommap");
		add(arguments, "--random_generator=tausworthe64");
	}
	add(arguments, "--output-format=json");
}

/* Its output, all of it; returns how it ended, or -errno. */
static int child_run(struct arguments *arguments, char *output)
{
	int ends[2], status = 0;
	if (pipe(ends) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, STDIN_FILENO);
		dup2(null, STDERR_FILENO);
		dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		execvp(arguments->argv[0], arguments->argv);
		_exit(NOT_FOUND);
	}
	close(ends[1]);
	size_t bytes = 0;
	ssize_t got = 0;
	while (pid > 0 && bytes < OUTPUT - 1 &&
	       (got = read(ends[0], output + bytes, OUTPUT - 1 - bytes)) > 0)
		bytes += (size_t)got;
	output[bytes] = '\0';
	close(ends[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -ECHILD;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

int disk_fio_run(const struct disk_fio *fio, double *ret_per_s, struct haul_err *err)
{
	struct arguments arguments;
	char *output = malloc(OUTPUT);
	if (output == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	arguments_make(&arguments, fio);
	int status = child_run(&arguments, output);
	const char *start = strchr(output, '{'); /* warnings may stand before it */
	json_t *root = start != NULL ? json_loads(start, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
	const json_t *job = json_array_get(json_object_get(root, "jobs"), 0);
	const json_t *side = json_object_get(job, strcmp(fio->rw, "write") == 0 ? "write" : "read");
	double per_s = json_number_value(json_object_get(side, "iops"));
	int64_t failed = json_integer_value(json_object_get(job, "error"));
	json_decref(root);
	free(output);
	if (status == NOT_FOUND)
		return haul_err_set(err, -ENOTSUP, "there is no fio: install it");
	if (status != 0 || failed != 0 || !(per_s > 0))
		return haul_err_set(err, -EIO, "fio ended with status %d, its error %lld", status,
				    (long long)failed);
	*ret_per_s = per_s;
	return 0;
}
