/* How many entries a hash map holds, from the kernel's own per-CPU counters: a program of four
 * instructions around one kernel function (6.6). No object file, no maps: it loads where the
 * others do not, and for types that they cannot walk. */
#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/kernel_state.h"

static int count_load(const struct kernel_layout *layout, int map_fd)
{
	if (layout->count_id == 0)
		return -ENOTSUP;
	struct bpf_insn program[] = {
		{ .code = BPF_LD | BPF_DW, /* BPF_IMM is 0, as BPF_LD */
		  .dst_reg = BPF_REG_1,
		  .src_reg = BPF_PSEUDO_MAP_FD,
		  .imm = map_fd },
		{ .code = 0 }, /* second half of the one above */
		{ .code = BPF_JMP | BPF_CALL,
		  .src_reg = BPF_PSEUDO_KFUNC_CALL,
		  .imm = layout->count_id },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .prog_flags = BPF_F_SLEEPABLE);
	int fd = bpf_prog_load(BPF_PROG_TYPE_SYSCALL, "map_count", "Dual MIT/GPL", program,
			       sizeof program / sizeof *program, &options);
	return fd < 0 && fd != -EPERM ? -ENOTSUP : fd;
}

int kernel_count(struct haul_map *map, uint64_t *count, struct haul_map_result *result)
{
	result->engine = HAUL_MAP_KERNEL;
	if (map->info.type == BPF_MAP_TYPE_ARRAY || map->info.type == BPF_MAP_TYPE_PERCPU_ARRAY) {
		*count = map->info.max_entries;
		return 0;
	}
	int rc = map_kernel_open(map);
	if (rc < 0)
		return rc;
	struct map_kernel *kernel = map->kernel;
	if (kernel->count_error == 0 && kernel->count_fd == 0) {
		libbpf_print_fn_t printer = bpf_quiet_begin();
		rc = count_load(kernel_layout_load(kernel), map->fd);
		bpf_quiet_end(printer);
		kernel->count_error = rc < 0 ? rc : 0;
		kernel->count_fd = rc < 0 ? 0 : rc;
	}
	if (kernel->count_error != 0)
		return kernel->count_error;
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.test.prog_fd = (uint32_t)kernel->count_fd;
	result->calls++;
	rc = map->sys->call(map->sys, BPF_PROG_TEST_RUN, &attr);
	if (rc < 0)
		return rc;
	*count = attr.test.retval; /* at most max_entries, which has 32 bits */
	return 0;
}

void kernel_count_close(struct map_kernel *kernel)
{
	HAUL_ASSERT(kernel);
	if (kernel->count_fd > 0)
		(void)close(kernel->count_fd);
	kernel->count_fd = 0;
}
