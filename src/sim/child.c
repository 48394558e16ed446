#include "sim/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/assert.h"
#include "os/netns.h"

enum { OUTPUT_BYTES_MAX = 64 * 1024 * 1024 };

int child_start(struct child *child, int netns_fd, const char *const argv[], const char *log_path,
		struct haul_err *err)
{
	FILE *log;
	int pid;

	HAUL_ASSERT(child->pid == 0);
	*child = (struct child){ .started = false };
	if ((size_t)snprintf(child->log_path, sizeof child->log_path, "%s", log_path) >=
	    sizeof child->log_path)
		return haul_err_set(err, -ENAMETOOLONG, "%s: name is too long", log_path);
	log = fopen(log_path, "we");
	if (log == NULL)
		return haul_err_set(err, -errno, "%s: %s", log_path, haul_strerror(-errno));
	pid = netns_spawn(netns_fd, argv, fileno(log), err);
	(void)fclose(log);
	if (pid < 0)
		return pid;
	child->pid = pid;
	child->started = true;
	return 0;
}

bool child_runs(struct child *child)
{
	pid_t pid;

	if (child->pid <= 0)
		return false;
	do {
		pid = waitpid(child->pid, &child->status, WNOHANG);
	} while (pid < 0 && errno == EINTR);
	HAUL_ASSERT(pid == 0 || pid == child->pid);
	if (pid == 0)
		return true;
	child->pid = 0;
	return false;
}

void child_signal(struct child *child, int signal)
{
	if (!child_runs(child))
		return;
	/* It leads a group; if it died this instant we have not reaped it, and nobody has its
	 * id. */
	if (kill(-child->pid, signal) < 0)
		HAUL_ASSERT(errno == ESRCH);
}

void child_end(struct child *child)
{
	pid_t pid;

	child_signal(child, SIGKILL);
	if (child->pid <= 0)
		return;
	do {
		pid = waitpid(child->pid, &child->status, 0);
	} while (pid < 0 && errno == EINTR);
	HAUL_ASSERT(pid == child->pid);
	child->pid = 0;
}

bool child_succeeded(const struct child *child)
{
	return child->started && child->pid == 0 && WIFEXITED(child->status) &&
	       WEXITSTATUS(child->status) == 0;
}

/* ---- what it said ---- */

char *child_output(const struct child *child)
{
	FILE *file = fopen(child->log_path, "re");
	size_t used = 0;
	size_t room = 4096;
	char *text = file == NULL ? NULL : malloc(room);

	while (text != NULL) {
		used += fread(text + used, 1, room - used - 1, file);
		if (used < room - 1 || room > OUTPUT_BYTES_MAX)
			break;
		char *more = realloc(text, room *= 2);
		if (more == NULL)
			free(text);
		text = more;
	}
	if (text != NULL)
		text[used] = '\0';
	if (file != NULL)
		(void)fclose(file);
	return text;
}

/* The last line that is not empty. */
static void last_line(const char *output, char line[CHILD_LINE_BYTES])
{
	const char *end = output + strlen(output);
	const char *start;

	while (end > output && (end[-1] == '\n' || end[-1] == ' '))
		end--;
	start = end;
	while (start > output && start[-1] != '\n')
		start--;
	(void)snprintf(line, CHILD_LINE_BYTES, "%.*s", (int)(end - start), start);
}

void child_epitaph(const struct child *child, char *text, uint32_t text_bytes)
{
	char line[CHILD_LINE_BYTES] = "";
	char how[CHILD_LINE_BYTES];
	char *output = child_output(child);

	if (output != NULL)
		last_line(output, line);
	free(output);
	if (child->pid > 0)
		(void)snprintf(how, sizeof how, "still runs");
	else if (WIFSIGNALED(child->status))
		(void)snprintf(how, sizeof how, "killed by signal %d (%s)", WTERMSIG(child->status),
			       strsignal(WTERMSIG(child->status)));
	else
		(void)snprintf(how, sizeof how, "exit status %d", WEXITSTATUS(child->status));
	(void)snprintf(text, text_bytes, "%s%s%s", how, line[0] != '\0' ? ": " : "", line);
}
