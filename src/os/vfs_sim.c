/* A file is its bytes as reads see them, and a list of what of them is not durable: each write with
 * the bytes that were there before and those it put there. A sync takes a file's writes off the
 * list. A crash undoes the list from its end, which leaves what is durable, and then does again
 * what chance has kept. So damage done to the bytes from outside is damage to both. Names work the
 * same way: a list of changes of a folder that was not synced.
 *
 * Where a write becomes durable by itself, or a sync has failed, there may be older writes left on
 * the list below durable bytes: these sectors are taken out of them, by giving them the durable
 * bytes as before and after. */
#include "os/vfs_sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { CALLS = VFS_SIM_RESIZE + 1, GROW_BYTES = 65536 };

struct inode {
	struct inode *next; /* all of the disk's */
	uint8_t *data;      /* zeros behind size */
	uint64_t size, capacity;
	uint64_t size_durable;
	uint32_t users; /* open files */
	uint32_t shared, exclusive;
	bool folder;
	bool marked;
};

struct name {
	char text[VFS_NAME_MAX];
	struct inode *seen, *durable; /* NULL = not there */
};

enum change_kind { CHANGE_WRITE, CHANGE_RESIZE, CHANGE_NAME };

/* Something that is seen and not durable. */
struct change {
	struct change *next;
	enum change_kind kind;
	uint64_t step;
	bool decided; /* by a failed sync: nothing more of it reaches the disk */
	struct inode *inode;
	uint64_t offset, bytes; /* CHANGE_WRITE; CHANGE_RESIZE: what was cut off */
	uint64_t size;          /* of the file, after it */
	uint8_t *before, *after;
	/* CHANGE_NAME: one change or two, together */
	uint32_t names[2]; /* index; UINT32_MAX = none */
	struct inode *inodes[2];
};

struct fault {
	uint64_t skip, count;
	int error;
};

struct session;
struct vfs_sim {
	uint64_t bytes_max, used;
	struct inode *inodes;
	struct name *names;
	uint32_t name_count, name_capacity;
	struct change *first, **last;
	struct prng prng;
	struct session *sessions;
	uint64_t steps, left; /* until the power is cut */
	struct fault faults[CALLS];
	struct fault misdirect, lose; /* count 1 = set */
	uint64_t misdirect_delta;
	bool stopped;
};

/* One vfs over the disk; dead after a crash. */
struct session {
	struct vfs vfs; /* first */
	struct vfs_sim *sim;
	struct session *next;
	struct {
		struct inode *inode;
		bool exclusive;
	} locks[4];
	uint32_t lock_count;
	bool dead;
};

struct sim_file {
	struct vfs_file file; /* first */
	struct inode *inode;
	bool read_only;
};

static struct session *session_of(struct vfs *vfs)
{
	return (struct session *)(void *)vfs;
}

static struct sim_file *file_of(struct vfs_file *file)
{
	return (struct sim_file *)(void *)file;
}

/* What else could be done without memory, in a test? */
static void *sim_alloc(size_t bytes)
{
	void *memory = calloc(1, bytes > 0 ? bytes : 1);

	HAUL_ASSERT(memory != NULL);
	return memory;
}

static uint8_t *copy_new(const uint8_t *data, uint64_t bytes)
{
	uint8_t *copy = sim_alloc(bytes);

	memcpy(copy, data, bytes);
	return copy;
}

/* ---- files ---- */

static struct inode *inode_new(struct vfs_sim *sim, bool folder)
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

