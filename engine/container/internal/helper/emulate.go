package helper

import (
	"context"
	"os"

	"b9.build/b9/engine/container"
)

// emulation is what a run has for a command that this machine's kernel does not
// execute: the user namespace in which its emulator is registered. It is empty
// where the kernel executes it, and where the host has registered one.
type emulation struct {
	emulator  *container.Emulator // nil where the kernel executes the command
	namespace *os.File
	release   func()
	stop      func() // ends the making of device nodes
}

func newEmulation(ctx context.Context, arch string) (e emulation, err error) {
	e.release, e.stop = func() {}, func() {}
	if e.emulator, err = container.FindEmulator(ctx, arch); err != nil || e.emulator == nil || !e.emulator.Own {
		return e, err
	}
	e.namespace, e.release, err = e.emulator.Hold(ctx)
	return e, err
}

// complete tells the container's side what comes along.
func (e *emulation) complete(req *Request) {
	req.Emulated = e.emulator != nil
	req.OwnUsers = e.namespace != nil
}

// files are those that go over the wire behind all others.
func (e *emulation) files() []*os.File {
	if e.namespace == nil {
		return nil
	}
	return []*os.File{e.namespace}
}

// serve makes device nodes for the command, which may not.
func (e *emulation) serve(calls *os.File) (err error) {
	e.stop, err = container.ServeNodes(calls)
	return err
}

// end gives the namespace up when the command has ended.
func (e *emulation) end() {
	e.stop()
	closeAll(e.files())
	e.release()
}
