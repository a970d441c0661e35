// Package backends is the table of container backends: it opens one by name.
// A program that uses it links what the backends need, runc's libcontainer and
// the binding to libvirt; one that only describes containers needs no more than
// package container.
//
//	Main         does the helper's work in a process that was started for it
//	Names, Open  the backends' names, and a backend by its name
package backends

import (
	"fmt"
	"strings"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/embedded"
	"b9.build/b9/engine/container/internal/helper"
	"b9.build/b9/engine/container/libvirt"
	"b9.build/b9/engine/internal/overlay"
	"b9.build/b9/engine/near"
)

// Main must be the first call of main and of TestMain of a program that uses
// this package: containers are started by running the program again. If this
// process is such a helper it does the helper's work and never returns; else
// it returns at once. The process that shows forks of large images as files
// (engine/internal/overlay) is started in the same way. Without it Run of a backend is an error that says so,
// and starts nothing. In a program built without cgo no container can be
// started, and it does nothing.
func Main() {
	overlay.Main()
	helper.Main()
}

const defaultRunDir = "/run/b9"

// line is a backend in the table.
type line struct {
	name string
	open func(container.Config) container.Backend
}

// table has a line for every backend.
func table() []line {
	return []line{
		{container.Embedded, embedded.Open},
		{container.Libvirt, libvirt.Open},
	}
}

// Names are the names that Open knows, the one with the least demands first.
func Names() []string {
	var names []string
	for _, b := range table() {
		names = append(names, b.name)
	}
	return names
}

// Open returns the backend with that name. It does no more than that: whether
// the backend can be used here is for Probe to say.
func Open(name string, c container.Config) (container.Backend, error) {
	if c.RunDir == "" {
		c.RunDir = defaultRunDir
	}
	for _, b := range table() {
		if b.name == name {
			return b.open(c), nil
		}
	}
	names := Names()
	return nil, fmt.Errorf("unknown container backend %q (have %s)%s",
		name, strings.Join(names, ", "), near.Hint(name, names))
}