/* Files that no name leads to, nobody has open and no crash can bring back. */
static void inodes_free(struct vfs_sim *sim)
{
	struct inode **at = &sim->inodes;
	struct inode *inode;

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
		uint32_t unused = 0;

		/* Names that mean nothing any more, and that no change speaks of. */
		if (sim->first == NULL) {
			for (uint32_t i = 0; i < sim->name_count; i++)
				if (sim->names[i].seen != NULL || sim->names[i].durable != NULL)
					sim->names[unused++] = sim->names[i];
			sim->name_count = unused;
		}
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

static struct inode *name_find(const struct vfs_sim *sim, const char *text)
{
	for (uint32_t i = 0; i < sim->name_count; i++)
		if (strcmp(sim->names[i].text, text) == 0)
			return sim->names[i].seen;
	return NULL;
}

/* Whether a name is directly in a folder; *ret_rest: its last part. */
static bool name_is_in(const char *text, const char *folder, const char **ret_rest)
{
	const char *slash = strrchr(text, '/');
	size_t bytes = slash == NULL ? 0 : (size_t)(slash - text);

	*ret_rest = slash == NULL ? text : slash + 1;
	return strlen(folder) == bytes && memcmp(text, folder, bytes) == 0;
}

/* The folder a name is in. */
static bool name_has_home(const struct vfs_sim *sim, const char *text)
{
	const char *slash = strrchr(text, '/');
	char folder[VFS_NAME_MAX] = { 0 };
	const struct inode *home;

	if (slash == NULL)
		return true;
	memcpy(folder, text, (size_t)(slash - text));
	home = name_find(sim, folder);
	return home != NULL && home->folder;
}

/* ---- changes ---- */

static struct change *change_new(struct vfs_sim *sim, enum change_kind kind)
{
	struct change *change = sim_alloc(sizeof *change);

	change->kind = kind;
	change->step = sim->steps;
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

static void change_write_new(struct vfs_sim *sim, struct inode *inode, const uint8_t *data,
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

static void change_resize_new(struct vfs_sim *sim, struct inode *inode, uint64_t size)
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

static void change_name_new(struct vfs_sim *sim, const char *text, struct inode *inode,
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
		const uint8_t *durable = change->after + (from - change->offset);
		memcpy(c->before + (from - c->offset), durable, to - from);
		memcpy(c->after + (from - c->offset), durable, to - from);
	}
}

static void changes_cut(struct vfs_sim *sim, struct change **at)
{
	struct change *change = *at;

	*at = change->next;
	if (*at == NULL)
		sim->last = at;
	change_free(change);
}

/* All of it is durable. */
static void change_sync(struct vfs_sim *sim, struct change **at)
{
	const struct change *change = *at;
	struct inode *inode = change->inode;

	if (change->kind == CHANGE_RESIZE)
		inode->size_durable = change->size;
	else if (change->offset + change->bytes > inode->size_durable)
		inode->size_durable = change->offset + change->bytes;
	change_settle(sim, change, 0, change->bytes);
	changes_cut(sim, at);
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

static void changes_sync(struct vfs_sim *sim, const struct inode *inode, bool good)
{
	struct change **at = &sim->first;

	while (*at != NULL) {
		if ((*at)->kind == CHANGE_NAME || (*at)->inode != inode || (*at)->decided) {
			at = &(*at)->next;
		} else if (good) {
			change_sync(sim, at);
		} else {
			change_decide(sim, *at);
			at = &(*at)->next;
		}
	}
}

static void names_sync(struct vfs_sim *sim, const char *folder)
{
	struct change **at = &sim->first;
	const char *rest;

	while (*at != NULL) {
		const struct change *change = *at;
		bool here = false;

		for (uint32_t i = 0; i < 2; i++)
			if (change->kind == CHANGE_NAME && change->names[i] != UINT32_MAX &&
			    name_is_in(sim->names[change->names[i]].text, folder, &rest))
				here = true;
		if (!here) {
			at = &(*at)->next;
			continue;
		}
		for (uint32_t i = 0; i < 2; i++)
			if (change->names[i] != UINT32_MAX)
				sim->names[change->names[i]].durable = change->inodes[i];
		changes_cut(sim, at);
	}
}

/* ---- crashes ---- */

static void crash_keep(struct change *change, uint64_t at, uint64_t bytes)
{
	struct inode *inode = change->inode;

	if (bytes == 0)
		return;
	memcpy(inode->data + change->offset + at, change->after + at, bytes);
	if (change->offset + at + bytes > inode->size)
		inode->size = change->offset + at + bytes;
}

static void crash_whole(struct vfs_sim *sim, struct change *change)
{
	if (change->kind == CHANGE_WRITE) {
		crash_keep(change, 0, change->bytes);
	} else if (change->kind == CHANGE_RESIZE) {
		if (change->size < change->inode->size)
			memset(change->inode->data + change->size, 0,
			       change->inode->size - change->size);
		change->inode->size = change->size;
	} else {
		for (uint32_t i = 0; i < 2; i++)
			if (change->names[i] != UINT32_MAX)
				sim->names[change->names[i]].seen = change->inodes[i];
	}
}

static void crash_coins(struct change *change, struct prng *prng)
{
	for (uint64_t at = 0; at < change->bytes; at += VFS_SIM_SECTOR)
		if (prng_below(prng, 2) == 1)
			crash_keep(change, at,
				   change->bytes - at < VFS_SIM_SECTOR ? change->bytes - at
								       : VFS_SIM_SECTOR);
}

/* Sectors up to one, or from one on, and in that one bytes of nobody. */
static void crash_torn(struct change *change, struct prng *prng)
{
	uint64_t sectors = (change->bytes + VFS_SIM_SECTOR - 1) / VFS_SIM_SECTOR;
	uint64_t at = prng_below(prng, (uint32_t)sectors + 1) * (uint64_t)VFS_SIM_SECTOR;
	bool garbage = at < change->bytes && prng_below(prng, 2) == 1;
	uint64_t torn = change->bytes - at < VFS_SIM_SECTOR ? change->bytes - at : VFS_SIM_SECTOR;

	if (at > change->bytes)
		at = change->bytes;
	if (prng_below(prng, 2) == 1)
		crash_keep(change, 0, at);
	else
		crash_keep(change, at, change->bytes - at);
	if (!garbage)
		return;
	crash_keep(change, at, torn);
	for (uint64_t i = 0; i < torn; i++)
		change->inode->data[change->offset + at + i] = (uint8_t)prng_next(prng);
}

/* As it is on the disk for certain. */
static uint32_t crash_undo(struct vfs_sim *sim)
{
	uint32_t count = 0, undecided = 0;
	struct change **all;

	for (const struct change *change = sim->first; change != NULL; change = change->next)
		count++;
	all = sim_alloc(count * sizeof *all);
	count = 0;
	for (struct change *change = sim->first; change != NULL; change = change->next) {
		all[count++] = change;
		undecided += !change->decided;
	}
	while (count-- > 0)
		if (all[count]->kind != CHANGE_NAME && all[count]->bytes > 0)
			memcpy(all[count]->inode->data + all[count]->offset, all[count]->before,
			       all[count]->bytes);
	free(all);
	for (struct inode *inode = sim->inodes; inode != NULL; inode = inode->next)
		inode->size = inode->size_durable;
	for (uint32_t i = 0; i < sim->name_count; i++)
		sim->names[i].seen = sim->names[i].durable;
	return undecided;
}

/* What came out of it is what there is, durable, and nobody has anything open. */
static void crash_settle(struct vfs_sim *sim)
{
	while (sim->first != NULL)
		changes_cut(sim, &sim->first);
	sim->used = 0;
	for (struct inode *inode = sim->inodes; inode != NULL; inode = inode->next) {
		if (inode->size < inode->capacity)
			memset(inode->data + inode->size, 0, inode->capacity - inode->size);
		inode->size_durable = inode->size;
		inode->shared = inode->exclusive = 0;
		sim->used += inode->size;
	}
	for (uint32_t i = 0; i < sim->name_count; i++)
		sim->names[i].durable = sim->names[i].seen;
	for (struct session *session = sim->sessions; session != NULL; session = session->next) {
		session->dead = true;
		session->lock_count = 0;
	}
	inodes_free(sim);
}

void vfs_sim_crash(struct vfs_sim *sim, enum vfs_sim_crash how, struct prng *prng)
{
	uint32_t prefix = crash_undo(sim);

	HAUL_ASSERT(how < VFS_SIM_CRASHES);
	if (how == VFS_SIM_PREFIX)
		prefix = prng_below(prng, prefix + 1);
	for (struct change *change = sim->first; change != NULL; change = change->next) {
		if (change->decided || how == VFS_SIM_LOSE_ALL)
			continue;
		if (how == VFS_SIM_KEEP_ALL || (how == VFS_SIM_PREFIX && prefix > 0))
			crash_whole(sim, change);
		else if (how == VFS_SIM_REORDER && change->kind == CHANGE_WRITE)
			crash_coins(change, prng);
		else if (how == VFS_SIM_TORN && change->kind == CHANGE_WRITE)
			crash_torn(change, prng);
		else if (how != VFS_SIM_PREFIX && prng_below(prng, 2) == 1)
			crash_whole(sim, change);
		prefix -= prefix > 0;
	}
	crash_settle(sim);
	sim->stopped = false;
	sim->left = UINT64_MAX;
}

/* ---- calls ---- */

/* 0, or what a call says that cannot even begin. */
static int call_begin(const struct vfs *vfs)
{
	const struct session *session = (const struct session *)(const void *)vfs;

	return session->dead || session->sim->stopped ? -EIO : 0;
}

/* One step. True: the power is cut in it. */
static bool step(struct vfs_sim *sim)
{
	sim->steps++;
	if (sim->left == 0)
		sim->stopped = true;
	else if (sim->left != UINT64_MAX)
		sim->left--;
	return sim->stopped;
}

static bool countdown(struct fault *fault)
{
	if (fault->count == 0)
		return false;
	if (fault->skip > 0) {
		fault->skip--;
		return false;
	}
	fault->count--;
	return true;
}

static int fault_due(struct vfs_sim *sim, enum vfs_sim_call call)
{
	return countdown(&sim->faults[call]) ? sim->faults[call].error : 0;
}

/* A step that changes names: 0, -EIO when it was cut in it (it is seen, and may be kept). */
static int name_step(struct vfs_sim *sim, const char *text, struct inode *inode, const char *other,
		     struct inode *other_inode)
{
	bool cut = step(sim);
	int rc = fault_due(sim, VFS_SIM_NAME);

	if (rc < 0)
		return rc;
	change_name_new(sim, text, inode, other, other_inode);
	return cut ? -EIO : 0;
}

static int sim_open(struct vfs *vfs, const char *name, enum vfs_mode mode, bool direct,
		    struct vfs_file **ret_file)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	struct inode *inode = name_find(sim, name);
	struct sim_file *file;
	int rc = call_begin(vfs);

	if (rc == 0 && inode != NULL && inode->folder)
		rc = -EISDIR;
	else if (rc == 0 && mode == VFS_CREATE && inode != NULL)
		rc = -EEXIST;
	else if (rc == 0 && (mode == VFS_CREATE ? !name_has_home(sim, name) : inode == NULL))
		rc = -ENOENT;
	if (rc == 0 && mode == VFS_CREATE) {
		inode = inode_new(sim, false);
		rc = name_step(sim, name, inode, NULL, NULL);
	}
	if (rc < 0)
		return rc;
	file = sim_alloc(sizeof *file);
	*file = (struct sim_file){ .file = { .vfs = vfs, .direct = direct },
				   .inode = inode,
				   .read_only = mode == VFS_READ };
	inode->users++;
	*ret_file = &file->file;
	return 0;
}

static void sim_close(struct vfs_file *file)
{
	if (file == NULL)
		return;
	HAUL_ASSERT(file_of(file)->inode->users > 0);
	file_of(file)->inode->users--;
	free(file);
}

static int64_t sim_read(struct vfs_file *base, void *data, size_t bytes, uint64_t offset)
{
	const struct sim_file *file = file_of(base);
	const struct inode *inode = file->inode;
	int rc = call_begin(base->vfs);

	HAUL_ASSERT(!base->direct || ((uintptr_t)data | bytes | offset) % VFS_ALIGN == 0);
	if (rc == 0)
		rc = fault_due(session_of(base->vfs)->sim, VFS_SIM_READ);
	if (rc < 0)
		return rc;
	if (offset >= inode->size)
		return 0;
	if (bytes > inode->size - offset)
		bytes = inode->size - offset;
	memcpy(data, inode->data + offset, bytes);
	return (int64_t)bytes;
}

/* Where a misdirected write ends up: in the same file. */
static uint64_t misdirected(const struct vfs_sim *sim, const struct inode *inode, uint64_t offset,
			    size_t bytes)
{
	offset += sim->misdirect_delta;
	return offset + bytes <= inode->size ? offset : 0;
}

static int write_now(struct vfs_sim *sim, struct inode *inode, const uint8_t *data, size_t bytes,
		     uint64_t offset)
{
	uint64_t end = offset + bytes;

	if (end > inode->size && end - inode->size > sim->bytes_max - sim->used)
		return -ENOSPC;
	change_write_new(sim, inode, data, bytes, offset);
	return 0;
}

/* The last change, alone. */
static void sync_last(struct vfs_sim *sim)
{
	struct change **at = &sim->first;

	while ((*at)->next != NULL)
		at = &(*at)->next;
	change_sync(sim, at);
}

static int sim_write(struct vfs_file *base, const void *data, size_t bytes, uint64_t offset,
		     bool durable)
{
	struct vfs_sim *sim = session_of(base->vfs)->sim;
	struct inode *inode = file_of(base)->inode;
	int rc = call_begin(base->vfs);
	bool cut;

	HAUL_ASSERT(!base->direct || ((uintptr_t)data | bytes | offset) % VFS_ALIGN == 0);
	HAUL_ASSERT(!file_of(base)->read_only && bytes > 0);
	if (rc < 0)
		return rc;
	cut = step(sim);
	if (countdown(&sim->lose))
		return cut ? -EIO : 0;
	if (countdown(&sim->misdirect))
		offset = misdirected(sim, inode, offset, bytes);
	rc = fault_due(sim, VFS_SIM_WRITE);
	if (rc < 0) {
		size_t part = prng_below(&sim->prng, (uint32_t)(bytes / VFS_SIM_SECTOR) + 1);

		if (part > 0)
			(void)write_now(sim, inode, data, part * VFS_SIM_SECTOR, offset);
		return rc;
	}
	rc = write_now(sim, inode, data, bytes, offset);
	if (rc == 0 && cut)
		return -EIO;
	if (rc == 0 && durable) {
		rc = fault_due(sim, VFS_SIM_SYNC);
		if (rc < 0)
			changes_sync(sim, inode, false);
		else
			sync_last(sim);
	}
	return rc;
}

static int sim_sync(struct vfs_file *base)
{
	struct vfs_sim *sim = session_of(base->vfs)->sim;
	int rc = call_begin(base->vfs);

	if (rc < 0)
		return rc;
	if (step(sim))
		return -EIO;
	rc = fault_due(sim, VFS_SIM_SYNC);
	changes_sync(sim, file_of(base)->inode, rc == 0);
	return rc;
}

static int64_t sim_size(struct vfs_file *base)
{
	int rc = call_begin(base->vfs);

	return rc < 0 ? rc : (int64_t)file_of(base)->inode->size;
}

static int sim_resize(struct vfs_file *base, uint64_t bytes)
{
	struct vfs_sim *sim = session_of(base->vfs)->sim;
	struct inode *inode = file_of(base)->inode;
	int rc = call_begin(base->vfs);
	bool cut;

	HAUL_ASSERT(!file_of(base)->read_only);
	if (rc < 0)
		return rc;
	cut = step(sim);
	rc = fault_due(sim, VFS_SIM_RESIZE);
	if (rc == 0 && bytes > inode->size && bytes - inode->size > sim->bytes_max - sim->used)
		rc = -ENOSPC;
	if (rc < 0)
		return rc;
	change_resize_new(sim, inode, bytes);
	return cut ? -EIO : 0;
}

static void sim_read_many(struct vfs *vfs, struct vfs_read *reads, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		HAUL_ASSERT(reads[i].file->vfs == vfs);
		reads[i].result = (int32_t)sim_read(reads[i].file, reads[i].data, reads[i].bytes,
						    reads[i].offset);
	}
}

static int sim_rename(struct vfs *vfs, const char *from, const char *to)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	struct inode *inode = name_find(sim, from);
	int rc = call_begin(vfs);

	if (rc == 0 && (inode == NULL || !name_has_home(sim, to)))
		rc = -ENOENT;
	if (rc < 0 || strcmp(from, to) == 0)
		return rc;
	return name_step(sim, from, NULL, to, inode);
}

