package repo

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pkg/sftp"

	"b9.build/b9/engine/internal/sshdtest"
	"b9.build/b9/engine/ssh"
)

// sshOptions let a client in, with known_hosts as given; without any it holds
// the server's ed25519 key.
func sshOptions(s *sshdtest.Server, known ...string) ssh.Options {
	return ssh.Options{
		Config: []string{}, KnownHosts: []string{s.KnownHosts(known...)},
		Identities: []string{s.Path("id")}, Agent: "none", Home: s.Dir(),
	}
}

// siteOn is a place behind a server.
func siteOn(t testing.TB, s *sshdtest.Server) site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	return site{dir, Location{User: s.User(), Host: s.Addr(), Port: s.Port(), Path: dir}, Options{State: t.TempDir(), SSH: sshOptions(s)}}
}

// siteOf is a place behind a server whose file transfer is this command.
func siteOf(t *testing.T, subsystem string) site {
	t.Helper()
	server := sshdtest.New(t)
	setSubsystem(server, subsystem)
	return siteOn(t, server)
}

// setSubsystem replaces the command that serves files; "" leaves none.
func setSubsystem(s *sshdtest.Server, command string) {
	var config strings.Builder
	for line := range strings.Lines(s.Config()) {
		if !strings.HasPrefix(line, "Subsystem ") {
			config.WriteString(line)
		}
	}
	if command != "" {
		config.WriteString("Subsystem sftp " + command + "\n")
	}
	s.Configure(config.String())
}

// TestFewExtensions uses servers that lack what OpenSSH adds to the protocol.
func TestFewExtensions(t *testing.T) {
	t.Parallel()
	for _, without := range []string{"posix-rename", "fsync", "posix-rename,fsync,statvfs,fstatvfs,lsetstat,limits,expand-path,copy-data,hardlink"} {
		t.Run(without, func(t *testing.T) {
			t.Parallel()
			s := siteOf(t, "internal-sftp -P "+without)
			r := s.create(t)
			image := sample(t, 1, 500)
			push(t, r, "web", image)
			v, _ := push(t, r, "web", change(t, image, 7))
			push(t, r, "web", change(t, image, 8))
			if report, err := r.Clean(t.Context(), CleanOptions{Keep: 2, Steps: -1}); err != nil || len(report.Removed) != 1 {
				t.Errorf("%+v, %v", report, err)
			}
			if list := intact(t, s.elsewhere(t)); len(list) != 2 || list[1].Digest != v.Digest {
				t.Errorf("%+v", list)
			}
			if left := files(t, s, "tmp"); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestNoTransfer connects to a server that has no SFTP.
func TestNoTransfer(t *testing.T) {
	t.Parallel()
	s := siteOf(t, "")
	_, err := Open(t.Context(), s.loc, s.opts)
	if !errors.Is(err, ErrUnreachable) {
		t.Fatalf("%v", err)
	}
	for _, reason := range []string{"offers no file transfer", "refuses the subsystem", "Subsystem sftp"} {
		if !strings.Contains(err.Error(), reason) {
			t.Errorf("the error lacks %q: %v", reason, err)
		}
	}
}

// TestEndlessListing asks a server for a directory that never ends.
func TestEndlessListing(t *testing.T) {
	t.Parallel()
	s := siteOf(t, "internal-sftp")
	r := s.create(t)
	push(t, r, "web", sample(t, 1, 100))
	far := siteOf(t, os.Args[0]+" -test.run=^TestFlood$ -test.count=1 "+s.dir)
	far.loc.Path = s.dir
	for name, act := range map[string]func(*Repo) error{
		"check": func(r *Repo) error { _, err := r.Check(t.Context(), false); return err },
		"clean": func(r *Repo) error { _, err := r.Clean(t.Context(), CleanOptions{Keep: -1, Steps: -1}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			err := act(far.again(t))
			if want := fmt.Sprintf("its listing is longer than %d bytes", 64<<20); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
		})
	}
	if list := intact(t, s.elsewhere(t)); len(list) != 1 {
		t.Errorf("%+v", list)
	}
}

// TestFlood is no test but the server's process, which serves a directory
// whose listings never end.
func TestFlood(t *testing.T) {
	if flag.NArg() != 1 {
		return // it only runs as a process of its own
	}
	flood := floodFS{}
	line := struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout}
	sftp.NewRequestServer(line, sftp.Handlers{FileGet: flood, FilePut: flood, FileCmd: flood, FileList: flood}).Serve()
	os.Exit(0)
}

// floodFS is the file system of TestFlood.
type floodFS struct{}

func (floodFS) Fileread(r *sftp.Request) (io.ReaderAt, error) { return os.Open(r.Filepath) }

func (floodFS) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	return os.OpenFile(r.Filepath, os.O_WRONLY|os.O_CREATE, 0o644)
}

func (floodFS) Filecmd(r *sftp.Request) error {
	if r.Method == "Remove" {
		return os.Remove(r.Filepath)
	}
	return errors.ErrUnsupported
}

func (floodFS) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	info, err := os.Stat(r.Filepath)
	return floodList{info, r.Method == "List"}, err
}

// floodList is a file's description, or that again and again.
type floodList struct {
	info    fs.FileInfo
	endless bool
}

func (f floodList) ListAt(list []fs.FileInfo, off int64) (int, error) {
	for i := range list {
		list[i] = f.info
	}
	if f.endless {
		return len(list), nil
	}
	return 1, io.EOF
}
