//go:build cgo && libvirt_dlopen

package libvirt

// The binding to libvirt opens libvirt.so.0, with some forty libraries behind
// it, in itslibvirtinitialiser: 15 ms at every start of a program, three of
// which take part in one embedded run. Here the linker redirects its
// calls, so that the library is opened when the first function of it is
// called. The one function that the initialiser calls, to keep libvirt from
// printing its errors, is called then too.

/*
#cgo LDFLAGS: -Wl,--wrap=dlopen -Wl,--wrap=dlsym -ldl
#include <pthread.h>
#include <string.h>

void *__real_dlopen(const char *, int);
void *__real_dlsym(void *, const char *);

static const char library[] = "libvirt.so.0";
static char later; // its address is the handle of the library to be opened
static void *opened;
static int mode;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void quiet(void *data, void *error) {}

static void silence(void *data, void *handler) {}

static void open_library(void) {
	opened = __real_dlopen(library, mode);
	if (opened) {
		void (*set)(void *, void *) = (void (*)(void *, void *))__real_dlsym(opened, "virSetErrorFunc");
		if (set)
			set(NULL, (void *)quiet);
	}
}

void *__wrap_dlopen(const char *name, int flags) {
	if (!name || strcmp(name, library) != 0)
		return __real_dlopen(name, flags);
	mode = flags;
	return &later;
}

void *__wrap_dlsym(void *handle, const char *symbol) {
	if (handle != &later)
		return __real_dlsym(handle, symbol);
	if (strcmp(symbol, "virSetErrorFunc") == 0)
		return (void *)silence;
	if (strcmp(symbol, "virConnectAuthPtrDefault") == 0)
		return NULL; // not used here, and asked for before the first function
	pthread_once(&once, open_library);
	if (!opened) {
		__real_dlopen(library, mode); // for the message that dlerror(3) returns
		return NULL;
	}
	return __real_dlsym(opened, symbol);
}
*/
import "C"
