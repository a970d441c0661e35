package overlay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/layer"
	"b9.build/b9/engine/internal/seedtest"
)

func TestMain(m *testing.M) {
	Main()
	if dir := os.Getenv(doomedDir); dir != "" {
		doomed(dir)
	}
	os.Exit(m.Run())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts a server for a test, which is skipped where nothing can be served.
func start(t testing.TB) *Server {
	t.Helper()
	mount, device, err := newMount()
	if err != nil {
		t.Skip(err)
	}
	check(t, errors.Join(device.Close(), mount.Close()))
	s, err := Start()
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func create(t testing.TB, content []byte) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	_, err = f.Write(content)
	check(t, err)
	return f
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// serveFile serves an image for a test.
func serveFile(t testing.TB, s *Server, i Image) *File {
	t.Helper()
	f, err := s.Serve(i)
	check(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// openServed opens a served file as every program does.
func openServed(t testing.TB, f *File, flags int) *os.File {
	t.Helper()
	link := filepath.Join(t.TempDir(), "link")
	check(t, os.Symlink(f.Path(), link))
	g, err := os.OpenFile(link, flags, 0)
	check(t, err)
	t.Cleanup(func() { g.Close() })
	return g
}

// step does one thing to both files, drawn by chance.
func step(t *testing.T, r *rand.Rand, files [2]*os.File) {
	t.Helper()
	info, err := files[1].Stat()
	check(t, err)
	size := info.Size()
	off, n := r.Int64N(size+1), r.Int64N(200_000)
	if r.IntN(2) == 0 {
		off -= off % 4096
	}
	data := noise(r, int(n))
	var what func(f *os.File) error
	fallocate := func(mode uint32) func(f *os.File) error {
		return func(f *os.File) error { return unix.Fallocate(int(f.Fd()), mode, off, n+1) }
	}
	switch r.IntN(10) {
	default:
		what = func(f *os.File) error { _, err := f.WriteAt(data, off); return err }
	case 0, 1, 2:
		what = fallocate(unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE)
	case 3:
		what = fallocate(unix.FALLOC_FL_KEEP_SIZE)
	case 4:
		what = fallocate(0)
	case 5:
		what = func(f *os.File) error { return f.Truncate(size - size/8) }
	}
	for _, f := range files {
		check(t, what(f))
	}
}

func same(t *testing.T, got io.ReaderAt, want *os.File) {
	t.Helper()
	info, err := want.Stat()
	check(t, err)
	a, b := make([]byte, info.Size()+1), make([]byte, info.Size()+1)
	n, err := got.ReadAt(a, 0)
	if n != int(info.Size()) || err != io.EOF {
		t.Fatalf("%d bytes, %v; want %d and the end", n, err, info.Size())
	}
	if k, err := want.ReadAt(b, 0); k != n || err != io.EOF {
		t.Fatal(k, err)
	}
	if !bytes.Equal(a, b) {
		at := 0
		for a[at] == b[at] {
			at++
		}
		t.Fatalf("byte %d of %d is wrong", at, n)
	}
}

// holes compares where a file says that data and holes are with its content.
func holes(t *testing.T, f *os.File) {
	t.Helper()
	content, err := os.ReadFile(f.Name())
	check(t, err)
	size, at := int64(len(content)), int64(0)
	for at < size {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			data, err = size, nil
		}
		check(t, err)
		if len(bytes.Trim(content[at:data], "\x00")) > 0 {
			t.Fatalf("what is said to be a hole, from %d to %d, is none", at, data)
		}
		if at = data; at < size {
			at, err = unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
			check(t, err)
		}
	}
}

// A served fork is to programs as a plain file, and its difference is the same image.
func TestServedForksAreLikePlainFiles(t *testing.T) {
	s, r := start(t), seedtest.Random(t)
	for range 4 {
		content := noise(r, 1+r.IntN(2_000_000))
		clear(content[len(content)/4 : len(content)/2])
		base, plain, diff := create(t, content), create(t, content), create(t, nil)
		below := []*os.File{base}
		f := serveFile(t, s, Image{Files: below, Of: digest.Sum(content), Difference: diff})
		served := openServed(t, f, os.O_RDWR)
		for i := range 60 {
			step(t, r, [2]*os.File{served, plain})
			if i%20 == 10 {
				check(t, f.Finish())
				same(t, composed(t, below, diff), plain)
			}
			if i%10 == 0 {
				same(t, served, plain)
				holes(t, served)
			}
		}
		check(t, errors.Join(served.Sync(), f.Finish()))
		same(t, composed(t, below, diff), plain)
		trailer, err := layer.Read(diff)
		check(t, err)
		if trailer.Base != digest.Sum(content) {
			t.Error("the base's digest is wrong")
		}
		check(t, errors.Join(served.Close(), f.Close()))
		above := serveFile(t, s, Image{Files: []*os.File{base, diff}, Difference: create(t, nil)})
		same(t, openServed(t, above, os.O_RDONLY), plain)

		f = serveFile(t, s, Image{Files: below, Difference: diff, Continue: true})
		served = openServed(t, f, os.O_RDWR)
		same(t, served, plain)
		step(t, r, [2]*os.File{served, plain})
		same(t, served, plain)
	}
}

// composed is the image of a difference, read past the server.
func composed(t *testing.T, below []*os.File, diff *os.File) blob.Blob {
	t.Helper()
	base, err := blob.Open(below[0].Name())
	check(t, err)
	f, err := os.Open(diff.Name())
	check(t, err)
	trailer, err := layer.Read(f)
	check(t, err)
	b, err := layer.Compose(base, layer.Layer{Trailer: trailer, File: f})
	check(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

// Other programs open the file by its path.
func TestOtherProgramsReadAndWrite(t *testing.T) {
	s, content := start(t), []byte(strings.Repeat("content\n", 100_000))
	plain := create(t, content)
	f := serveFile(t, s, Image{Files: []*os.File{create(t, content)}, Difference: create(t, nil)})
	for _, path := range []string{f.Path(), plain.Name()} {
		if out, err := exec.Command("dd", "if=/dev/zero", "of="+path, "bs=7000", "count=3", "seek=40", "conv=notrunc").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		check(t, os.Truncate(path, 700_001))
	}
	if out, err := exec.Command("cmp", f.Path(), plain.Name()).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestWhatCanNotBeServed(t *testing.T) {
	s := start(t)
	if _, err := s.Serve(Image{Difference: create(t, nil)}); err == nil {
		t.Error("no file at all was served")
	}
	whole := create(t, []byte("content"))
	if _, err := s.Serve(Image{Files: []*os.File{whole, whole}, Difference: create(t, nil)}); err == nil || !strings.Contains(err.Error(), layer.ErrDamaged.Error()) {
		t.Errorf("a file that is no difference: %v", err)
	}
	if _, err := s.Serve(Image{Files: []*os.File{whole}, Difference: create(t, nil), Continue: true}); err == nil || !strings.Contains(err.Error(), layer.ErrDamaged.Error()) {
		t.Errorf("an empty difference, continued: %v", err)
	}
	f := serveFile(t, s, Image{Files: []*os.File{whole}, Difference: create(t, nil)}) // it goes on serving
	if b, err := os.ReadFile(f.Path()); string(b) != "content" {
		t.Errorf("read %q, %v", b, err)
	}
}

// A full disk is an error of the write that finds it so. What was there stays, and with
// room again all goes on.
func TestFullDisk(t *testing.T) {
	s, r := start(t), seedtest.Random(t)
	content := noise(r, 4<<20)
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	check(t, err)
	defer unix.Close(fs)
	check(t, errors.Join(unix.FsconfigSetString(fs, "size", "1m"), unix.FsconfigCreate(fs)))
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(mount)
	fd, err := unix.Openat(mount, "diff", unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	check(t, err)
	diff := os.NewFile(uintptr(fd), "diff")
	defer diff.Close()
	served := openServed(t, serveFile(t, s, Image{Files: []*os.File{create(t, content)}, Difference: diff}), os.O_RDWR)
	if _, err := served.WriteAt(make([]byte, 3<<20), 10); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("3 MiB where there is one: %v", err)
	}
	got := make([]byte, len(content))
	_, err = served.ReadAt(got, 0)
	check(t, err)
	for i := range got {
		if got[i] != content[i] && (i < 10 || i >= 10+3<<20 || got[i] != 0) {
			t.Fatalf("byte %d is neither old nor new", i)
		}
	}
	check(t, unix.Fallocate(int(served.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 3<<20))
	_, err = served.WriteAt(content[:1<<19], 0)
	check(t, err)
	_, err = served.ReadAt(got, 0)
	check(t, err)
	if !bytes.Equal(got[:1<<19], content[:1<<19]) || !bytes.Equal(got[3<<20:], content[3<<20:]) {
		t.Error("what was written when there was room again is not there, or more than that")
	}
}

// Whoever uses a file gets an error when the server is killed, and waits for nothing.
func TestServerIsKilled(t *testing.T) {
	s := start(t)
	f := serveFile(t, s, Image{Files: []*os.File{create(t, make([]byte, 1<<20))}, Difference: create(t, nil)})
	served := openServed(t, f, os.O_RDWR)
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := served.WriteAt(make([]byte, 1<<18), 1000); err != nil {
				done <- err
				return
			}
		}
	}()
	s.kill()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("a write waits for a server that is dead")
	}
	if err := f.Finish(); err == nil {
		t.Error("what a dead server had was finished")
	}
	if _, err := s.Serve(Image{Files: []*os.File{create(t, nil)}, Difference: create(t, nil)}); err == nil || errors.Is(err, ErrUnavailable) {
		t.Errorf("a dead server serves: %v", err)
	}
}

// doomedDir names the directory of a process that is to be killed.
const doomedDir = "B9_TEST_DOOMED"

// doomed serves a file and writes to it, until it is killed.
func doomed(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	s, err := Start()
	fail(err)
	base, err := os.Open(filepath.Join(dir, "base"))
	fail(err)
	diff, err := os.OpenFile(filepath.Join(dir, "diff"), os.O_CREATE|os.O_RDWR, 0o600)
	fail(err)
	f, err := s.Serve(Image{Files: []*os.File{base}, Difference: diff})
	fail(err)
	served, err := os.OpenFile(f.Path(), os.O_RDWR, 0)
	fail(err)
	fmt.Println(s.Pid())
	for data := make([]byte, 1<<20); ; {
		if _, err := served.WriteAt(data, 0); err != nil {
			fail(err)
		}
		served.ReadAt(data, 1)
	}
}

// When a process is killed while it waits for an answer, it ends, and so does its
// server.
func TestUserIsKilled(t *testing.T) {
	start(t).Close()
	moment := seedtest.Moments(t)
	for range 10 {
		dir := t.TempDir()
		check(t, os.WriteFile(filepath.Join(dir, "base"), make([]byte, 1<<20), 0o600))
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{doomedDir + "=" + dir}
		out, err := cmd.StdoutPipe()
		check(t, err)
		check(t, cmd.Start())
		var server int
		_, err = fmt.Fscan(out, &server)
		check(t, err)
		time.Sleep(moment(20 * time.Millisecond))
		check(t, cmd.Process.Kill())
		check(t, ended(cmd.Process.Pid, func() { _ = cmd.Wait() }))
		check(t, ended(server, func() {}))
	}
}

// ended waits until a process is gone.
func ended(pid int, wait func()) error {
	done := make(chan struct{})
	go func() {
		wait()
		for {
			state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil || strings.Contains(string(state), ") Z ") {
				close(done)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	select {
	case <-done:
		return nil
	case <-time.After(time.Minute):
		return fmt.Errorf("process %d did not end", pid)
	}
}

// What has no root's rights but those of a user namespace serves as well.
func TestInAUserNamespace(t *testing.T) {
	if os.Getenv("B9_TEST_INNER") != "" {
		t.Skip("this is the namespace")
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run", "Served|Other|Killed|Full|Hangs")
	cmd.Env = append(os.Environ(), "B9_TEST_INNER=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		t.Skipf("no user namespaces: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestServedForksAreLikePlainFiles") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestWithoutMain(t *testing.T) {
	prepared.Store(false)
	defer prepared.Store(true)
	if _, err := Start(); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "backends.Main()") {
		t.Errorf("started: %v", err)
	}
}

// BenchmarkServe is what a fork costs beside what is written to it.
func BenchmarkServe(b *testing.B) {
	s := start(b)
	base, diff := create(b, nil), create(b, nil)
	check(b, base.Truncate(8<<30))
	for b.Loop() {
		f, err := s.Serve(Image{Files: []*os.File{base}, Difference: diff})
		check(b, err)
		check(b, errors.Join(f.Finish(), f.Close(), diff.Truncate(0)))
	}
}

// BenchmarkStart is what the server costs.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		s := start(b)
		base := create(b, nil)
		f, err := s.Serve(Image{Files: []*os.File{base}, Difference: create(b, nil)})
		check(b, err)
		check(b, errors.Join(f.Close(), s.Close()))
	}
}
