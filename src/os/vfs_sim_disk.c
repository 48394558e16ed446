/* A file is its bytes as reads see them, and a list of what of them is not durable: each write with
 * the bytes that were there before and those it put there. A sync takes a file's writes off the
 * list. A crash undoes the list from its end, which leaves what is durable, and then does again
 * what chance has kept. So damage done to the bytes from outside is damage to both. Names work the
 * same way: a list of changes of a folder that was not synced.
 *
 * Where a write becomes durable by itself, or a sync has failed, there may be older writes left on
 * the list below durable bytes: these sectors are taken out of them, by giving them the durable
 * bytes as before and after. */
#include "os/vfs_sim_state.h"

enum { GROW_BYTES = 65536 };

static uint8_t *copy_new(const uint8_t *data, uint64_t bytes)
{
	uint8_t *copy = sim_alloc(bytes);

	memcpy(copy, data, bytes);
	return copy;
}

/* ---- files ---- */

struct inode *sim_inode_new(struct vfs_sim *sim, bool folder)
{
	struct inode *inode = sim_alloc(sizeof *inode);

	inode->folder = folder;
	inode->next = sim->inodes;
	sim->inodes = inode;
	return inode;
}

static void inode_fit_alloc(struct inode *inode, uint64_t bytes)
{
	uint64_t capacity = (bytes + GROW_BYTES - 1) / GROW_BYTES * GROW_BYTES;
	uint8_t *data;

	if (bytes <= inode->capacity)
		return;
	if (capacity < 2 * inode->capacity)
		capacity = 2 * inode->capacity;
	data = realloc(inode->data, capacity);
	HAUL_ASSERT(data != NULL);
	memset(data + inode->capacity, 0, capacity - inode->capacity);
	inode->data = data;
	inode->capacity = capacity;
}

/* Zeros behind the end, always. */
static void inode_size(struct vfs_sim *sim, struct inode *inode, uint64_t size)
{
	inode_fit_alloc(inode, size);
	if (size < inode->size)
		memset(inode->data + size, 0, inode->size - size);
	sim->used += size - inode->size;
	inode->size = size;
}

/* Names that mean nothing any more: only while no change speaks of a name by its index. */
static void names_free(struct vfs_sim *sim)
{
	uint32_t used = 0;

	if (sim->first != NULL)
		return;
	for (uint32_t i = 0; i < sim->name_count; i++)
		if (sim->names[i].seen != NULL || sim->names[i].durable != NULL)
			sim->names[used++] = sim->names[i];
	sim->name_count = used;
}

/* Files that no name leads to, nobody has open and no crash can bring back. */
void sim_inodes_free(struct vfs_sim *sim)
{
	struct inode **at = &sim->inodes;
	struct inode *inode;

	names_free(sim);
	for (inode = sim->inodes; inode != NULL; inode = inode->next)
		inode->marked = inode->users > 0 || inode->shared + inode->exclusive > 0;
	for (uint32_t i = 0; i < sim->name_count; i++) {
		if (sim->names[i].seen != NULL)
			sim->names[i].seen->marked = true;
		if (sim->names[i].durable != NULL)
			sim->names[i].durable->marked = true;
	}
	for (const struct change *change = sim->first; change != NULL; change = change->next)
		for (uint32_t i = 0; i < 2; i++) {
			if (change->kind == CHANGE_NAME && change->inodes[i] != NULL)
				change->inodes[i]->marked = true;
			if (change->inode != NULL)
				change->inode->marked = true;
		}
	while ((inode = *at) != NULL) {
		if (inode->marked) {
			at = &inode->next;
			continue;
		}
		*at = inode->next;
		sim->used -= inode->size;
		free(inode->data);
		free(inode);
	}
}

/* ---- names ---- */

static uint32_t name_take(struct vfs_sim *sim, const char *text)
{
	struct name *names;

	for (uint32_t i = 0; i < sim->name_count; i++)
		if (strcmp(sim->names[i].text, text) == 0)
			return i;
	if (sim->name_count == sim->name_capacity) {
		sim->name_capacity = 2 * sim->name_count + 64;
		names = realloc(sim->names, sim->name_capacity * sizeof *names);
		HAUL_ASSERT(names != NULL);
		sim->names = names;
	}
	HAUL_ASSERT(strlen(text) < VFS_NAME_MAX);
	memset(&sim->names[sim->name_count], 0, sizeof *sim->names);
	memcpy(sim->names[sim->name_count].text, text, strlen(text));
	return sim->name_count++;
}

struct inode *sim_name_find(const struct vfs_sim *sim, const char *text)
{
	for (uint32_t i = 0; i < sim->name_count; i++)
		if (strcmp(sim->names[i].text, text) == 0)
			return sim->names[i].seen;
	return NULL;
}

/* Whether a name is directly in a folder; *ret_rest: its last part. */
bool sim_name_is_in(const char *text, const char *folder, const char **ret_rest)
{
	const char *slash = strrchr(text, '/');
	size_t bytes = slash == NULL ? 0 : (size_t)(slash - text);

	*ret_rest = slash == NULL ? text : slash + 1;
	return strlen(folder) == bytes && memcmp(text, folder, bytes) == 0;
}

/* The folder a name is in. */
bool sim_name_has_home(const struct vfs_sim *sim, const char *text)
{
	const char *slash = strrchr(text, '/');
	char folder[VFS_NAME_MAX] = { 0 };
	const struct inode *home;

	if (slash == NULL)
		return true;
	memcpy(folder, text, (size_t)(slash - text));
	home = sim_name_find(sim, folder);
	return home != NULL && home->folder;
}

