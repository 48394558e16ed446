/* fuzz/replay.c — run a fuzz target over the files of a folder, so that its corpus is an ordinary
 * test. Linked in place of libFuzzer's main. Argument: the folder. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INPUT_BYTES_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(int folder, const char *name, uint8_t *input)
{
	const int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	const ssize_t size = fd < 0 ? -1 : read(fd, input, INPUT_BYTES_MAX);

	if (size < 0) {
		fprintf(stderr, "%s: %s\n", name, strerror(errno));
	} else {
		printf("%s: %zd bytes\n", name, size);
		fflush(stdout); /* the last line names the input that crashed */
		LLVMFuzzerTestOneInput(input, (size_t)size);
	}
	if (fd >= 0)
		close(fd);
	return size < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
	uint8_t *input = malloc(INPUT_BYTES_MAX);
	int files = 0;
	int failures = 0;

	if (folder == NULL || input == NULL) {
		fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
		if (entry->d_name[0] == '.')
			continue;
		failures += replay(dirfd(folder), entry->d_name, input) < 0;
		files++;
	}
	free(input);
	closedir(folder);
	printf("%d files replayed, %d failed\n", files, failures);
	return files > 0 && failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
