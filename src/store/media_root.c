/* The root: four copies of a block, in two pairs. A new root goes over the pair that holds the
 * older one, one copy after the other, each durable before the next is begun. So a crash can spoil
 * one copy of the four and no more, and the newest good copy is the root, whole:
 *
 *	bad copies	newest root in		what it is
 *	0		both of a pair		as it should be
 *	0 or 1		one of a pair		cut off between the two, or in the first or second
 *	2 or more	any			damage: the newest may be among them. Refused
 *
 * Whoever opens for writing puts the bad one right before anything else. */
#include <string.h>

#include "base/assert.h"
#include "base/checksum.h"
#include "store/media_state.h"

enum { ROOT_MAGIC = 0x524c5548 /* "HULR" */, ROOT_HEAD = 64, BAD_MAX = 1 };

struct root_head {
	uint64_t check; /* XXH3 of the block behind it */
	uint32_t magic;
	uint32_t format;
	uint32_t copy;
	uint32_t bytes;
	uint64_t version;
	uint64_t segment_bytes;
	uint64_t reserved[3];
};
_Static_assert(sizeof(struct root_head) == ROOT_HEAD, "the head has no holes");
_Static_assert(ROOT_HEAD + MEDIA_ROOT_MAX <= MEDIA_ALIGN, "a root fits into a block");

enum copy_kind { COPY_GOOD, COPY_BAD, COPY_NEWER };

static uint64_t block_check(const uint8_t *block)
{
	return XXH3_64bits(block + sizeof(uint64_t), MEDIA_ALIGN - sizeof(uint64_t));
}

static enum copy_kind copy_look(const uint8_t *block, uint32_t copy, struct root_head *ret_head)
{
	struct root_head head;

	memcpy(&head, block, sizeof head);
	if (head.magic != ROOT_MAGIC || head.check != block_check(block))
		return COPY_BAD;
	if (head.format > MEDIA_VERSION)
		return COPY_NEWER;
	if (head.format != MEDIA_VERSION || head.copy != copy || head.bytes > MEDIA_ROOT_MAX ||
	    head.segment_bytes == 0 || head.segment_bytes % MEDIA_ALIGN != 0 ||
	    (head.version > 0 && (head.version - 1) % 2 != copy / 2))
		return COPY_BAD;
	*ret_head = head;
	return COPY_GOOD;
}

/* The root that is in memory, as copy `copy`. */
static int copy_write(struct media_file *media, uint32_t copy, uint64_t version)
{
	const struct media_root *root = &media->root;
	struct root_head head = {
		.magic = ROOT_MAGIC,
		.format = MEDIA_VERSION,
		.copy = copy,
		.bytes = version > 0 ? root->bytes : 0,
		.version = version,
		.segment_bytes = media->media.segment_bytes,
	};
	int rc;

	memset(root->block, 0, MEDIA_ALIGN);
	memcpy(root->block, &head, sizeof head);
	memcpy(root->block + ROOT_HEAD, root->data, head.bytes);
	head.check = block_check(root->block);
	memcpy(root->block, &head.check, sizeof head.check);
	rc = VFS_CALL(media->vfs, write, root->file, root->block, MEDIA_ALIGN,
		      (uint64_t)copy * MEDIA_ALIGN, true);
	return rc < 0 ? media_broke(media, rc) : 0;
}

/* Both copies of the pair of this version, one after the other. */
static int pair_write(struct media_file *media, uint64_t version)
{
	uint32_t first = version > 0 ? (uint32_t)((version - 1) % 2) * 2 : 0;
	int rc = copy_write(media, first, version);

	return rc < 0 ? rc : copy_write(media, first + 1, version);
}

/* ---- opening ---- */

int media_root_make(struct media_file *media, struct haul_err *err)
{
	static const char name[] = "root.new";
	int rc = VFS_CALL(media->vfs, unlink, media->vfs, name);

	if (rc == 0 || rc == -ENOENT)
		rc = VFS_CALL(media->vfs, open, media->vfs, name, VFS_CREATE, true,
			      &media->root.file);
	if (rc < 0)
		return haul_err_set(err, rc, "make the root of the store: %s", haul_strerror(rc));
	rc = VFS_CALL(media->vfs, resize, media->root.file,
		      (uint64_t)MEDIA_ROOT_COPIES * MEDIA_ALIGN);
	for (uint32_t copy = 0; rc == 0 && copy < MEDIA_ROOT_COPIES; copy++)
		rc = copy_write(media, copy, 0);
	if (rc == 0)
		rc = VFS_CALL(media->vfs, sync, media->root.file);
	if (rc == 0)
		rc = VFS_CALL(media->vfs, rename, media->vfs, name, "root");
	if (rc == 0)
		rc = VFS_CALL(media->vfs, sync_folder, media->vfs, "");
	if (rc == 0)
		return 0;
	media_root_close(media);
	return haul_err_set(err, rc, "make the root of the store: %s", haul_strerror(rc));
}

