//go:build cgo

package helper

import "os"

// beHelper does the work of a helper if this process is one, and then does not
// return.
func beHelper() {
	if len(os.Args) == 3 && os.Args[1] == Arg {
		os.Exit(status(os.Args[2]))
	}
	if len(os.Args) == 2 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		runtimeInit()
	}
}
