#include "bpf/sys.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { KERNEL_ENOTSUPP = 524 }; /* what the kernel says for EOPNOTSUPP; no errno.h has it */

static int linux_call(struct bpf_sys *sys, int cmd, union bpf_attr *attr)
{
	(void)sys;
	long rc = syscall(SYS_bpf, cmd, attr, sizeof *attr);
	if (rc >= 0)
		return (int)rc;
	return errno == KERNEL_ENOTSUPP ? -EOPNOTSUPP : -errno;
}

static const struct bpf_sys linux_sys = { .call = linux_call };

struct bpf_sys *bpf_sys_linux(void)
{
	/* A twin has state, so callers hold a plain pointer; nobody writes through this one. */
	return (struct bpf_sys *)(uintptr_t)&linux_sys;
}

libbpf_print_fn_t bpf_quiet_begin(void)
{
	return libbpf_set_print(NULL);
}

void bpf_quiet_end(libbpf_print_fn_t printer)
{
	(void)libbpf_set_print(printer);
}