/* There is one tree of names here: an absolute path is one without its slash. */
static int sim_link(struct vfs *vfs, const char *name, const char *absolute_path)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	struct inode *inode = name_find(sim, name);
	int rc = call_begin(vfs);

	absolute_path += absolute_path[0] == '/';
	if (rc == 0 && (inode == NULL || !name_has_home(sim, absolute_path)))
		rc = -ENOENT;
	else if (rc == 0 && name_find(sim, absolute_path) != NULL)
		rc = -EEXIST;
	return rc < 0 ? rc : name_step(sim, absolute_path, inode, NULL, NULL);
}

static int sim_unlink(struct vfs *vfs, const char *name)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	const struct inode *inode = name_find(sim, name);
	int rc = call_begin(vfs);

	if (rc == 0 && inode == NULL)
		rc = -ENOENT;
	else if (rc == 0 && inode->folder)
		rc = -EISDIR;
	return rc < 0 ? rc : name_step(sim, name, NULL, NULL, NULL);
}

static int sim_make_folder(struct vfs *vfs, const char *name)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	int rc = call_begin(vfs);

	if (rc == 0 && name_find(sim, name) != NULL)
		rc = -EEXIST;
	else if (rc == 0 && !name_has_home(sim, name))
		rc = -ENOENT;
	return rc < 0 ? rc : name_step(sim, name, inode_new(sim, true), NULL, NULL);
}

