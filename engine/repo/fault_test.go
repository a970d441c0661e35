package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"b9.build/b9/engine/internal/sshdtest"
)

// mounted is a file system of so many MiB, in memory, that keeps holes.
func mounted(t *testing.T, mib int) string {
	t.Helper()
	mnt := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", mib), "b9-test", mnt).CombinedOutput(); err != nil {
		t.Fatalf("mount, which takes root: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", mnt).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return mnt
}

// small mounts a file system of so many MiB, which s is moved to.
func small(t *testing.T, s site, mib int) (site, string) {
	t.Helper()
	mnt := mounted(t, mib)
	s.dir = filepath.Join(mnt, "repo")
	s.loc.Path = s.dir
	return s, mnt
}

func TestFullDisk(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		s, mnt := small(t, s, 24)
		r := s.create(t)
		image := noise(t, 1, 8<<20)
		v, _ := push(t, r, "web", image)
		_, _, err := r.Push(t.Context(), PushSpec{Name: "web", Path: noise(t, 2, 40<<20)})
		if err == nil || !strings.Contains(err.Error(), "push web to") || !strings.Contains(err.Error(), "/tmp/") {
			t.Errorf("a push that does not fit: %v", err)
		}
		if !strings.Contains(err.Error(), "no space left") {
			t.Errorf("the error does not speak of space: %v", err)
		}
		if list := intact(t, s.elsewhere(t)); len(list) != 1 || list[0].Digest != v.Digest {
			t.Errorf("the state before is not there any more: %+v", list)
		}
		if left := files(t, s, "tmp"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		filler := filepath.Join(mnt, "filler")
		os.WriteFile(filler, make([]byte, 64<<20), 0o644) // not one byte is left
		_, _, err = r.Push(t.Context(), PushSpec{Name: "web", Path: image, Version: "other"})
		if err == nil {
			t.Log("the line of a version still found room")
		}
		intact(t, s.elsewhere(t))
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Push(t.Context(), PushSpec{Name: "web", Path: image, Version: "third"}); err != nil {
			t.Errorf("with room again: %v", err)
		}
		if list := intact(t, s.elsewhere(t)); list[0].Version != "third" {
			t.Errorf("%+v", list)
		}
	})
}

func TestReadOnly(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		s, mnt := small(t, s, 24)
		r := s.create(t)
		v, _ := push(t, r, "web", sample(t, 1, 100))
		if out, err := exec.Command("mount", "-o", "remount,ro", mnt).CombinedOutput(); err != nil {
			t.Fatalf("remount: %v: %s", err, out)
		}
		_, _, err := r.Push(t.Context(), PushSpec{Name: "web", Path: sample(t, 2, 100)})
		if err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("push: %v", err)
		}
		if err := r.Remove(t.Context(), v); err == nil || !strings.Contains(err.Error(), "read-only") {
			t.Errorf("remove: %v", err)
		}
		if list := intact(t, s.elsewhere(t)); len(list) != 1 {
			t.Errorf("%+v", list)
		}
	})
}

// TestNoPermission logs in as somebody who may read but not write.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	nobody, err := user.Lookup("nobody")
	if os.Getuid() != 0 || err != nil {
		t.Fatal("becoming another user takes root and a user nobody")
	}
	var uid, gid uint32
	fmt.Sscan(nobody.Uid+" "+nobody.Gid, &uid, &gid)
	dir, err := os.MkdirTemp("/var/tmp", "b9-repo-test-*") // every directory above may be searched
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := site{dir, Location{Path: dir}, Options{}}
	v, _ := push(t, s.create(t), "web", sample(t, 1, 100))
	e := errand{Loc: s.loc, Push: "/etc/passwd"}
	cmd := e.as(t, uid, gid)
	out, err := cmd.CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("permission denied")) {
		t.Errorf("%v: %s", err, out)
	}
	if list := intact(t, s.elsewhere(t)); len(list) != 1 || list[0].Digest != v.Digest {
		t.Errorf("%+v", list)
	}
}

