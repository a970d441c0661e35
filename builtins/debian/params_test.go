package debian

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// built is what a call of bootstrap() made.
type built struct {
	t   *testing.T
	ran int
	img string // path
	log string
}

// has reports whether the image has a file, and is a check of one case.
func (b *built) has(path string) bool {
	return !strings.Contains(debugfs(b.t, b.img, "stat "+path), "File not found")
}

func (b *built) cat(path string) string { return debugfs(b.t, b.img, "cat "+path) }

// attach mounts the image $0, read-only, with more options where $1 gives some. It tries
// again where others were quicker to take the loop device that was free.
const attach = `attach() {
	tries=0
	until told=$(mount -o loop,ro$1 "$0" /mnt 2>&1); do
		tries=$((tries + 1))
		[ $tries -lt 200 ] || { echo "$told" >&2; exit 1; }
		sleep 0.1
	done
}
`

// mounted is what commands print beside which the image is mounted at /mnt. They may
// attach it again.
func (b *built) mounted(commands string) string {
	out, err := exec.Command("unshare", "--mount", "sh", "-ec", attach+"attach; "+commands, b.img).CombinedOutput()
	if err != nil {
		b.t.Errorf("%v: %s", err, out)
	}
	return string(out)
}

// header is a line of dumpe2fs -h.
func (b *built) header(name string) string {
	out, err := exec.Command("dumpe2fs", "-h", b.img).Output()
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if n, v, ok := strings.Cut(line, ":"); ok && n == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// callOf evaluates a call in a workspace of its own that holds the files, and
// builds it.
func callOf(t *testing.T, st *store.Store, d Defaults, files map[string]string, call string) (*built, error) {
	t.Helper()
	return callWith(t, st, d, image.Defaults{}, files, call)
}

// callWith is callOf with defaults of the file system.
func callWith(t *testing.T, st *store.Store, d Defaults, fs image.Defaults, files map[string]string, call string) (*built, error) {
	t.Helper()
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", "B9BUILD.star": call + "\n"})
	builtinstest.WriteWorkspace(t, root, files)
	w, err := lang.Open(t.Context(), lang.Config{Root: root, Operations: []lang.Operation{Bootstrap(d, fs)}})
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.Resolve(t.Context(), []string{"//:base"})
	if err != nil {
		return nil, err
	}
	b := &built{t: t}
	var log strings.Builder
	e := engine.New(engine.Config{Store: st, Events: func(ev engine.Event) {
		if ev.Type == engine.StepLog {
			log.WriteString(ev.Line + "\n")
		}
	}})
	ref := g.Targets[0].Refs[0]
	r, err := e.Build(t.Context(), ref)
	b.log = log.String()
	if err != nil {
		return b, err
	}
	x, err := r.Artifact(ref).Expose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	b.ran, b.img = r.Executed, x.Path
	return b, e.Close()
}

// parameterCase is a live test of a parameter: a call and what must be so of
// what it makes and would not be without the parameter.
type parameterCase struct {
	params string // after name=, suite= and mirror=, unless it gives them
	seen   func(b *built) bool
}

// parameterCases has a case for every parameter of bootstrap().
func parameterCases(a *smallArchive, keyring string) map[string]parameterCase {
	mirror := fmt.Sprintf("suite = \"small\", mirror = %q, ", a.URL+"/debian")
	keyed := fmt.Sprintf(mirror+"keyring = %q", keyring)
	with := func(params string) string { return keyed + ", " + params }
	return map[string]parameterCase{
		"suite": {fmt.Sprintf("suite = \"other\", mirror = %q, keyring = %q", a.URL+"/debian", keyring), func(b *built) bool {
			return b.has("/usr/share/of-other") && strings.Contains(b.cat("/"+sourcesFile), "Suites: other")
		}},
		"packages": {with(`packages = ["tool"]`), func(b *built) bool { return b.cat("/usr/share/tool") == "1\n" && b.has("/usr/share/lib") }},
		"arch": {fmt.Sprintf(`suite = "foreign", mirror = %q, keyring = %q, arch = "ppc64el"`, a.URL+"/debian", keyring), func(b *built) bool {
			return strings.TrimSpace(b.cat("/var/lib/dpkg/arch")) == "ppc64el"
		}},
		"variant":    {with(`variant = "essential"`), func(b *built) bool { return !b.has("/usr/share/required") && b.has("/usr/bin/dpkg") }},
		"components": {with(`components = ["main", "extra"], packages = ["bonus"]`), func(b *built) bool { return b.has("/usr/share/bonus") }},
		"suites":     {with(`suites = ["small", "small-updates"], packages = ["tool"]`), func(b *built) bool { return b.cat("/usr/share/tool") == "2\n" }},
		"mirror":     {fmt.Sprintf(`suite = "small", mirror = ["deb [trusted=yes] %s/debian small main", "deb [trusted=yes] %[1]s/site small main"], packages = ["sited"]`, a.URL), func(b *built) bool { return b.has("/usr/share/sited") }},
		"keyring": {keyed, func(b *built) bool {
			return strings.Contains(b.cat("/"+sourcesFile), "Signed-By: /etc/apt/keyrings/archive-keyring.") && b.has("/etc/apt/keyrings/archive-keyring.gpg")
		}},
		"snapshot": {fmt.Sprintf(`suite = "small", mirror = %q, snapshot = "20261101T000000Z", keyring = %q, packages = ["tool"]`, a.URL+"/archive/debian", keyring), func(b *built) bool {
			return b.cat("/usr/share/tool") == "0.9\n" && strings.Contains(b.cat("/"+sourcesFile), "/20261101T000000Z/")
		}},
		"size": {with(`size = "64M"`), func(b *built) bool { st, err := os.Stat(b.img); return err == nil && st.Size() == 64<<20 }},
		"free": {with(`free = "300M"`), func(b *built) bool {
			st, err := os.Stat(b.img)
			return err == nil && st.Size() > 300<<20 && st.Size() < 400<<20
		}},
		"fs": {with(`fs = "xfs"`), func(b *built) bool { return b.mounted("stat -f -c %T /mnt; cat /mnt/usr/share/required") == "xfs\n1\n" }},
		"subvolume": {with(`fs = "btrfs", subvolume = "@"`), func(b *built) bool {
			return b.mounted("cat /mnt/usr/share/required; umount /mnt; attach ,subvolid=5; ls /mnt; cat /mnt/@/usr/share/required") == "1\n@\n1\n"
		}},
		"label":       {with(`label = "rootfs"`), func(b *built) bool { return b.header("Filesystem volume name") == "rootfs" }},
		"uuid":        {with(`uuid = "01234567-89ab-cdef-0123-456789abcdef"`), func(b *built) bool { return b.header("Filesystem UUID") == "01234567-89ab-cdef-0123-456789abcdef" }},
		"features":    {with(`features = ["^64bit"]`), func(b *built) bool { return !strings.Contains(b.header("Filesystem features"), "64bit") }},
		"inode_ratio": {with(`size = "64M", inode_ratio = "64K"`), func(b *built) bool { return b.header("Inode count") == "1024" }},
		"reserved":    {with(`size = "64M", reserved = 5`), func(b *built) bool { return b.header("Reserved block count") != "0" }},
		"canonical": {with(`canonical = True, packages = ["tool"]`), func(b *built) bool {
			return strings.Contains(debugfs(b.t, b.img, "stat /usr/share/tool"), "mtime: 0x00000000")
		}},
		"refresh": {with(`refresh = "1h", packages = ["tool"]`), nil}, // TestRefreshOfACall
		"name":    {keyed, func(b *built) bool { return b.has("/usr/bin/dpkg") }},
	}
}

// publishForParameters makes what the cases need, signed.
func publishForParameters(a *smallArchive) {
	a.publish("small", "amd64", suiteLists{
		"main":  append(essential(), more("tool", "1", "Depends: lib\n"), more("lib", "1", "")),
		"extra": {more("bonus", "1", "")},
	})
	a.publish("small-updates", "amd64", suiteLists{"main": {more("tool", "2", "Depends: lib\n")}})
	other := append(essential(), more("of-other", "1", "Priority: required\n"))
	a.publish("other", "amd64", suiteLists{"main": other})
	a.publish("foreign", "ppc64el", suiteLists{"main": essentialOf("ppc64el")})
	a.publishAt("site", "small", "amd64", suiteLists{"main": {more("sited", "1", "")}})
	a.publishAt("archive/debian/20261101T000000Z", "small", "amd64", suiteLists{"main": append(essential(), more("tool", "0.9", ""))})
}

// TestEveryParameterHasAnEffect walks the table of parameters, so that one without
// a live test fails.
func TestEveryParameterHasAnEffect(t *testing.T) {
	a := newSmallArchive(t)
	keyring := a.sign(false)
	publishForParameters(a)
	w := testWorld(t)
	cases := parameterCases(a, keyring)
	for _, p := range params() {
		c, ok := cases[p.Name]
		if !ok {
			t.Errorf("%s has no live test", p.Name)
			continue
		}
		if c.seen == nil {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			if p.Name == "arch" {
				needEmulator(t)
			}
			b, err := callOf(t, w.Store, Defaults{}, nil, `bootstrap(name = "base", `+c.params+`)`)
			if err != nil {
				t.Fatalf("%v\n%s", err, b.log)
			}
			if !c.seen(b) {
				t.Errorf("bootstrap(%s) shows no effect", c.params)
			}
		})
	}
}

