#include "overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/netns.h"
#include "tool.h"

enum { TAP_MTU_DEFAULT_BYTES = 1400, LINE_BYTES = 256, STATUS_BYTES_MAX = 1 << 18 };

int overlay_split(const struct overlay *overlay, bool split, struct haul_err *err)
{
	return tool_split(overlay->rsu_netns, overlay->obu_netns, split, err);
}

int overlay_open(struct overlay *overlay, const char *program, uint32_t wire_mtu_bytes,
		 struct haul_err *err)
{
	int r;

	*overlay = (struct overlay){ .rsu_netns = -1, .obu_netns = -1, .program = program };
	r = overlay->rsu_netns = netns_open(err);
	if (r < 0)
		return r;
	r = overlay->obu_netns = netns_open(err);
	if (r < 0)
		goto fail;
	r = netns_veth(overlay->rsu_netns, "wire0", overlay->obu_netns, "wire0", wire_mtu_bytes,
		       err);
	if (!r)
		r = netns_address(overlay->rsu_netns, "wire0", "10.50.0.1/24", err);
	if (!r)
		r = netns_address(overlay->obu_netns, "wire0", "10.50.0.2/24", err);
	if (r)
		goto fail;
	snprintf(overlay->directory, sizeof overlay->directory, "/tmp/haul-bench-XXXXXX");
	if (mkdtemp(overlay->directory))
		return 0;
	r = haul_err_set(err, -errno, "overlay: temporary directory: %s", haul_strerror(-errno));
	overlay->directory[0] = '\0';
fail:
	overlay_close(overlay);
	return r;
}

static void path_of(const struct overlay *overlay, const char *name, const char *ending,
		    char out[LINE_BYTES])
{
	snprintf(out, LINE_BYTES, "%s/%s.%s", overlay->directory, name, ending);
}

static void remove_files(const struct overlay *overlay, const char *name)
{
	char path[LINE_BYTES];

	path_of(overlay, name, "yaml", path);
	(void)unlink(path);
	path_of(overlay, name, "sock", path);
	(void)unlink(path);
}

void overlay_close(struct overlay *overlay)
{
	overlay_stop(overlay);
	if (overlay->directory[0]) {
		remove_files(overlay, "rsu");
		remove_files(overlay, "obu");
		(void)rmdir(overlay->directory);
	}
	if (overlay->rsu_netns >= 0)
		close(overlay->rsu_netns);
	if (overlay->obu_netns >= 0)
		close(overlay->obu_netns);
}

static int write_config(const struct overlay *overlay, const char *role,
			const struct overlay_nodes *nodes, struct haul_err *err)
{
	bool rsu = !strcmp(role, "rsu");
	bool individual = rsu ? nodes->rsu_individual : nodes->obu_individual;
	uint32_t mtu = nodes->tap_mtu_bytes ? nodes->tap_mtu_bytes : TAP_MTU_DEFAULT_BYTES;
	char path[LINE_BYTES];
	FILE *file;
	int r;

	path_of(overlay, role, "yaml", path);
	file = fopen(path, "we");
	if (!file)
		return haul_err_set(err, -errno, "%s: %s", path, haul_strerror(-errno));
	fprintf(file,
		"node: %s\nname: %s\n"
		"tap: {ifname: haul0, mtu: %u, address: %s/24, offloads: [%s]}\n"
		"radio: {kind: udp, local: \"10.50.0.%d:4789\", broadcast: \"10.50.0.255:4789\", "
		"offloads: [%s]}\n"
		"heartbeat: {period_ms: 100}\n"
		"batch: {individual: %s}\n"
		"control: %s/%s.sock\n",
		role, role, mtu, rsu ? OVERLAY_RSU_ADDRESS : OVERLAY_OBU_ADDRESS,
		individual ? "" : "tso, uso, csum", rsu ? 1 : 2, individual ? "" : "gso, gro",
		individual ? "true" : "false", overlay->directory, role);
	r = fclose(file) ? -errno : 0;
	return r ? haul_err_set(err, r, "%s: %s", path, haul_strerror(r)) : 0;
}