// slowLine is a TCP connection to the server that delays both ways, or stops.
type slowLine struct {
	listener net.Listener
	to       string
	delay    time.Duration

	mu      sync.Mutex
	stopped bool
	conns   []net.Conn
}

// newSlowLine makes the way to the server take half a round trip each way.
func newSlowLine(t testing.TB, to string, roundTrip time.Duration) *slowLine {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &slowLine{listener: l, to: to, delay: roundTrip / 2}
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.conns {
			c.Close()
		}
	})
	go s.serve()
	return s
}

func (s *slowLine) port() int { return s.listener.Addr().(*net.TCPAddr).Port }

func (s *slowLine) serve() {
	for {
		in, err := s.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", s.to)
		if err != nil {
			in.Close()
			continue
		}
		s.mu.Lock()
		s.conns = append(s.conns, in, out)
		s.mu.Unlock()
		go s.carry(in, out)
		go s.carry(out, in)
	}
}

// carry passes bytes on when they have been under way long enough.
func (s *slowLine) carry(from, to net.Conn) {
	type parcel struct {
		data []byte
		due  time.Time
	}
	way := make(chan parcel, 1<<16)
	go func() {
		defer close(way)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if n > 0 {
				way <- parcel{buf[:n], time.Now().Add(s.delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range way {
		time.Sleep(time.Until(p.due))
		s.mu.Lock()
		stopped := s.stopped
		s.mu.Unlock()
		if stopped {
			continue
		}
		if _, err := to.Write(p.data); err != nil {
			io.Copy(io.Discard, from)
			return
		}
	}
	to.Close()
}

// overSlowLine returns a site behind a delay, and the line.
func overSlowLine(t testing.TB, roundTrip time.Duration) (site, *slowLine) {
	server := sshdtest.New(t)
	l := newSlowLine(t, fmt.Sprintf("127.0.0.1:%d", server.Port()), roundTrip)
	known := fmt.Sprintf("[127.0.0.1]:%d %s", l.port(), server.Public("host_ed25519"))
	s := siteOn(t, server)
	s.loc.Port, s.opts.SSH = l.port(), sshOptions(server, known)
	return s, l
}

// TestVanishedServer stops the line in the middle of a push.
func TestVanishedServer(t *testing.T) {
	s, line := overSlowLine(t, 10*time.Millisecond)
	s.opts.Timeout = time.Second
	r := s.create(t)
	v, _ := push(t, r, "web", noise(t, 1, 1<<20))
	r.opts.Progress = func(p Progress) {
		line.mu.Lock()
		defer line.mu.Unlock()
		line.stopped = true
	}
	_, _, err := r.Push(t.Context(), PushSpec{Name: "web", Path: noise(t, 2, 80<<20)})
	if err == nil || !strings.Contains(err.Error(), "nothing came from the server for 1s") {
		t.Errorf("push: %v", err)
	}
	line.mu.Lock()
	line.stopped = false
	line.mu.Unlock()
	if list := intact(t, s.elsewhere(t)); len(list) != 1 || list[0].Digest != v.Digest {
		t.Errorf("%+v", list)
	}
}

// TestCancelledOpen cancels while the connection is made.
func TestCancelledOpen(t *testing.T) {
	s, line := overSlowLine(t, 0)
	line.stopped = true
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, s.loc, s.opts); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// TestTornLine puts half a line at the end of the log, as a server does that
// loses power, and a push after it.
func TestTornLine(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		push(t, r, "web", sample(t, 1, 10))
		b, err := line{Op: opImage, Image: &Version{Name: "half", Version: "1"}}.encode()
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(s.dir, logName), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.Write(b[:len(b)/2])
		push(t, r, "web", sample(t, 2, 10))
		other := s.elsewhere(t)
		list, err := other.List(t.Context(), "")
		if err != nil || len(list) != 2 || list[0].Name != "web" {
			t.Errorf("%+v, %v", list, err)
		}
		damage, err := other.Check(t.Context(), false)
		if err != nil || len(damage) != 1 || damage[0].Path != logName || len(damage[0].Hurts) != 0 {
			t.Errorf("%+v, %v", damage, err)
		}
	})
}
