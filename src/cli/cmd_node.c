#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/cli.h"
#include "node/node.h"

enum { KEY_CHECK = 256, KEY_READY_FD, FD_MAX = 1 << 20 };

struct request {
	const char *path;
	bool check;
	int ready_fd; /* -1 = none */
};

static int parse_fd(const char *arg, struct argp_state *state)
{
	char *end;
	errno = 0;
	long fd = strtol(arg, &end, 10);
	if (errno || end == arg || *end || fd < 0 || fd > FD_MAX)
		argp_error(state, "--ready-fd '%s': wanted is the number of an open descriptor",
			   arg);
	return (int)fd;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	switch (key) {
	case 'c':
		request->path = arg;
		return 0;
	case KEY_CHECK:
		request->check = true;
		return 0;
	case KEY_READY_FD:
		request->ready_fd = parse_fd(arg, state);
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "'%s': the configuration goes behind -c", arg);
		return 0;
	case ARGP_KEY_END:
		if (request->path == NULL)
			argp_error(state, "-c FILE is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* SIGINT and SIGTERM as a descriptor, blocked in all threads made from now on. */
static int open_signals(struct haul_err *err)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	int rc = -pthread_sigmask(SIG_BLOCK, &set, NULL);
	int fd = rc < 0 ? -1 : signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return haul_err_set(err, rc < 0 ? rc : -errno, "signals: %s",
				    haul_strerror(rc < 0 ? rc : -errno));
	return fd;
}

/* A parent waits for the line on its descriptor, a person for the one on stdout. */
static void say_ready(const struct request *request, const char *name)
{
	printf("haul node: %s: ready\n", name);
	(void)fflush(stdout);
	if (request->ready_fd < 0)
		return;
	if (write(request->ready_fd, "ready\n", 6) != 6)
		fprintf(stderr, "haul: --ready-fd %d: %s\n", request->ready_fd, strerror(errno));
	(void)close(request->ready_fd);
}

static int run(const struct request *request, const struct node_config *config,
	       struct haul_err *err)
{
	struct node *node;
	int stop_fd = open_signals(err);
	if (stop_fd < 0)
		return stop_fd;
	int rc = node_open(config, &node, err);
	if (rc == 0) {
		say_ready(request, config->name);
		rc = node_run(node, stop_fd, err);
		node_close(node);
	}
	(void)close(stop_fd);
	if (rc == -EPERM || rc == -EACCES)
		fprintf(stderr, "haul: a node needs root, or CAP_NET_ADMIN and CAP_NET_RAW\n");
	return rc;
}

int cmd_node(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "config", 'c', "FILE", 0, "YAML file that describes the node", 0 },
		{ "check", KEY_CHECK, NULL, 0, "read FILE, say whether it is good, start nothing",
		  0 },
		{ "ready-fd", KEY_READY_FD, "N", 0,
		  "write \"ready\" to descriptor N once links are open", 0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "",
		.doc = "Run one OBU or RSU until SIGINT or SIGTERM.\v"
		       "Examples:\n"
		       "  haul node -c examples/node-obu.yaml --check\n"
		       "  sudo haul node -c examples/node-rsu.yaml\n",
	};
	struct request request = { .ready_fd = -1 };
	struct node_config config;
	struct haul_err err = { 0 };

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	if (config_load(request.path, &config, &err) < 0)
		return cli_fail(NULL, &err);
	if (request.check) {
		printf("haul node: %s: good\n", request.path);
		return CLI_OK;
	}
	return run(&request, &config, &err) < 0 ? cli_fail("node", &err) : CLI_OK;
}
