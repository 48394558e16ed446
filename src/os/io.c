#include "os/io.h"

#include <errno.h>

#include "base/assert.h"
#include "os/io_state.h"

enum { DEPTH_DEFAULT = 256, THREADS_DEFAULT = 8, THREADS_MAX = 256 };

static int options_check(const struct io_options *options, struct haul_err *err)
{
	if (options->depth > IO_DEPTH_MAX)
		return haul_err_set(err, -EINVAL, "depth %u: at most %d operations at a time",
				    options->depth, IO_DEPTH_MAX);
	if (options->threads > THREADS_MAX)
		return haul_err_set(err, -EINVAL, "%u I/O threads: at most %d", options->threads,
				    THREADS_MAX);
	if (options->sync_add_ns < 0)
		return haul_err_set(err, -EINVAL, "a sync cannot take less than no time longer");
	return 0;
}

int io_open(struct io **ret_io, const struct file *file, const struct io_options *options,
	    struct haul_err *err)
{
	struct io_options full = *options;
	struct io *io = NULL;
	int rc = options_check(options, err);

	HAUL_ASSERT(file->fd >= 0);
	if (rc < 0)
		return rc;
	if (full.depth == 0)
		full.depth = DEPTH_DEFAULT;
	if (full.threads == 0)
		full.threads = THREADS_DEFAULT;
	if (full.engine != IO_THREADS)
		rc = io_open_uring(&io, file, &full);
	if (full.engine == IO_THREADS || (full.engine == IO_AUTO && rc < 0))
		rc = io_open_threads(&io, file, &full);
	if (rc == -EPERM || rc == -ENOSYS)
		return haul_err_set(err, rc,
				    "io_uring is not to be had here (%s): use the engine "
				    "\"threads\"",
				    haul_strerror(rc));
	if (rc < 0)
		return haul_err_set(err, rc, "set up %u I/O operations at a time: %s", full.depth,
				    haul_strerror(rc));
	HAUL_ASSERT(io != NULL && io->engine != IO_AUTO);
	*ret_io = io;
	return 0;
}

void io_close(struct io *io)
{
	if (io != NULL)
		io->calls->close(io);
}

const char *io_engine_name(enum io_engine engine)
{
	switch (engine) {
#define X(id, name)                                                                                \
	case id:                                                                                   \
		return name;
		IO_ENGINE_LIST(X)
#undef X
	}
	return "?";
}
