//go:build cgo

package main

// Before main the Go runtime opens /dev/null in the place of standard streams that are
// closed. A program that was started so would then throw its results away without a
// word, so the streams are looked at before that: when the C library runs constructors.

/*
#include <errno.h>
#include <fcntl.h>

static int closed[3];

__attribute__((constructor)) static void look(void) {
	for (int fd = 0; fd < 3; fd++)
		closed[fd] = fcntl(fd, F_GETFD) == -1 && errno == EBADF;
}

static int was_closed(int fd) { return closed[fd]; }
*/
import "C"

// closedAtStart reports whether the standard stream was closed when the program started.
func closedAtStart(fd int) bool { return C.was_closed(C.int(fd)) != 0 }
