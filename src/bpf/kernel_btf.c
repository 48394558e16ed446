/* What the kernel engine asks the running kernel's BTF: the number of a function, and where in a
 * hash map the buckets are. Some 10 ms, once a map. */
#include <bpf/btf.h>
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/kernel_state.h"

/* Bytes from the start of a struct to a member that is not within another; -ENOENT. */
static int member_at(const struct btf *btf, const char *type_name, const char *member_name)
{
	int id = btf__find_by_name_kind(btf, type_name, BTF_KIND_STRUCT);
	if (id < 0)
		return -ENOENT;
	const struct btf_type *type = btf__type_by_id(btf, (uint32_t)id);
	const struct btf_member *members = btf_members(type);
	for (uint16_t i = 0; i < btf_vlen(type); i++) {
		const char *name = btf__name_by_offset(btf, members[i].name_off);
		if (name && strcmp(name, member_name) == 0)
			return (int)(btf_member_bit_offset(type, i) / 8);
	}
	return -ENOENT;
}

/* The walk takes for granted that struct bpf_map is at the start, that a head is at the start of a
 * bucket and the next pointer at that of an entry. The last two were so from the first kernel that
 * had hash maps; the sizes and places that have changed are asked for. */
static void layout_walk(struct kernel_layout *layout, const struct btf *btf)
{
	int bucket = btf__find_by_name_kind(btf, "bucket", BTF_KIND_STRUCT);
	int buckets_at = member_at(btf, "bpf_htab", "buckets");
	int count_at = member_at(btf, "bpf_htab", "n_buckets");
	int seed_at = member_at(btf, "bpf_htab", "hashrnd");
	int key_at = member_at(btf, "htab_elem", "key");
	if (bucket < 0 || buckets_at < 0 || count_at < 0 || key_at < 0)
		return;
	bool as_known = btf__resolve_size(btf, (uint32_t)bucket) == MAP_BUCKET_BYTES &&
			member_at(btf, "bucket", "head") == 0 &&
			member_at(btf, "bpf_htab", "map") == 0 &&
			btf__find_by_name_kind(btf, "bpf_rdonly_cast", BTF_KIND_FUNC) > 0;
	if (!as_known)
		return;
	layout->buckets_at = (uint32_t)buckets_at;
	layout->bucket_count_at = (uint32_t)count_at;
	layout->key_at = (uint32_t)key_at;
	layout->seed_at = seed_at > 0 ? (uint32_t)seed_at : 0;
	layout->walkable = true;
}

const struct kernel_layout *kernel_layout_load(struct map_kernel *kernel)
{
	HAUL_ASSERT(kernel);
	struct kernel_layout *layout = &kernel->layout;
	if (layout->known)
		return layout;
	layout->known = true;
	libbpf_print_fn_t printer = bpf_quiet_begin();
	struct btf *btf = btf__load_vmlinux_btf();
	bpf_quiet_end(printer);
	if (!btf) {
		layout->error = -ENOTSUP;
		return layout;
	}
	int id = btf__find_by_name_kind(btf, "bpf_map_sum_elem_count", BTF_KIND_FUNC);
	layout->count_id = id > 0 ? id : 0;
	layout_walk(layout, btf);
	btf__free(btf);
	return layout;
}