static int folder_check(const struct vfs_sim *sim, const char *name)
{
	const struct inode *inode = name_find(sim, name);

	if (name[0] == '\0')
		return 0;
	return inode == NULL ? -ENOENT : inode->folder ? 0 : -ENOTDIR;
}

static int sim_sync_folder(struct vfs *vfs, const char *name)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	int rc = call_begin(vfs);

	if (rc == 0)
		rc = folder_check(sim, name);
	if (rc < 0)
		return rc;
	if (step(sim))
		return -EIO;
	rc = fault_due(sim, VFS_SIM_SYNC);
	if (rc == 0) {
		names_sync(sim, name);
		inodes_free(sim);
	}
	return rc;
}

static int sim_list(struct vfs *vfs, const char *name, int (*visit)(const char *name, void *arg),
		    void *arg)
{
	struct vfs_sim *sim = session_of(vfs)->sim;
	char text[VFS_NAME_MAX];
	const char *rest;
	int rc = call_begin(vfs);

	if (rc == 0)
		rc = folder_check(sim, name);
	/* What is visited may change names. */
	for (uint32_t i = 0; rc == 0 && i < sim->name_count; i++) {
		memcpy(text, sim->names[i].text, sizeof text);
		if (sim->names[i].seen != NULL && name_is_in(text, name, &rest))
			rc = visit(rest, arg);
	}
	return rc;
}

