package debian

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// What a bootstrap installs is decided by apt alone: which packages, in which
// versions. When the archive has changed since it was asked last, mmdebstrap
// resolves the call without installing anything, and the set of packages that
// comes out is what the step counts by. So an update of the archive that
// touches none of these packages runs nothing.
//
// The set may hold a package that is not installed in the end: mmdebstrap
// resolves what it installs second as if nothing had been installed first. It
// never lacks one, which Run checks: then the archive has moved on since.

// resolution is the packages that a bootstrap installs.
type resolution struct {
	State    string   // of the archive that they were found in, hexadecimal
	Packages []string // "NAME VERSION ARCHITECTURE SHA256", sorted
}

// sum stands for the packages.
func (r *resolution) sum() []byte {
	h := sha256.Sum256([]byte(strings.Join(r.Packages, "\n")))
	return h[:]
}

// covers reports whether every package of other is one of these.
func (r *resolution) covers(other *resolution) bool {
	return !slices.ContainsFunc(other.Packages, func(p string) bool {
		_, found := slices.BinarySearch(r.Packages, p)
		return !found
	})
}

// resolved is what the call comes to with the archive in that state: as
// resolved before, else now. If the archive can't be asked it is what was
// resolved last.
func (b *bootstrap) resolved(ctx context.Context, w *engine.World, sources []aptSource, state []byte) (*resolution, error) {
	file := b.resolutionFile(w.Store, sources)
	last, ok := readResolution(file)
	if ok && (w.Offline || last.State == hex.EncodeToString(state)) {
		return last, nil
	}
	if w.Offline {
		return nil, fmt.Errorf("what %s has of the packages is not known and b9 is offline: build once with network, or pin it with snapshot=", withoutPassword(sources[0].URI))
	}
	now, err := b.resolve(ctx, w.Store, sources, ok)
	var down *unreachableError
	if ok && errors.As(err, &down) {
		return last, nil
	}
	if err != nil {
		return nil, err
	}
	now.State = hex.EncodeToString(state)
	writeResolution(file, now)
	return now, nil
}

// resolutionFile is where the answer for this call is kept.
func (b *bootstrap) resolutionFile(st *store.Store, sources []aptSource) string {
	text := fmt.Sprintf("%s %s %s %q\n%s", b.Suite, b.Arch, b.Variant, b.Packages, renderSources(publicSources(sources)))
	sum := sha256.Sum256([]byte(text))
	return filepath.Join(aptCache(st), fmt.Sprintf("packages-%x.json", sum[:16]))
}

// readResolution reads what was resolved; a damaged one is as good as none.
func readResolution(file string) (*resolution, bool) {
	var r resolution
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &r) != nil || len(r.Packages) == 0 {
		return nil, false
	}
	return &r, true
}

// writeResolution keeps what was resolved. Losing it costs some seconds.
func writeResolution(file string, r *resolution) {
	data, err := json.Marshal(r)
	if err != nil || store.MkdirAll(filepath.Dir(file), 0o755) != nil {
		return
	}
	renameio.WriteFile(file, data, 0o644, renameio.WithTempDir(filepath.Dir(file)))
}

// resolve asks mmdebstrap what it would install. The package lists that it has
// fetched for that are kept for the installation. Where there is an older answer it
// gives up early.
func (b *bootstrap) resolve(ctx context.Context, st *store.Store, sources []aptSource, older bool) (r *resolution, err error) {
	scratch, err := st.Scratch("apt-resolve")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	var said bytes.Buffer
	t := &tooling{bootstrap: b, sources: unchecked(sources), dir: scratch.Dir(), root: filepath.Join(scratch.Dir(), "root"), log: &said}
	if err := t.prepare(ctx); err != nil {
		return nil, err
	}
	merge := t.merged() != ""
	run := func() error { return t.simulate(ctx, &said, merge) }
	if older {
		err = run()
	} else {
		err = persist(ctx, io.Discard, run, func() error { return os.RemoveAll(t.root) })
	}
	if err == nil && merge && !t.offers("usr-is-merged") {
		err = errors.Join(os.RemoveAll(t.root))
		if err == nil {
			err = t.simulate(ctx, &said, false)
		}
	}
	if err != nil {
		return nil, err
	}
	if r, err = t.packages(chosen(said.Bytes())); err == nil {
		t.keepLists(t.listCache(st, sources))
	}
	return r, err
}

// unchecked is the sources without their signatures: what is resolved is never
// installed, and keys that another step makes do not exist yet.
func unchecked(sources []aptSource) []aptSource {
	out := slices.Clone(sources)
	for i, s := range out {
		out[i] = s.with("Signed-By", "").with("Trusted", "yes")
	}
	return out
}

