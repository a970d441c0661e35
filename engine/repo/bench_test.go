package repo

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"b9.build/b9/engine/internal/sshdtest"
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

// figures are what the rounds of a benchmark measured, by name and unit.
type figures map[string][]float64

// add notes the bytes on the wire, in MB, and the seconds of one transfer.
func (f figures) add(name string, t Transfer) {
	f[name+"-MB"] = append(f[name+"-MB"], float64(t.Sent+t.Received)/1e6)
	f.time(name, t.Elapsed)
}

func (f figures) time(name string, d time.Duration) {
	f[name+"-s"] = append(f[name+"-s"], d.Seconds())
}

// report tells the median of each.
func (f figures) report(b *testing.B) {
	for name, all := range f {
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2], name)
	}
}

// inTurn runs two functions, another one first each time.
func inTurn(round *int, one, other func()) {
	if *round++; *round%2 == 0 {
		one, other = other, one
	}
	one()
	other()
}

// BenchmarkAgainstRsync publishes two versions of an image over ssh, beside
// rsync -z of the same over the same sshd, and pulls.
func BenchmarkAgainstRsync(b *testing.B) {
	first, second := images(b)
	server := sshdtest.New(b)
	f, round := figures{}, 0
	for b.Loop() {
		dir := b.TempDir()
		loc := siteOn(b, server).loc
		loc.Path = filepath.Join(dir, "repo")
		r, err := Create(b.Context(), loc, Options{State: filepath.Join(dir, "state"), SSH: sshOptions(server)})
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
		there := filepath.Join(dir, "rsynced")
		for _, v := range []struct{ name, image string }{{"first", first}, {"second", second}} {
			inTurn(&round, func() { f.add("rsync-"+v.name, rsync(b, server, v.image, there)) },
				func() { f.add("push-"+v.name, pushedTo(b, loc, r.opts, v.image)) })
		}
		round++ // the first version goes the other way round the next time
		os.Remove(there)
		o := Options{State: filepath.Join(dir, "other"), SSH: sshOptions(server)}
		dst := filepath.Join(dir, "pulled")
		f.add("pull-first", pulledFrom(b, loc, o, 1, dst))
		f.add("pull-second", pulledFrom(b, loc, o, 0, dst))
		f.add("pull-unchanged", pulledFrom(b, loc, o, 0, dst))
		os.RemoveAll(dir)
	}
	f.report(b)
}

// pushedTo connects and publishes.
func pushedTo(b *testing.B, loc Location, o Options, path string) Transfer {
	start := time.Now()
	r, err := Open(b.Context(), loc, o)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	_, t, err := r.Push(b.Context(), PushSpec{Name: "image", Path: path, Format: "raw"})
	if err != nil {
		b.Fatal(err)
	}
	t.Sent, t.Received = r.files.Traffic()
	t.Elapsed = time.Since(start)
	return t
}

// pulledFrom connects and pulls the version that has so many newer ones.
func pulledFrom(b *testing.B, loc Location, o Options, newer int, dst string) Transfer {
	start := time.Now()
	r, err := Open(b.Context(), loc, o)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	list, err := r.List(b.Context(), "image")
	if err != nil {
		b.Fatal(err)
	}
	t, err := r.Pull(b.Context(), list[newer], dst, PullOptions{})
	if err != nil {
		b.Fatal(err)
	}
	t.Sent, t.Received = r.files.Traffic()
	t.Elapsed = time.Since(start)
	return t
}

// rsync sends a file as the forerunner did, and flushes it as Push does.
func rsync(b *testing.B, s *sshdtest.Server, from, to string) Transfer {
	o := sshOptions(s)
	shell := fmt.Sprintf("ssh -F none -p %d -i %s -o UserKnownHostsFile=%s -o IdentityAgent=none", s.Port(), o.Identities[0], o.KnownHosts[0])
	start := time.Now()
	cmd := exec.CommandContext(b.Context(), "rsync", "-z", "--fsync", "--inplace", "--no-whole-file", "--stats", "-e", shell, from, s.Addr()+":"+to)
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
// seen, on an open connection, and with making it, and 1,000 that it has seen,
// beside a command over ssh that does nothing.
func BenchmarkListDistant(b *testing.B) {
	s, server, _ := distantSite(b, distant)
	near, err := Create(b.Context(), Location{Path: s.dir}, Options{})
	if err != nil {
		b.Fatal(err)
	}
	const versions = 1000
	for n := range versions {
		v := Version{
			Name: fmt.Sprintf("image%d", n%20), Version: fmt.Sprintf("1.%d", n), Digest: Digest{byte(n), byte(n >> 8)}, Format: "raw",
			FileSystems: []string{"ext4"}, Key: Digest{byte(n)}.String(), Origin: Origin{User: "someone", Host: "buildhost", Label: "//images:server", B9: "1.0"}, Created: time.Now(),
		}
		if err := near.appendLog(b.Context(), line{Op: opImage, Image: &v, Recipe: recipeRef{newFileID([]byte{byte(n), byte(n >> 8)}), 1}}); err != nil {
			b.Fatal(err)
		}
	}
	f, state := figures{}, b.TempDir()
	for b.Loop() {
		start := time.Now()
		sshdtest.Run(b, "ssh", "-F", "none", "-p", fmt.Sprint(server.Port()), "-i", s.opts.SSH.Identities[0],
			"-o", "UserKnownHostsFile="+s.opts.SSH.KnownHosts[0], "-o", "IdentityAgent=none", server.Addr(), "true")
		f.time("ssh-true", time.Since(start))
		start = time.Now()
		r, err := Open(b.Context(), s.loc, Options{SSH: s.opts.SSH})
		if err != nil {
			b.Fatal(err)
		}
		f.time("connect-and-list", time.Since(start))
		r.view = newView()
		start = time.Now()
		if list, err := r.List(b.Context(), ""); err != nil || len(list) != versions {
			b.Fatalf("%d versions, %v", len(list), err)
		}
		f.time("list", time.Since(start))
		r.Close()
		again := Options{SSH: s.opts.SSH, State: state}
		for range 2 { // the first may be the first of all
			start = time.Now()
			if r, err = Open(b.Context(), s.loc, again); err != nil {
				b.Fatal(err)
			}
			r.Close()
		}
		f.time("connect-and-list-again", time.Since(start))
	}
	f.report(b)
}

// BenchmarkDistant publishes and pulls over a long way, beside rsync -z.
func BenchmarkDistant(b *testing.B) {
	first, second := images(b)
	s, server, _ := distantSite(b, distant)
	f, round := figures{}, 0
	for b.Loop() {
		dir := b.TempDir()
		s.loc.Path = filepath.Join(dir, "repo")
		r, err := Create(b.Context(), s.loc, s.opts)
		if err != nil {
			b.Fatal(err)
		}
		r.Close()
		there := filepath.Join(dir, "rsynced")
		for _, v := range []struct{ name, image string }{{"first", first}, {"second", second}} {
			inTurn(&round, func() { f.add("rsync-"+v.name, rsync(b, server, v.image, there)) },
				func() { f.add("push-"+v.name, pushedTo(b, s.loc, s.opts, v.image)) })
		}
		round++
		os.Remove(there)
		f.add("pull-first", pulledFrom(b, s.loc, Options{State: filepath.Join(dir, "other"), SSH: s.opts.SSH}, 1, filepath.Join(dir, "pulled")))
		os.RemoveAll(dir)
	}
	f.report(b)
}
