package repo

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// images returns the two images that a benchmark compares: B9_BENCH_IMAGES
// names them, separated by a colon.
func images(b *testing.B) (first, second string) {
	list := filepath.SplitList(os.Getenv("B9_BENCH_IMAGES"))
	if len(list) != 2 {
		b.Skip("B9_BENCH_IMAGES=FIRST:SECOND names no images, of which the second is a later version of the first")
	}
	return list[0], list[1]
}

// BenchmarkAgainstRsync publishes two versions of an image over ssh, beside
// rsync -z of the same over the same sshd, and pulls.
func BenchmarkAgainstRsync(b *testing.B) {
	first, second := images(b)
	server := newSSHD(b)
	for b.Loop() {
		dir := b.TempDir()
		to := server.target()
		loc := Location{User: to.User, Host: to.Host, Port: to.Port, Path: filepath.Join(dir, "repo")}
		r, err := Create(b.Context(), loc, Options{State: filepath.Join(dir, "state"), SSH: server.options()})
		if err != nil {
			b.Fatal(err)
		}
		report(b, "rsync-first", rsync(b, server, first, filepath.Join(dir, "rsynced")))
		report(b, "push-first", pushed(b, r, first))
		report(b, "rsync-second", rsync(b, server, second, filepath.Join(dir, "rsynced")))
		report(b, "push-second", pushed(b, r, second))
		fresh, err := Open(b.Context(), loc, Options{State: filepath.Join(dir, "other"), SSH: server.options()})
		if err != nil {
			b.Fatal(err)
		}
		list, err := fresh.List(b.Context(), "")
		if err != nil {
			b.Fatal(err)
		}
		dst := filepath.Join(dir, "pulled")
		report(b, "pull-first", pulledFrom(b, fresh, list[1], dst))
		report(b, "pull-second", pulledFrom(b, fresh, list[0], dst))
		report(b, "pull-unchanged", pulledFrom(b, fresh, list[0], dst))
		r.Close()
		fresh.Close()
		os.RemoveAll(dir)
	}
}

// report adds the bytes on the wire, in MB, and the seconds of one transfer.
func report(b *testing.B, name string, t Transfer) {
	b.ReportMetric(float64(t.Sent+t.Received)/1e6, name+"-MB")
	b.ReportMetric(t.Elapsed.Seconds(), name+"-s")
}

func pushed(b *testing.B, r *Repo, path string) Transfer {
	_, t, err := r.Push(b.Context(), PushSpec{Name: "image", Path: path, Format: "raw"})
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func pulledFrom(b *testing.B, r *Repo, v Version, dst string) Transfer {
	start := time.Now()
	t, err := r.Pull(b.Context(), v, dst, PullOptions{})
	if err != nil {
		b.Fatal(err)
	}
	t.Elapsed = time.Since(start)
	return t
}

// rsync sends a file as the forerunner did, and flushes it as Push does.
func rsync(b *testing.B, s *sshServer, from, to string) Transfer {
	o := s.options()
	shell := fmt.Sprintf("ssh -F none -p %d -i %s -o UserKnownHostsFile=%s -o IdentityAgent=none", s.port, o.Identities[0], o.KnownHosts[0])
	start := time.Now()
	cmd := exec.CommandContext(b.Context(), "rsync", "-z", "--fsync", "--inplace", "--no-whole-file", "--stats", "-e", shell, from, s.addr+":"+to)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("rsync: %v\n%s", err, &stderr)
	}
	t := Transfer{Elapsed: time.Since(start)}
	for _, m := range regexp.MustCompile(`Total bytes (sent|received): ([0-9,]+)`).FindAllSubmatch(out, -1) {
		n, _ := strconv.ParseInt(string(bytes.ReplaceAll(m[2], []byte(","), nil)), 10, 64)
		t.Sent += n
	}
	return t
}

// distant is the round trip of the benchmarks over a slow line.
const distant = 100 * time.Millisecond

// BenchmarkListDistant lists 1,000 versions that this machine has never
// seen, on an open connection, and with making it.
func BenchmarkListDistant(b *testing.B) {
	s, _ := distantSite(b, distant)
	near, err := Create(b.Context(), Location{Path: s.dir}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	const versions = 1000
	for n := range versions {
		v := Version{
			Name: fmt.Sprintf("image%d", n%20), Version: fmt.Sprintf("1.%d", n), Digest: Digest{byte(n), byte(n >> 8)}, Format: "raw",
			FileSystems: []string{"ext4"}, Key: Digest{byte(n)}.String(), Origin: Origin{"someone", "buildhost", "//images:server", "1.0"}, Created: time.Now(),
		}
		if err := near.say(b.Context(), line{Op: opImage, Image: &v, Recipe: recipeRef{newFileID([]byte{byte(n), byte(n >> 8)}), 1}}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		start := time.Now()
		r, err := Open(b.Context(), s.loc, Options{SSH: s.opts.SSH})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "connect-and-list-s")
		r.view = newView()
		start = time.Now()
		if list, err := r.List(b.Context(), ""); err != nil || len(list) != versions {
			b.Fatalf("%d versions, %v", len(list), err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "list-s")
		r.Close()
	}
}

// BenchmarkDistant publishes and pulls over a slow line, beside rsync -z.
func BenchmarkDistant(b *testing.B) {
	first, second := images(b)
	s, server := distantSite(b, distant)
	for b.Loop() {
		s.dir = filepath.Join(b.TempDir(), "repo")
		s.loc.Path = s.dir
		r, err := Create(b.Context(), s.loc, s.opts)
		if err != nil {
			b.Fatal(err)
		}
		to := filepath.Join(b.TempDir(), "rsynced")
		report(b, "push-first", pushed(b, r, first))
		report(b, "push-second", pushed(b, r, second))
		report(b, "rsync-first", rsync(b, server, first, to))
		report(b, "rsync-second", rsync(b, server, second, to))
		r.Close()
	}
}

// BenchmarkLogin is what a command over ssh takes that does nothing, for
// comparison with connecting and listing.
func BenchmarkLogin(b *testing.B) {
	s := newDistant(b, distant)
	o := s.options()
	for b.Loop() {
		openssh(b, "ssh", "-F", "none", "-p", fmt.Sprint(s.port), "-i", o.Identities[0], "-o", "UserKnownHostsFile="+o.KnownHosts[0], "-o", "IdentityAgent=none", s.addr, "true")
	}
}
