package debian

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

const releaseText = `-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Debian
Suite: stable
Codename: bookworm
Date: %s
Architectures: all amd64 i386
Components: main contrib
MD5Sum:
 0ed6d4c8891eb86358b94bb35d9e4da4  1484322 main/binary-amd64/Packages
SHA256:
 %s 45000000 main/binary-amd64/Packages
 aa11 8790000 main/binary-amd64/Packages.xz
 %s 45000000 main/binary-i386/Packages.xz
 cc33 100 contrib/binary-amd64/Packages
-----BEGIN PGP SIGNATURE-----

%s
-----END PGP SIGNATURE-----
`

// releaseOf is an InRelease file with the parts that tests change.
func releaseOf(date, amd64, i386 string) string {
	return fmt.Sprintf(releaseText, date, amd64, i386, date)
}

func TestReleaseState(t *testing.T) {
	state := func(text, arch string, components ...string) string {
		rel, err := parseRelease(strings.NewReader(text))
		if err != nil {
			return err.Error()
		}
		sum, err := rel.state(&aptSource{Suite: "bookworm", Components: components}, arch)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%x", sum)
	}
	base := state(releaseOf("Mon", "a1", "b1"), "amd64", "main")
	for name, test := range map[string]struct {
		text string
		same bool
	}{
		"signed again":       {releaseOf("Tue", "a1", "b1"), true},
		"other architecture": {releaseOf("Mon", "a1", "b2"), true},
		"changed":            {releaseOf("Mon", "a2", "b1"), false},
		"dash-escaped":       {strings.ReplaceAll(releaseOf("Mon", "a1", "b1"), "\nSHA256:", "\n- SHA256:"), true},
	} {
		if got := state(test.text, "amd64", "main"); (got == base) != test.same {
			t.Errorf("%s: got %s, before it was %s", name, got, base)
		}
	}
	for _, test := range []struct{ got, want string }{
		{state(releaseOf("", "a", "b"), "amd64", "mian"), `it has no component "mian" (have main, contrib): did you mean "main"?`},
		{state(releaseOf("", "a", "b"), "arm64", "main"), `it has no packages for arm64 in main (have amd64, i386)`},
		{state("<html>", "amd64", "main"), "it is no Release file: it lists no digests"},
	} {
		if test.got != test.want {
			t.Errorf("got  %s\nwant %s", test.got, test.want)
		}
	}
}

func FuzzRelease(f *testing.F) {
	f.Add(releaseOf("Mon", "a1", "b1"))
	f.Add("SHA256:\n x 1 Packages\n")
	f.Fuzz(func(t *testing.T, text string) {
		rel, err := parseRelease(strings.NewReader(text))
		if err != nil {
			return
		}
		rel.state(&aptSource{Suite: "./"}, "amd64")
		rel.state(&aptSource{Suite: "x", Components: []string{"main"}}, "amd64")
	})
}

// archive is a web server with Release files that counts what is asked.
type archive struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string]string
	asked map[string]int
}

func newArchive(t *testing.T) *archive {
	t.Helper()
	if !fileExists(aptHelper) {
		t.Skip("needs " + aptHelper + " of the Debian package apt")
	}
	a := &archive{files: map[string]string{}, asked: map[string]int{}}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *archive) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked[r.URL.Path]++
	text, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, text)
}

func (a *archive) set(path, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.files[path] = text
}

func (a *archive) count(path string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked[path]
}

func testWorld(t *testing.T) *engine.World {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "store"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return &engine.World{Store: st}
}

// asking is the state of the archive, as a new process would ask for it.
func (a *archive) asking(suite string) *archiveState {
	return &archiveState{Suite: suite, Arch: "amd64", Mirrors: []string{a.URL + "/debian"}, Apt: "/nonexistent", Refresh: time.Hour}
}

