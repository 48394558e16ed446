#include <argp.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/group.h"
#include "cli/stop.h"

static const struct command command_list[] = {
#define X(name, help) { #name, help, cmd_##name },
	CLI_COMMAND_LIST(X)
#undef X
};

static const struct command_group commands = {
	.prefix = "haul",
	.noun = "command",
	.commands = command_list,
	.count = sizeof command_list / sizeof command_list[0],
	.args_doc = "COMMAND [ARGUMENT...]",
	.doc = "haul moves packets and the entries of kernel maps in batches instead of one at a "
	       "time.\v"
	       "Example: what does 'bench' do?\n"
	       "  haul help bench\n",
};

const struct command *command_find(const char *name)
{
	return group_find(&commands, name);
}

int command_run(const struct command *command, int argc, char **argv)
{
	return group_run_one(&commands, command, argc, argv);
}

int command_unknown(const char *name)
{
	return group_unknown(&commands, name);
}

int cli_fail(const char *what, const struct haul_err *err)
{
	if (what)
		fprintf(stderr, "haul: %s: %s\n", what, err->text);
	else
		fprintf(stderr, "haul: %s\n", err->text);
	return CLI_FAILED;
}

int cli_fail_code(const char *what, const char *which, int code)
{
	fprintf(stderr, "haul: %s: %s: %s\n", what, which,
		code == -ECANCELED && stop_asked() ? "stopped" : haul_strerror(code));
	return CLI_FAILED;
}

/* Why output was lost, first: later calls have nothing left to write. */
static int lost;

void cli_lost(int rc)
{
	if (lost == 0)
		lost = rc;
}

int cli_flush(void)
{
	struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	const int why = errno; /* 0: it was a write in between */
	if (why == EPIPE || (poll(&out, 1, 0) > 0 && (out.revents & (POLLERR | POLLHUP)) != 0))
		return -EPIPE;
	cli_lost(why != 0 ? -why : -EIO);
	return lost;
}

int cli_end_output(const char *what, int code)
{
	const int rc = cli_flush();
	return rc == 0 || rc == -EPIPE ? code : cli_fail_code(what, "standard output", rc);
}

int cli_main(int argc, char **argv)
{
	char name[] = "haul";

	argv[0] = name;
	return group_run(&commands, argc, argv);
}

/* argp ends the program by itself behind --help and --version. */
static bool returned;

static void end_help(void)
{
	if (!returned && cli_end_output("help", CLI_OK) != CLI_OK)
		_exit(CLI_FAILED);
}

int main(int argc, char **argv)
{
	int code;

	argp_program_version = "haul " HAUL_VERSION;
	argp_err_exit_status = CLI_USAGE;
	if (argc < 1) /* execve with an empty argv: there is no name to replace */
		return CLI_USAGE;
	(void)atexit(end_help);
	code = cli_main(argc, argv);
	returned = true;
	return code;
}
