/* bpf/progs/map.bpf.c — the kernel engine's program; see bpf/kernel.h. */
#include "bpf/progs/prog.h"
SEC("syscall")
int map_run(void *ctx)
{
	(void)ctx;
	return 0;
}

char map_license[] SEC("license") = "Dual MIT/GPL";
