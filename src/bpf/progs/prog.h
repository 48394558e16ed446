/* bpf/progs/prog.h — what every BPF program here includes first. Not for user space. */
#pragma once

#ifdef __bpf__
/* The helpers need the kernel's types before them. */
/* clang-format off */
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
/* clang-format on */
#endif
