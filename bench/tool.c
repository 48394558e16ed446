#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/netns.h"

int tool_run(int netns, const char *const argv[], struct haul_err *err)
{
	int status, quiet = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int pid = netns_spawn(netns, argv, quiet, err);
	if (quiet >= 0)
		close(quiet);
	if (pid < 0)
		return pid;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return haul_err_set(err, -EIO, "%s failed", argv[0]);
	return 0;
}

/* A veth runs GRO only for a sender without any TSO (or else it would be undoing work for nothing),
 * so splitting turns off both kinds of segmentation. */
static int split_one(int netns, bool split, struct haul_err *err)
{
	const char *segment = split ? "off" : "on", *gro = split ? "on" : "off";
	const char *argv[] = { "ethtool", "-K",  "wire0", "tx-udp-segmentation",
			       segment,   "tso", segment, "gro",
			       gro,       NULL };
	return tool_run(netns, argv, err);
}

int tool_split(int near_netns, int far_netns, bool split, struct haul_err *err)
{
	int rc = split_one(near_netns, split, err);
	return rc < 0 ? rc : split_one(far_netns, split, err);
}