static int sim_lock(struct vfs *vfs, const char *name, bool exclusive)
{
	struct session *session = session_of(vfs);
	struct inode *inode = name_find(session->sim, name);
	int rc = call_begin(vfs);

	if (rc == 0 && inode == NULL) {
		inode = inode_new(session->sim, false);
		rc = name_step(session->sim, name, inode, NULL, NULL);
	}
	if (rc < 0)
		return rc;
	if (inode->exclusive > 0 || (exclusive && inode->shared > 0))
		return -EBUSY;
	HAUL_ASSERT(session->lock_count < sizeof session->locks / sizeof session->locks[0]);
	*(exclusive ? &inode->exclusive : &inode->shared) += 1;
	session->locks[session->lock_count].inode = inode;
	session->locks[session->lock_count++].exclusive = exclusive;
	return 0;
}

static int sim_space(struct vfs *vfs, uint64_t *ret_bytes)
{
	const struct vfs_sim *sim = session_of(vfs)->sim;
	int rc = call_begin(vfs);

	if (rc == 0)
		*ret_bytes = sim->bytes_max - sim->used;
	return rc;
}

static void sim_close_all(struct vfs *vfs)
{
	struct session *session = session_of(vfs);
	struct session **at = &session->sim->sessions;

	for (uint32_t i = 0; i < session->lock_count; i++)
		*(session->locks[i].exclusive ? &session->locks[i].inode->exclusive
					      : &session->locks[i].inode->shared) -= 1;
	while (*at != session)
		at = &(*at)->next;
	*at = session->next;
	free(session);
}