func fingerprint(t *testing.T, b engine.Source, w *engine.World) store.Digest {
	t.Helper()
	d, err := b.Fingerprint(context.Background(), w)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const inRelease = "/debian/dists/bookworm/InRelease"

func TestFingerprintFollowsTheArchive(t *testing.T) {
	a, w := newArchive(t), testWorld(t)
	a.set(inRelease, releaseOf("Mon", "a1", "b1"))
	first := fingerprint(t, a.asking("bookworm"), w)
	a.set(inRelease, releaseOf("Tue", "a2", "b1"))
	if fingerprint(t, a.asking("bookworm"), w) != first || a.count(inRelease) != 1 {
		t.Errorf("an answer of a moment ago was not trusted (asked %d times)", a.count(inRelease))
	}
	refresh := *w
	refresh.Refresh = true
	second := fingerprint(t, a.asking("bookworm"), &refresh)
	if second == first || a.count(inRelease) != 2 {
		t.Errorf("a changed archive was not noticed (asked %d times)", a.count(inRelease))
	}
	a.set(inRelease, releaseOf("Wed", "a2", "b2"))
	if fingerprint(t, a.asking("bookworm"), &refresh) != second {
		t.Error("an archive that was only signed again counts as changed")
	}
	old := a.asking("bookworm")
	old.Refresh = time.Nanosecond
	a.set(inRelease, releaseOf("Thu", "a3", "b2"))
	if fingerprint(t, old, w) == second {
		t.Error("refresh= does not limit the age of an answer")
	}
}

// Right before a bootstrap runs, or comes from the cache, an answer that was
// good enough to look it up is not.
func TestRefingerprintWantsAFreshAnswer(t *testing.T) {
	a, w := newArchive(t), testWorld(t)
	a.set(inRelease, releaseOf("Mon", "a1", "b1"))
	b := a.asking("bookworm")
	first := fingerprint(t, b, w)
	a.set(inRelease, releaseOf("Tue", "a2", "b1"))
	again := func() store.Digest {
		d, err := b.Refingerprint(t.Context(), w, first)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if again() != first || a.count(inRelease) != 1 {
		t.Errorf("an answer of a moment ago was not trusted (asked %d times)", a.count(inRelease))
	}
	of := b.bootstrap()
	sources, err := of.sources()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(aptCache(w.Store), of.answerName(sources))
	old, ok := readAnswer(file)
	if !ok {
		t.Fatal("the answer was not kept")
	}
	old.Asked = old.Asked.Add(-2 * freshAnswer)
	writeAnswer(file, old)
	if fingerprint(t, b, w) != first || a.count(inRelease) != 1 {
		t.Errorf("an answer younger than refresh was not trusted (asked %d times)", a.count(inRelease))
	}
	if again() == first || a.count(inRelease) != 2 {
		t.Errorf("an answer of some minutes ago was good enough (asked %d times)", a.count(inRelease))
	}
}

func TestFingerprintOffline(t *testing.T) {
	a, w := newArchive(t), testWorld(t)
	a.set(inRelease, releaseOf("Mon", "a1", "b1"))
	offline := *w
	offline.Offline = true
	_, err := a.asking("bookworm").Fingerprint(context.Background(), &offline)
	if want := "the state of " + a.URL + "/debian is not known and b9 is offline: build once with network, or pin it with snapshot="; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	first := fingerprint(t, a.asking("bookworm"), w)
	a.Close()
	if fingerprint(t, a.asking("bookworm"), &offline) != first {
		t.Error("the last answer was not used offline")
	}
	old := a.asking("bookworm")
	old.Refresh = time.Nanosecond
	if fingerprint(t, old, w) != first {
		t.Error("the last answer was not used although the archive is down")
	}
	_, err = a.asking("trixie").Fingerprint(context.Background(), w)
	if want := "archive " + a.URL + "/debian can't be reached (Could not connect to "; err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), ": check the network, or give mirror= (tried 4 times)") {
		t.Errorf("got  %v\nwant %s...", err, want)
	}
	pinned := &bootstrap{Suite: "bookworm", Arch: "amd64", Mirrors: []string{a.URL + "/archive/debian"}, Snapshot: "20261101T000000Z", Apt: "/nonexistent"}
	fingerprint(t, pinned, &offline)
}

func TestFingerprintForms(t *testing.T) {
	a, w := newArchive(t), testWorld(t)
	a.set("/debian/dists/old/Release", releaseOf("Mon", "a1", "b1"))
	fingerprint(t, a.asking("old"), w)
	a.set("/flat/InRelease", "SHA256:\n aa 10 Packages\n")
	flat := a.asking("whatever")
	flat.Mirrors = []string{"deb [trusted=yes] " + a.URL + "/flat ./"}
	fingerprint(t, flat, w)

	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "dists/bookworm"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dists/bookworm/Release"), []byte(releaseOf("Mon", "a1", "b1")), 0o644); err != nil {
		t.Fatal(err)
	}
	local := a.asking("bookworm")
	local.Mirrors = []string{"file://" + dir}
	fingerprint(t, local, w)
	local = a.asking("bookwurm")
	local.Mirrors = []string{"file://" + dir}
	_, err := local.Fingerprint(context.Background(), w)
	if want := fmt.Sprintf(`unknown suite "bookwurm": file://%s has no Release file for it: check its spelling, or give mirror=`, dir); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestFingerprintMistakes(t *testing.T) {
	a, w := newArchive(t), testWorld(t)
	a.set(inRelease, releaseOf("Mon", "a1", "b1"))
	mirror := a.URL + "/debian"
	component := a.asking("bookworm")
	component.Components = []string{"mian"}
	for _, test := range []struct {
		b    *archiveState
		want string
	}{
		{a.asking("bookwurm"), fmt.Sprintf(`unknown suite "bookwurm": %s has no Release file for it: check its spelling, or give mirror=`, mirror)},
		{component, fmt.Sprintf(`suite bookworm at %s: it has no component "mian" (have main, contrib): did you mean "main"?`, mirror)},
	} {
		if _, err := test.b.Fingerprint(context.Background(), w); err == nil || err.Error() != test.want {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
	}
}

func TestFingerprintPassword(t *testing.T) {
	a, w := newArchive(t), testWorld(t)
	a.set(inRelease, releaseOf("Mon", "a1", "b1"))
	b := a.asking("bookworm")
	b.Mirrors[0] = strings.Replace(b.Mirrors[0], "http://", "http://me:secret@", 1)
	fingerprint(t, b, w)
	b = a.asking("bookwurm")
	b.Mirrors[0] = strings.Replace(b.Mirrors[0], "http://", "http://me:secret@", 1)
	_, err := b.Fingerprint(context.Background(), w)
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.HasPrefix(err.Error(), "unknown suite") {
		t.Errorf("got %v", err)
	}
}