/* ---- changes ---- */

static struct change *change_new(struct vfs_sim *sim, enum change_kind kind)
{
	struct change *change = sim_alloc(sizeof *change);

	change->kind = kind;
	change->names[0] = change->names[1] = UINT32_MAX;
	*sim->last = change;
	sim->last = &change->next;
	return change;
}

static void change_free(struct change *change)
{
	free(change->before);
	free(change->after);
	free(change);
}

void sim_change_write_new(struct vfs_sim *sim, struct inode *inode, const uint8_t *data,
			  uint64_t bytes, uint64_t offset)
{
	struct change *change = change_new(sim, CHANGE_WRITE);

	inode_fit_alloc(inode, offset + bytes);
	change->inode = inode;
	change->offset = offset;
	change->bytes = bytes;
	change->before = copy_new(inode->data + offset, bytes);
	change->after = copy_new(data, bytes);
	if (offset + bytes > inode->size)
		inode_size(sim, inode, offset + bytes);
	change->size = inode->size;
	memcpy(inode->data + offset, data, bytes);
}

void sim_change_resize_new(struct vfs_sim *sim, struct inode *inode, uint64_t size)
{
	struct change *change = change_new(sim, CHANGE_RESIZE);

	change->inode = inode;
	change->size = size;
	if (size < inode->size) {
		change->offset = size;
		change->bytes = inode->size - size;
		change->before = copy_new(inode->data + size, change->bytes);
		change->after = sim_alloc(change->bytes);
	}
	inode_size(sim, inode, size);
}

void sim_change_name_new(struct vfs_sim *sim, const char *text, struct inode *inode,
			 const char *other, struct inode *other_inode)
{
	struct change *change = change_new(sim, CHANGE_NAME);
	uint32_t index = name_take(sim, text);

	sim->names[index].seen = inode;
	change->names[0] = index;
	change->inodes[0] = inode;
	if (other == NULL)
		return;
	index = name_take(sim, other);
	sim->names[index].seen = other_inode;
	change->names[1] = index;
	change->inodes[1] = other_inode;
}

/* These bytes of a change, from its `at`, are durable now: what is older and still on the list no
 * longer has a say there. */
static void change_settle(struct vfs_sim *sim, const struct change *change, uint64_t at,
			  uint64_t bytes)
{
	const uint64_t begin = change->offset + at;

	for (struct change *c = sim->first; c != change; c = c->next) {
		uint64_t from = c->offset > begin ? c->offset : begin;
		uint64_t to =
			c->offset + c->bytes < begin + bytes ? c->offset + c->bytes : begin + bytes;

		if (c->kind == CHANGE_NAME || c->inode != change->inode || from >= to)
			continue;
		c->covered = true;
		const uint8_t *durable = change->after + (from - change->offset);
		memcpy(c->before + (from - c->offset), durable, to - from);
		memcpy(c->after + (from - c->offset), durable, to - from);
	}
}

void sim_changes_cut(struct vfs_sim *sim, struct change **at)
{
	struct change *change = *at;

	*at = change->next;
	if (*at == NULL)
		sim->last = at;
	change_free(change);
}

/* All of it is durable. */
void sim_change_sync(struct vfs_sim *sim, struct change **at)
{
	const struct change *change = *at;
	struct inode *inode = change->inode;

	if (change->kind == CHANGE_RESIZE)
		inode->size_durable = change->size;
	else if (change->offset + change->bytes > inode->size_durable)
		inode->size_durable = change->offset + change->bytes;
	change_settle(sim, change, 0, change->bytes);
	sim_changes_cut(sim, at);
}

/* A sync failed: chance says now, once, what of it was written; the rest never will be. */
static void change_decide(struct vfs_sim *sim, struct change *change)
{
	for (uint64_t at = 0; at < change->bytes; at += VFS_SIM_SECTOR) {
		uint64_t bytes =
			change->bytes - at < VFS_SIM_SECTOR ? change->bytes - at : VFS_SIM_SECTOR;

		if (prng_below(&sim->prng, 2) == 0)
			continue;
		change_settle(sim, change, at, bytes);
		memcpy(change->before + at, change->after + at, bytes);
		if (change->kind == CHANGE_WRITE &&
		    change->offset + at + bytes > change->inode->size_durable)
			change->inode->size_durable = change->offset + at + bytes;
	}
	change->decided = true;
}

void sim_changes_sync(struct vfs_sim *sim, const struct inode *inode, bool good)
{
	struct change **at = &sim->first;

	while (*at != NULL) {
		if ((*at)->kind == CHANGE_NAME || (*at)->inode != inode || (*at)->decided) {
			at = &(*at)->next;
		} else if (good) {
			sim_change_sync(sim, at);
		} else {
			change_decide(sim, *at);
			at = &(*at)->next;
		}
	}
}

void sim_names_sync(struct vfs_sim *sim, const char *folder)
{
	struct change **at = &sim->first;
	const char *rest;

	while (*at != NULL) {
		const struct change *change = *at;
		bool here = false;

		for (uint32_t i = 0; i < 2; i++)
			if (change->kind == CHANGE_NAME && change->names[i] != UINT32_MAX &&
			    sim_name_is_in(sim->names[change->names[i]].text, folder, &rest))
				here = true;
		if (!here) {
			at = &(*at)->next;
			continue;
		}
		for (uint32_t i = 0; i < 2; i++)
			if (change->names[i] != UINT32_MAX)
				sim->names[change->names[i]].durable = change->inodes[i];
		sim_changes_cut(sim, at);
	}
}
