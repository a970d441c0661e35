package helper

import (
	"context"
	"fmt"
	"os"

	"b9.build/b9/engine/container"
)

// standing is what a run has of its own beside the container: the user namespace of a
// command that must not reach the host's kernel, or whose programs this machine's
// kernel does not execute, with their emulator registered there. It is empty where
// the command needs neither.
type standing struct {
	emulator *container.Emulator // nil where the kernel executes the command
	users    *container.Users    // nil for the host's
	stop     func()              // ends the making of device nodes
}

func newStanding(ctx context.Context, spec *container.Spec) (s standing, err error) {
	s.stop = func() {}
	if s.emulator, err = container.FindEmulator(ctx, spec.Arch); err != nil {
		return s, err
	}
	registered := s.emulator // in the namespace
	if registered != nil && !registered.Own {
		registered = nil
	}
	name := spec.ReachesBeyond()
	if registered == nil && name == "" {
		return s, nil
	}
	if s.users, err = container.NewUsers(ctx, registered); err != nil && name != "" {
		err = fmt.Errorf("capability %s is given in a user namespace: %w", name, err)
	}
	return s, err
}

// complete tells the container's side what comes along.
func (s *standing) complete(req *Request) {
	req.Emulated = s.emulator != nil
	req.OwnUsers = s.users != nil
	req.NetNone = req.OwnUsers && req.Spec.Network == container.NetworkNone // one that belongs to it
}

// network is the namespace for a private network, nil for one of the host's root.
func (s *standing) network() *os.File {
	if s.users == nil {
		return nil
	}
	return s.users.Network
}

// files are those that go over the wire behind all others.
func (s *standing) files() []*os.File {
	if s.users == nil {
		return nil
	}
	return []*os.File{s.users.Namespace}
}

// serve makes device nodes for the command, which may not.
func (s *standing) serve(calls *os.File) (err error) {
	s.stop, err = container.ServeNodes(calls)
	return err
}

// end gives the namespace up when the command has ended.
func (s *standing) end() {
	s.stop()
	if s.users != nil {
		s.users.Close()
	}
}