// simulate lets mmdebstrap do everything but download and install, and keeps
// what it said.
func (t *tooling) simulate(ctx context.Context, said *bytes.Buffer, merge bool) error {
	said.Reset()
	preferences := ""
	if merge {
		preferences = noUsrmerge
	}
	if err := os.WriteFile(t.path("preferences"), []byte(preferences), 0o644); err != nil {
		return err
	}
	mode := "--mode=root"
	if os.Geteuid() != 0 {
		mode = "--mode=chrootless" // which needs no rights as long as nothing is installed
	}
	return t.mmdebstrap(ctx, nil, mode, "--simulate", `--aptopt=Dir::Etc::Preferences "`+t.path("preferences")+`"`)
}

// noUsrmerge keeps apt from merging by a package what is merged from the beginning.
const noUsrmerge = "Package: usrmerge\nPin: release *\nPin-Priority: -1\n"

// lists is where apt keeps package lists, below the root.
const lists = "var/lib/apt/lists"

// listFiles names the package lists that apt has fetched.
func (t *tooling) listFiles() []string {
	names, _ := filepath.Glob(filepath.Join(t.root, lists, "*_Packages"))
	return names
}

// offers reports whether the lists have a package of that name.
func (t *tooling) offers(name string) bool {
	return slices.ContainsFunc(t.listFiles(), func(list string) bool {
		data, err := os.ReadFile(list)
		return err == nil && bytes.Contains(data, []byte("Package: "+name+"\n"))
	})
}

// offered lists the names of the packages in the lists.
func (t *tooling) offered() []string {
	var names []string
	for _, list := range t.listFiles() {
		// A list that can't be read has nothing to suggest.
		_ = eachPackage(list, func(p listed) {
			name, _, _ := strings.Cut(p.key, " ")
			names = append(names, name)
		})
	}
	return names
}

// listCache is where the lists of these sources are kept between resolving and
// installing. They are a help: apt compares them with what the archive has signed.
func (b *bootstrap) listCache(st *store.Store, sources []aptSource) string {
	return filepath.Join(aptCache(st), strings.Replace(strings.TrimSuffix(b.answerName(sources), ".json"), "release", "lists", 1))
}

// keepLists moves the package lists to dir. Those of a moment ago make way.
func (t *tooling) keepLists(dir string) {
	kept := t.path("lists")
	if os.Mkdir(kept, 0o755) != nil {
		return
	}
	for _, list := range t.listFiles() {
		os.Rename(list, filepath.Join(kept, filepath.Base(list)))
	}
	os.Rename(dir, t.path("lists.old"))
	os.Rename(kept, dir)
}

// simulated is a line of apt-get --simulate about a package that it would
// install: Inst NAME (VERSION ARCHIVES [ARCHITECTURE]).
var simulated = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^(?:I: )?Inst (\S+?)(?::\S+)? (?:\[[^]]*\] )?\((\S+) .*\[(\S+)\]`)
})

// chosen is the packages that apt-get --simulate said it would install.
func chosen(said []byte) map[string]bool {
	wanted := map[string]bool{}
	for _, m := range simulated().FindAllSubmatch(said, -1) {
		wanted[string(bytes.Join(m[1:], []byte(" ")))] = true
	}
	return wanted
}

// installed is the packages that are in the root.
func (t *tooling) installed() (map[string]bool, error) {
	found := map[string]bool{}
	err := eachPackage(filepath.Join(t.root, "var/lib/dpkg/status"), func(p listed) {
		if p.status == "install ok installed" {
			found[p.key] = true
		}
	})
	return found, err
}

// packages looks packages up in the lists, each as "NAME VERSION ARCHITECTURE".
func (t *tooling) packages(wanted map[string]bool) (*resolution, error) {
	r, found := &resolution{}, map[string]bool{}
	for _, list := range t.listFiles() {
		err := eachPackage(list, func(p listed) {
			if wanted[p.key] {
				found[p.key] = true
				r.Packages = append(r.Packages, p.key+" "+p.sum)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(r.Packages)
	r.Packages = slices.Compact(r.Packages)
	if len(found) == 0 || len(found) < len(wanted) {
		return nil, fmt.Errorf("the package lists have %d of the %d packages that were chosen from them: please report this", len(found), len(wanted))
	}
	return r, nil
}

// listed is what counts of a package in a list, or in dpkg's own.
type listed struct {
	key    string // "NAME VERSION ARCHITECTURE"
	sum    string // SHA-256, hexadecimal
	status string // for dpkg
}

// eachPackage reads a list of packages (deb822(5)).
func eachPackage(list string, visit func(listed)) error {
	f, err := os.Open(list)
	if err != nil {
		return err
	}
	defer f.Close()
	p := map[string]string{}
	end := func() {
		if p["Package"] != "" {
			visit(listed{p["Package"] + " " + p["Version"] + " " + p["Architecture"], p["SHA256"], p["Status"]})
		}
		clear(p)
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "":
			end()
		case "Package", "Version", "Architecture", "SHA256", "Status":
			p[field] = value
		}
	}
	end()
	return lines.Err()
}
