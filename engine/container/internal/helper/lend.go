package helper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/secret"
)

// loan is what a command is lent for its run, on the caller's side: a file system in
// memory with its secrets and the socket of an agent, which has no place on the host.
type loan struct {
	tree  *os.File // nil once it was handed over
	agent *agentProxy
	texts []secret.Text
}

// newLoan makes the file system; nil where the spec lends nothing.
func newLoan(ctx context.Context, spec *container.Spec) (_ *loan, err error) {
	if !spec.Lends() {
		return nil, nil
	}
	l := &loan{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.release())
		}
	}()
	// Unlike tmpfs it is never swapped out.
	if l.tree, err = newMount("ramfs", []setting{{"mode", "0500"}}, nil, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, false); err != nil {
		return nil, fmt.Errorf("a place for secrets: %w", err)
	}
	for _, s := range spec.Secrets {
		text, err := s.Read()
		if err != nil {
			return nil, err
		}
		l.texts = append(l.texts, text)
		if err := l.write(text); err != nil {
			return nil, fmt.Errorf("secret %s: %w", s.Name, err)
		}
	}
	if spec.SSH {
		if l.agent, err = newAgentProxy(ctx, cmp.Or(spec.Agent, os.Getenv(agentVariable)), path.Join(fdPath(l.tree), path.Base(container.AgentSocket))); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *loan) write(text secret.Text) error {
	fd, err := unix.Openat(int(l.tree.Fd()), text.Name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o400)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	f := os.NewFile(uintptr(fd), text.Name)
	_, err = f.Write(text.Value)
	return errors.Join(err, f.Close())
}

// files are what the container gets of the loan.
func (l *loan) files() []*os.File {
	if l == nil {
		return nil
	}
	return []*os.File{l.tree}
}

// secrets are the values that were lent.
func (l *loan) secrets() []secret.Text {
	if l == nil {
		return nil
	}
	return l.texts
}

// handOver closes the file system here, after it was sent.
func (l *loan) handOver() {
	if l != nil && l.tree != nil {
		l.tree.Close()
		l.tree = nil
	}
}

// release takes everything back.
func (l *loan) release() error {
	if l == nil {
		return nil
	}
	l.handOver()
	return l.agent.close()
}
