#include "os/loop_lab.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* A device over the file; it is freed when the descriptor is closed. -1 = there are none here. */
static int loop_attach(const char *path, int flags, char *ret_name, size_t max)
{
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (control < 0)
		return -1;
	if (flags & LOOP_READ_ONLY)
		config.info.lo_flags |= LO_FLAGS_READ_ONLY;
	config.fd = (uint32_t)open(path, (flags & LOOP_READ_ONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	assert_true((int)config.fd >= 0);
	/* Another process may take the one that was found free. */
	for (uint32_t tries = 0; fd < 0 && tries < 32; tries++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		if (number < 0)
			break;
		snprintf(ret_name, max, "/dev/loop%d", number);
		fd = open(ret_name, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0) {
			close(fd);
			fd = -1;
		}
	}
	close((int)config.fd);
	close(control);
	return fd;
}

static void sparse_file(const char *path, uint64_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	close(fd);
}

static void make_fs(const char *device)
{
	char name[] = "mkfs.ext4", quiet[] = "-qF", options[] = "-O^has_journal", small[] = "-m0";
	char path[32];
	char *argv[] = { name, quiet, small, options, path, NULL };
	int status = 1;
	pid_t pid;

	snprintf(path, sizeof path, "%s", device);
	if (posix_spawnp(&pid, name, NULL, NULL, argv, environ) != 0)
		test_skip("needs mkfs.ext4");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

void loop_lab_open(struct loop_lab *lab, uint64_t fs_bytes, uint64_t bytes, int flags)
{
	const char *folder = getenv("TMPDIR");
	char image[192];

	memset(lab, 0, sizeof *lab);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		test_skip("needs root, to mount file systems and make loop devices");
	snprintf(lab->folder, sizeof lab->folder, "%s/haul-loop-XXXXXX",
		 folder != NULL ? folder : "/var/tmp");
	assert_non_null(mkdtemp(lab->folder));
	snprintf(image, sizeof image, "%s/image", lab->folder);
	sparse_file(image, fs_bytes);
	lab->host_fd = loop_attach(image, 0, lab->host, sizeof lab->host);
	unlink(image);
	if (lab->host_fd < 0) {
		rmdir(lab->folder);
		test_skip("needs loop devices");
	}
	make_fs(lab->host);
	assert_int_equal(mount(lab->host, lab->folder, "ext4", 0, NULL), 0);
	snprintf(lab->backing, sizeof lab->backing, "%s/backing", lab->folder);
	sparse_file(lab->backing, bytes);
	lab->device_fd = loop_attach(lab->backing, flags, lab->device, sizeof lab->device);
	assert_true(lab->device_fd >= 0);
}

void loop_lab_close(struct loop_lab *lab)
{
	close(lab->device_fd);
	umount2(lab->folder, MNT_DETACH);
	close(lab->host_fd);
	rmdir(lab->folder);
}

void loop_lab_fill(struct loop_lab *lab, bool full)
{
	static const uint8_t data[65536] = { 1 };
	char path[192];
	ssize_t put = 1;
	int fd;

	snprintf(path, sizeof path, "%s/filler", lab->folder);
	if (!full) {
		assert_int_equal(unlink(path), 0);
		return;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	for (size_t bytes = sizeof data; bytes >= 512; bytes /= 2)
		do {
			put = write(fd, data, bytes);
		} while (put > 0);
	assert_int_equal(fsync(fd), 0);
	close(fd);
}

void loop_lab_cut(struct loop_lab *lab, uint64_t bytes)
{
	assert_int_equal(truncate(lab->backing, (off_t)bytes), 0);
	/* What the device has in its own cache is no longer true. */
	assert_int_equal(ioctl(lab->device_fd, BLKFLSBUF, 0), 0);
}

void loop_lab_reserve(struct loop_lab *lab)
{
	int fd = open(lab->backing, O_RDWR | O_CLOEXEC);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(fallocate(fd, 0, 0, st.st_size), 0);
	close(fd);
}

void loop_lab_discard(struct loop_lab *lab, uint64_t offset, uint64_t bytes)
{
	uint64_t range[2] = { offset, bytes };

	assert_int_equal(ioctl(lab->device_fd, BLKDISCARD, range), 0);
}

void loop_lab_reattach(struct loop_lab *lab, int flags)
{
	close(lab->device_fd);
	lab->device_fd = loop_attach(lab->backing, flags, lab->device, sizeof lab->device);
	assert_true(lab->device_fd >= 0);
}

void loop_lab_kill(struct loop_lab *lab)
{
	/* ext4's own: no header has it. 2 = at once, without writing anything back. */
	const unsigned long shutdown = _IOR('X', 125, uint32_t);
	uint32_t how = 2;
	int fd = open(lab->folder, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, shutdown, &how), 0);
	close(fd);
}

void loop_lab_error(struct loop_lab *lab)
{
	char path[96];

	assert_int_equal(mount(NULL, lab->folder, NULL, MS_REMOUNT, "errors=remount-ro"), 0);
	snprintf(path, sizeof path, "/sys/fs/ext4/%s/trigger_fs_error",
		 lab->host + strlen("/dev/"));
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "1", 1) != 1) {
		loop_lab_close(lab);
		test_skip("needs the kernel's ext4 in /sys, to make an error in it");
	}
	close(fd);
}

void loop_lab_remount(struct loop_lab *lab, bool read_only)
{
	if (lab->device_fd >= 0)
		close(lab->device_fd);
	lab->device_fd = -1;
	assert_int_equal(umount(lab->folder), 0);
	assert_int_equal(mount(lab->host, lab->folder, "ext4", read_only ? MS_RDONLY : 0, NULL), 0);
}