static const struct vfs_calls sim_calls = {
	.open = sim_open,
	.close = sim_close,
	.read = sim_read,
	.write = sim_write,
	.sync = sim_sync,
	.size = sim_size,
	.resize = sim_resize,
	.read_many = sim_read_many,
	.rename = sim_rename,
	.link = sim_link,
	.unlink = sim_unlink,
	.make_folder = sim_make_folder,
	.sync_folder = sim_sync_folder,
	.list = sim_list,
	.lock = sim_lock,
	.space = sim_space,
	.close_all = sim_close_all,
};

/* ---- the disk ---- */

int vfs_sim_open(struct vfs_sim **ret_sim, uint64_t bytes_max, uint64_t seed)
{
	struct vfs_sim *sim = calloc(1, sizeof *sim);

	if (sim == NULL)
		return -ENOMEM;
	sim->bytes_max = bytes_max;
	sim->last = &sim->first;
	sim->left = UINT64_MAX;
	prng_init(&sim->prng, seed);
	*ret_sim = sim;
	return 0;
}

void vfs_sim_close(struct vfs_sim *sim)
{
	struct inode *inode;

	if (sim == NULL)
		return;
	HAUL_ASSERT(sim->sessions == NULL);
	while (sim->first != NULL)
		changes_cut(sim, &sim->first);
	while ((inode = sim->inodes) != NULL) {
		sim->inodes = inode->next;
		free(inode->data);
		free(inode);
	}
	free(sim->names);
	free(sim);
}