int media_root_open(struct media_file *media, struct haul_err *err)
{
	int rc = VFS_CALL(media->vfs, open, media->vfs, "root",
			  media->media.read_only ? VFS_READ : VFS_WRITE, true, &media->root.file);

	if (rc == -ENOENT)
		return haul_err_set(err, rc,
				    "not a store: there is no root in it (haul store init "
				    "makes one)");
	if (rc == -EROFS)
		return haul_err_set(err, rc, "it can only be read here: open it read-only");
	if (rc < 0)
		return haul_err_set(err, rc, "open the root of the store: %s", haul_strerror(rc));
	return 0;
}

struct root_survey {
	struct root_head newest;
	uint32_t bad, newer, unreadable;
	bool any;
	enum copy_kind kinds[MEDIA_ROOT_COPIES];
	uint64_t versions[MEDIA_ROOT_COPIES];
};

static void root_survey(struct media_file *media, struct root_survey *survey)
{
	struct media_root *root = &media->root;
	struct root_head head;

	memset(survey, 0, sizeof *survey);
	for (uint32_t copy = 0; copy < MEDIA_ROOT_COPIES; copy++) {
		int64_t got = VFS_CALL(media->vfs, read, root->file, root->block, MEDIA_ALIGN,
				       (uint64_t)copy * MEDIA_ALIGN);
		enum copy_kind kind =
			got == MEDIA_ALIGN ? copy_look(root->block, copy, &head) : COPY_BAD;

		survey->kinds[copy] = kind;
		survey->bad += kind == COPY_BAD;
		survey->newer += kind == COPY_NEWER;
		survey->unreadable += got < 0;
		if (kind != COPY_GOOD)
			continue;
		survey->versions[copy] = head.version;
		if (survey->any && head.version <= survey->newest.version)
			continue;
		survey->any = true;
		survey->newest = head;
		memcpy(root->data, root->block + ROOT_HEAD, head.bytes);
	}
}

static int root_judge(const struct root_survey *survey, struct haul_err *err)
{
	if (survey->newer > 0)
		return haul_err_set(err, HAUL_EVERSION,
				    "the store is of a newer version than %d, which is all this "
				    "program knows: use a newer haul",
				    MEDIA_VERSION);
	if (survey->bad > BAD_MAX || !survey->any)
		return haul_err_set(
			err, survey->unreadable > BAD_MAX ? -EIO : HAUL_ECORRUPT,
			"%u of 4 copies of the root are damaged (%u cannot be read), and "
			"a crash leaves one: the newest may be among them",
			survey->bad, survey->unreadable);
	return 0;
}

int media_root_load(struct media_file *media, struct haul_err *err)
{
	struct media_root *root = &media->root;
	struct root_survey survey;
	int rc = 0;

	/* What a killed process wrote has to be durable before it is relied on. */
	if (!media->media.read_only)
		rc = VFS_CALL(media->vfs, sync, root->file);
	if (rc < 0)
		return haul_err_set(err, rc, "sync the root of the store: %s", haul_strerror(rc));
	root_survey(media, &survey);
	rc = root_judge(&survey, err);
	if (rc < 0)
		return rc;
	root->version = survey.newest.version;
	root->bytes = survey.newest.bytes;
	media->media.segment_bytes = survey.newest.segment_bytes;
	if (media->media.read_only)
		return 0;
	for (uint32_t copy = 0; rc == 0 && copy < MEDIA_ROOT_COPIES; copy++) {
		bool newest = root->version > 0 && copy / 2 == (root->version - 1) % 2;

		/* The other pair is written anew with the next root: that one is not needed. */
		if (newest &&
		    (survey.kinds[copy] == COPY_BAD || survey.versions[copy] != root->version))
			rc = copy_write(media, copy, root->version);
		else if (!newest && survey.kinds[copy] == COPY_BAD)
			rc = copy_write(media, copy, 0);
	}
	return rc < 0 ? haul_err_set(err, rc, "put the root right: %s", haul_strerror(rc)) : 0;
}

void media_root_close(struct media_file *media)
{
	VFS_CALL(media->vfs, close, media->root.file);
	media->root.file = NULL;
}

/* ---- the calls ---- */

int media_root_get(struct media *base, uint64_t *ret_version, void *data, size_t *bytes)
{
	const struct media_root *root = &media_file_of(base)->root;

	if (root->version == 0)
		return -ENOENT;
	if (root->bytes > *bytes)
		return HAUL_ELIMIT;
	memcpy(data, root->data, root->bytes);
	*bytes = root->bytes;
	*ret_version = root->version;
	return 0;
}

int media_root_cas(struct media *base, uint64_t version, const void *data, size_t bytes)
{
	struct media_file *media = media_file_of(base);
	struct media_root *root = &media->root;
	int rc = media_may_write(media);

	HAUL_ASSERT(bytes <= MEDIA_ROOT_MAX);
	if (rc < 0)
		return rc;
	if (version != root->version)
		return HAUL_ESTALE;
	memcpy(root->data, data, bytes);
	root->bytes = (uint32_t)bytes;
	rc = pair_write(media, version + 1);
	if (rc < 0)
		return rc;
	root->version = version + 1;
	return 0;
}
