package helper

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	nodefs "github.com/hanwen/go-fuse/v2/fs"
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// silent serves file systems in which nothing that is looked up is told, until it is to go on:
// as on a disk that hangs.
type silent struct {
	nodefs.Inode
	asked, goOn  chan struct{}
	begun, ended atomic.Int64
	gone         chan struct{}
}

func newSilent() *silent {
	return &silent{asked: make(chan struct{}, 1), goOn: make(chan struct{}), gone: make(chan struct{})}
}

func (s *silent) Probe(io.ReaderAt, int64) (string, error) { return "vfat", nil }

func (s *silent) Serves(string) bool { return true }

func (s *silent) Serve(device int, _ *os.File, _, _ int64, _ string, _ bool, _ int) (container.Served, error) {
	o := &nodefs.Options{NullPermissions: true, Logger: log.New(io.Discard, "", 0)}
	o.MountOptions.Logger = o.Logger
	server, err := gofuse.NewServer(nodefs.NewNodeFS(s, o), fmt.Sprintf("/dev/fd/%d", device), &o.MountOptions)
	if err != nil {
		return nil, err
	}
	go func() { defer close(s.gone); server.Serve() }()
	return s, nil
}

func (s *silent) Lookup(context.Context, string, *gofuse.EntryOut) (*nodefs.Inode, unix.Errno) {
	s.begun.Add(1)
	defer s.ended.Add(1)
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.goOn
	return nil, unix.ENOENT
}

func (s *silent) Progress() (begun, ended int64) {
	ended = s.ended.Load()
	return s.begun.Load(), ended
}

func (s *silent) Close(patience time.Duration) error {
	select {
	case <-s.gone:
		return nil
	case <-time.After(patience):
		return unix.EBUSY
	}
}

// TestServedImageHangs: where an image that is served gives no answer, whoever waits for it has an
// error, and the run says why; where it answers again in time, nothing comes of it.
func TestServedImageHangs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	for _, hangs := range []bool{true, false} {
		known := newSilent()
		goOn := sync.OnceFunc(func() { close(known.goOn) })
		t.Cleanup(goOn)
		s := &stage{known: known, servedLimit: 300 * time.Millisecond}
		if !hangs {
			s.servedLimit = time.Hour
		}
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
		image, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := s.serve(image, container.Mount{Source: path, Target: "/x", FSType: "vfat"})
		if err != nil {
			t.Skipf("no FUSE here: %v", err)
		}
		ls := exec.Command("ls", fmt.Sprintf("/proc/%d/fd/%d/name", os.Getpid(), tree.Fd()))
		var said strings.Builder
		ls.Stderr = &said
		if err := ls.Start(); err != nil {
			t.Fatal(err)
		}
		<-known.asked
		if !hangs {
			goOn()
		}
		done := make(chan error, 1)
		go func() { done <- ls.Wait() }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("ls waits for an image that hangs")
		}
		if missing := strings.Contains(said.String(), "No such file"); missing == hangs || said.Len() == 0 {
			t.Errorf("hangs %v: ls says %q", hangs, said.String())
		}
		tree.Close()
		err = s.release()
		if told := err != nil && strings.Contains(err.Error(), "gave no answer"); told != hangs || !hangs && err != nil {
			t.Errorf("hangs %v: %v", hangs, err)
		}
	}
}
