//go:build cgo

package helper

import "os"

// Main must be the first call of main and of TestMain of a program that uses
// this package: containers are started by running the program again. If this
// process is such a helper it does the helper's work and never returns; else
// it returns at once.
func Main() {
	if len(os.Args) == 3 && os.Args[1] == Arg {
		os.Exit(helperMain(os.Args[2]))
	}
	if len(os.Args) == 2 && os.Args[1] == "init" && os.Getenv("_LIBCONTAINER_INITPIPE") != "" {
		runtimeInit()
	}
}
