package helper

import (
	"errors"
	"sync/atomic"
)

// prepared tells that Main was called. It is of the process as a whole, as the
// arguments of the program are: without Main this program, run again, would not
// be a helper but begin its own work once more.
var prepared atomic.Bool

// Main must be the first call of main and of TestMain of a program that uses
// this package: containers are started by running the program again. If this
// process is such a helper it does the helper's work and never returns; else
// it returns at once.
func Main() {
	beHelper()
	prepared.Store(true)
}

// checkMain reports a program that does not call Main.
func checkMain() error {
	if prepared.Load() {
		return nil
	}
	return errors.New("containers are started by running this program again, for which it is not prepared: call backends.Main() of b9.build/b9/engine/container/backends first in main, and in TestMain of tests")
}