struct vfs *vfs_sim_vfs(struct vfs_sim *sim)
{
	struct session *session = sim_alloc(sizeof *session);

	session->vfs.calls = &sim_calls;
	session->sim = sim;
	session->next = sim->sessions;
	sim->sessions = session;
	return &session->vfs;
}

void vfs_sim_stop_after(struct vfs_sim *sim, uint64_t steps)
{
	sim->left = steps;
}

bool vfs_sim_stopped(const struct vfs_sim *sim)
{
	return sim->stopped;
}

uint64_t vfs_sim_steps(const struct vfs_sim *sim)
{
	return sim->steps;
}

void vfs_sim_fail(struct vfs_sim *sim, enum vfs_sim_call call, uint64_t skip, uint64_t count,
		  int error)
{
	HAUL_ASSERT(error < 0);
	sim->faults[call] = (struct fault){ .skip = skip, .count = count, .error = error };
}

void vfs_sim_misdirect(struct vfs_sim *sim, uint64_t skip, uint64_t offset_delta)
{
	sim->misdirect = (struct fault){ .skip = skip, .count = 1 };
	sim->misdirect_delta = offset_delta;
}

void vfs_sim_lose(struct vfs_sim *sim, uint64_t skip)
{
	sim->lose = (struct fault){ .skip = skip, .count = 1 };
}

uint8_t *vfs_sim_bytes(struct vfs_sim *sim, const char *name, uint64_t *ret_bytes)
{
	struct inode *inode = name_find(sim, name);

	if (inode == NULL || inode->folder)
		return NULL;
	*ret_bytes = inode->size;
	return inode->data;
}