// TestKeyringForms: binary or armoured, a file of the machine or of the workspace,
// below a directory that only root can enter.
func TestKeyringForms(t *testing.T) {
	for _, armored := range []bool{false, true} {
		a := newSmallArchive(t)
		key := a.sign(armored)
		a.publish("small", "amd64", suiteLists{"main": essential()})
		data, err := os.ReadFile(key)
		if err != nil {
			t.Fatal(err)
		}
		closed := filepath.Join(t.TempDir(), "closed")
		if err := os.MkdirAll(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		private := filepath.Join(closed, "key")
		if err := os.WriteFile(private, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, where := range []string{"key.bin", private} {
			call := fmt.Sprintf(`bootstrap(name = "base", suite = "small", mirror = %q, keyring = %q)`, a.URL+"/debian", where)
			b, err := callOf(t, testWorld(t).Store, Defaults{}, map[string]string{"key.bin": string(data)}, call)
			if err != nil {
				t.Errorf("armoured %v, %s: %v\n%s", armored, where, err, b.log)
				continue
			}
			ext := map[bool]string{false: "gpg", true: "asc"}[armored]
			if kept := b.cat("/etc/apt/keyrings/archive-keyring." + ext); !bytes.Equal([]byte(kept), data) {
				t.Errorf("armoured %v, %s: the image has another keyring", armored, where)
			}
		}
	}
}

// TestKeyringOfAnother: what the keys have not signed is not installed, whatever
// lists lie in the cache.
func TestKeyringOfAnother(t *testing.T) {
	a := newSmallArchive(t)
	a.sign(false)
	wrong := newSmallArchive(t).sign(false)
	a.publish("small", "amd64", suiteLists{"main": essential()})
	call := fmt.Sprintf(`bootstrap(name = "base", suite = "small", mirror = %q, keyring = %q)`, a.URL+"/debian", wrong)
	st := testWorld(t).Store
	for range 2 {
		b, err := callOf(t, st, Defaults{}, nil, call)
		if err == nil || !strings.Contains(err.Error(), "the signature of "+a.URL+"/debian can't be checked") {
			t.Errorf("got %v\n%s", err, b.log)
		}
	}
}

// TestRefreshOfACall holds that refresh= limits the age of an answer.
func TestRefreshOfACall(t *testing.T) {
	a := newSmallArchive(t)
	st := testWorld(t).Store
	call := func(refresh string) string {
		return fmt.Sprintf(`bootstrap(name = "base", suite = "small", mirror = "deb [trusted=yes] %s/debian small main", packages = ["tool"], refresh = %q)`, a.URL, refresh)
	}
	for i, step := range []struct{ version, refresh, want string }{{"1", "1h", "1"}, {"2", "1h", "1"}, {"2", "1ms", "2"}} {
		a.publish("small", "amd64", suiteLists{"main": append(essential(), more("tool", step.version, ""))})
		b, err := callOf(t, st, Defaults{}, nil, call(step.refresh))
		if err != nil {
			t.Fatal(err)
		}
		if got := b.cat("/usr/share/tool"); got != step.want+"\n" {
			t.Errorf("build %d: version %q, want %s", i, got, step.want)
		}
	}
}

// TestDefaultsOfTheConfiguration: each of them has an effect.
func TestDefaultsOfTheConfiguration(t *testing.T) {
	a := newSmallArchive(t)
	a.write("debian/.keep", "")
	a.publish("small", "amd64", suiteLists{"main": append(essential(), more("tool", "1", ""))})
	d := Defaults{Mirror: "deb [trusted=yes] " + a.URL + "/debian small main", Refresh: 1}
	st := testWorld(t).Store
	for _, version := range []string{"1", "2"} {
		a.publish("small", "amd64", suiteLists{"main": append(essential(), more("tool", version, ""))})
		b, err := callWith(t, st, d, image.Defaults{Ext4Features: []string{"^64bit"}}, nil, `bootstrap(name = "base", suite = "small", packages = ["tool"])`)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.header("Filesystem features"), "64bit") || b.cat("/usr/share/tool") != version+"\n" {
			t.Errorf("features %s, tool %s", b.header("Filesystem features"), b.cat("/usr/share/tool"))
		}
	}
}