static int start_node(const struct overlay *overlay, const char *role, pid_t *ret_pid,
		      struct haul_err *err)
{
	bool rsu = !strcmp(role, "rsu");
	char path[LINE_BYTES], line[LINE_BYTES];
	const char *argv[] = { overlay->program, "node", "-c", path, NULL };
	int pipe_fd[2], pid;
	ssize_t got;

	path_of(overlay, role, "yaml", path);
	if (pipe2(pipe_fd, O_CLOEXEC))
		return haul_err_set(err, -errno, "overlay: pipe: %s", haul_strerror(-errno));
	pid = netns_spawn(rsu ? overlay->rsu_netns : overlay->obu_netns, argv, pipe_fd[1], err);
	close(pipe_fd[1]);
	if (pid < 0) {
		close(pipe_fd[0]);
		return pid;
	}
	*ret_pid = pid;
	/* Its first line says that it is ready, or what is wrong. */
	got = read(pipe_fd[0], line, sizeof line - 1);
	close(pipe_fd[0]);
	line[got > 0 ? got : 0] = '\0';
	if (!strstr(line, "ready"))
		return haul_err_set(err, -EIO, "overlay: %s: %.100s", role, line);
	return 0;
}

int overlay_start(struct overlay *overlay, const struct overlay_nodes *nodes, struct haul_err *err)
{
	/* One answer within five seconds: the route is there. */
	const char *ping[] = { "ping", "-q", "-c", "1", "-w", "5", "-i", "0.1", OVERLAY_RSU_ADDRESS,
			       NULL };
	int r;

	HAUL_ASSERT(!overlay->rsu && !overlay->obu);
	r = write_config(overlay, "rsu", nodes, err);
	if (!r)
		r = write_config(overlay, "obu", nodes, err);
	if (!r)
		r = start_node(overlay, "rsu", &overlay->rsu, err);
	if (!r)
		r = start_node(overlay, "obu", &overlay->obu, err);
	if (!r)
		r = tool_run(overlay->obu_netns, ping, err);
	if (r)
		overlay_stop(overlay);
	return r;
}

static void stop_node(pid_t *pid)
{
	if (!*pid)
		return;
	kill(*pid, SIGTERM);
	waitpid(*pid, NULL, 0);
	*pid = 0;
}

void overlay_stop(struct overlay *overlay)
{
	stop_node(&overlay->rsu);
	stop_node(&overlay->obu);
}

json_t *overlay_status(const struct overlay *overlay, const char *role)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char path[LINE_BYTES], *text = calloc(1, STATUS_BYTES_MAX);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	json_t *root = NULL;
	size_t used = 0;
	ssize_t got = 1;

	path_of(overlay, role, "sock", path);
	memcpy(address.sun_path, path, strnlen(path, sizeof address.sun_path - 1));
	if (fd >= 0 && text && !connect(fd, (struct sockaddr *)&address, sizeof address)) {
		while (got > 0 && used < STATUS_BYTES_MAX - 1) {
			got = read(fd, text + used, STATUS_BYTES_MAX - 1 - used);
			used += got > 0 ? (size_t)got : 0;
		}
		root = json_loads(text, 0, NULL);
	}
	if (fd >= 0)
		close(fd);
	free(text);
	return root;
}

static void add_blocks(const json_t *status, struct overlay_figures *figures)
{
	const json_t *block;
	size_t i;

	json_array_foreach(json_object_get(status, "stats"), i, block)
	{
		const char *name = json_string_value(json_object_get(block, "name"));

		if (!name || (strncmp(name, "tap.", 4) && strncmp(name, "radio.", 6)))
			continue;
		figures->frames += json_number_value(json_object_get(block, "ops"));
		figures->batches += json_number_value(json_object_get(block, "batches"));
		figures->syscalls += json_number_value(json_object_get(block, "syscalls"));
	}
}

int overlay_figures(const struct overlay *overlay, struct overlay_figures *ret_figures,
		    struct haul_err *err)
{
	struct overlay_figures figures = { 0 };
	json_t *rsu = overlay_status(overlay, "rsu"), *obu = overlay_status(overlay, "obu");
	int r = rsu && obu ? 0 : haul_err_set(err, -EIO, "overlay: a node gives no status");

	add_blocks(rsu, &figures);
	add_blocks(obu, &figures);
	json_decref(rsu);
	json_decref(obu);
	if (!r)
		*ret_figures = figures;
	return r;
}
