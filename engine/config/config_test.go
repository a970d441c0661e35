package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/size"
)

// write makes a settings file and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b9.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustLoad(t *testing.T, l Layers) *Config {
	t.Helper()
	c, err := Load(l)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func find(t *testing.T, c *Config, key string) Setting {
	t.Helper()
	for _, s := range c.Settings() {
		if s.Key == key {
			return s
		}
	}
	t.Fatalf("no setting %s", key)
	return Setting{}
}

func TestDefaults(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/var/cache/me")
	c := mustLoad(t, Layers{WorkspaceFile: write(t, ""), UserFile: "/nonexistent/config.toml"})
	if c.Store.Dir != "/var/cache/me/b9" || c.Store.MaxSize.Percent != 50 || c.Store.MaxAge.Std() != 720*time.Hour {
		t.Errorf("store: %+v", c.Store)
	}
	if c.Build != (Build{Out: "b9-out", Verbosity: "normal"}) {
		t.Errorf("build: %+v", c.Build)
	}
	if c.Container.Backend != "auto" || c.Container.Network != "nat" || c.Libvirt.URI != "lxc:///" || c.Bootstrap.Refresh.Std() != 10*time.Minute {
		t.Errorf("%+v", c)
	}
	for _, s := range c.Settings() {
		if s.Origin != "default" || s.Value != s.Default {
			t.Errorf("%+v is not the default", s)
		}
	}
}

func TestLayersInOrder(t *testing.T) {
	user := write(t, "[container]\nmemory = '1G'\ncpus = 1\ntimeout = '1m'\nnetwork = 'none'\n[options]\na = 'user'\nb = 'user'\n")
	space := write(t, "[container]\nmemory = '2G'\ncpus = 2.5\ntimeout = '2m'\n\n[options]\nb = 7\nc = true\n")
	l := Layers{UserFile: user, WorkspaceFile: space,
		Env:   []string{"B9_CONTAINER_MEMORY=3G", "B9_CONTAINER_CPUS=3", "B9_CONTAINER_TIMEOUT=", "B9_LEAK_MARK=1", "HOME=/x", "B9_OPTIONS_c=env"},
		Flags: []string{"container.memory=4G", "container.capabilities=sys_admin,net_admin", "options.d=x=y"}}
	c := mustLoad(t, l)
	want := Container{Backend: "auto", Memory: 4 << 30, CPUs: 3, Capabilities: []string{"sys_admin", "net_admin"}, Network: "none", Timeout: size.Duration(2 * time.Minute), TimeoutFactor: 1}
	if !reflect.DeepEqual(c.Container, want) {
		t.Errorf("got %+v\nwant %+v", c.Container, want)
	}
	if got, want := fmt.Sprint(c.Options), "map[a:user b:7 c:env d:x=y]"; got != want {
		t.Errorf("options %s, want %s", got, want)
	}
	for key, origin := range map[string]string{
		"container.memory": "flag -c", "container.cpus": "environment B9_CONTAINER_CPUS", "container.timeout": space + ":4",
		"container.network": user + ":5", "container.backend": "default", "options.c": "environment B9_OPTIONS_c", "options.b": space + ":7",
	} {
		if s := find(t, c, key); s.Origin != origin {
			t.Errorf("%s comes from %q, want %q", key, s.Origin, origin)
		}
	}
}

func TestEveryNotationOfAKey(t *testing.T) {
	for _, doc := range []string{
		"build.jobs = 3", "build = {jobs = 3}", "[build]\njobs = 3", "\"build\".'jobs' = 3", "[ build ] # x\n jobs=3",
	} {
		c := mustLoad(t, Layers{WorkspaceFile: write(t, doc)})
		if s := find(t, c, "build.jobs"); c.Build.Jobs != 3 || !strings.Contains(s.Origin, "b9.toml:") {
			t.Errorf("%q: jobs %d from %s", doc, c.Build.Jobs, s.Origin)
		}
	}
}

func TestPaths(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	f := write(t, "store.dir = 'cache'")
	if c := mustLoad(t, Layers{WorkspaceFile: f}); c.Store.Dir != filepath.Join(filepath.Dir(f), "cache") {
		t.Errorf("a relative path in a file gives %s", c.Store.Dir)
	}
	if c := mustLoad(t, Layers{Flags: []string{"store.dir=~/cache"}}); c.Store.Dir != "/home/me/cache" {
		t.Errorf("a path in the home directory gives %s", c.Store.Dir)
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if c := mustLoad(t, Layers{Env: []string{"B9_STORE_DIR=cache"}}); c.Store.Dir != filepath.Join(wd, "cache") {
		t.Errorf("a relative path in the environment gives %s", c.Store.Dir)
	}
}

// Where results go outside the workspace is for the user to say, not for the
// sources that were fetched from somewhere.
func TestOutOutsideTheWorkspace(t *testing.T) {
	for _, l := range []Layers{{Flags: []string{"build.out=/srv/out"}}, {UserFile: write(t, "build.out = '/srv/out'")}} {
		if c := mustLoad(t, l); c.Build.Out != "/srv/out" {
			t.Errorf("%+v gives %q", l, c.Build.Out)
		}
	}
	_, err := Load(Layers{WorkspaceFile: write(t, "build.out = '/srv/out'")})
	if err == nil || !strings.Contains(err.Error(), "not below the workspace root") {
		t.Errorf("b9.toml: %v", err)
	}
}

func TestNoHome(t *testing.T) {
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	_, err := Load(Layers{UserFile: UserFile()})
	want := "store.dir: there is no home directory to keep finished steps in: set HOME or -c store.dir=DIR"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	mustLoad(t, Layers{Flags: []string{"store.dir=/x"}})
}

func TestUserFile(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", "/etc/me")
	if got := UserFile(); got != "/etc/me/b9/config.toml" {
		t.Errorf("got %q", got)
	}
}

// All mistakes of a file are told at once, in its order, with their places.
func TestFileErrors(t *testing.T) {
	f := write(t, `colour = "red"
[build]
jobs = "three"
out = "../elsewhere"
verbosty = "debug"
[contianer]
memory = "2G"
cpus = 2
[container]
memory = 2
timeout = "4y"
cpus = -1
backend = "embeded"
capabilities = ["a", 3]
network = ["host"]
libvirt.uri = 3
[store.max_size]
x = 3
[libvirt]
emulator = "lxc"
[[fs]]
ext4_features = []
[options]
a.b = 3
c = [1]
`)
	_, err := Load(Layers{WorkspaceFile: f})
	want := `F:1:1: unknown setting "colour"
F:3:1: build.jobs: wants an integer, not the string "three"
F:4:1: build.out: "../elsewhere" is not below the workspace root: use a relative path such as "b9-out"
F:5:1: unknown setting "build.verbosty": did you mean "build.verbosity"?
F:6:2: unknown section [contianer]: did you mean "container"?
F:10:1: container.memory: must be 0 or at least 16MiB (is a unit missing?)
F:11:1: container.timeout: bad duration "4y": want numbers with a unit, w, d, h, m, s or ms, such as "90s" or "30d"
F:12:1: container.cpus: must be at least 0
F:13:1: container.backend: unknown value "embeded" (have auto, embedded, libvirt-lxc): did you mean "embedded"?
F:14:1: container.capabilities: wants a list of strings, but element 2 is the integer 3
F:15:1: container.network: wants a string, not a list
F:16:1: unknown setting "container.libvirt.uri"
F:17:2: store.max_size: wants a size such as "2G", or a share such as "50%", not a table
F:20:1: libvirt.emulator: "lxc" is not an absolute path
F:21:3: fs is a section, not a setting
F:24:1: options.a.b: "a.b" cannot be the name of an option: use letters, digits and _
F:25:1: options.c: wants a string, a number, true or false, not a list`
	compare(t, err, f, want)
}

func compare(t *testing.T, err error, file, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want:\n%s", want)
	}
	if got := strings.ReplaceAll(err.Error(), file, "F"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSyntaxErrors(t *testing.T) {
	for doc, want := range map[string]string{
		"[build]\njobs = \n":          "F:2:8: ",
		"[build]\njobs=1\njobs=2\n":   "F:3:",
		"[build\n":                    "F:1:",
		"x = \"\xff\"":                "F:1:",
		"a = 1\n[a]\nb = 2\n":         "F:",
		"d = 2026-13-45\n":            "F:1:",
		strings.Repeat("a=[", 9) + "": "F:",
	} {
		f := write(t, doc)
		_, err := Load(Layers{WorkspaceFile: f})
		if err == nil || !strings.HasPrefix(strings.ReplaceAll(err.Error(), f, "F"), want) {
			t.Errorf("%q: %v, want %s...", doc, err, want)
		}
	}
}

func TestOtherErrors(t *testing.T) {
	_, err := Load(Layers{
		Env:   []string{"B9_CONTAINER_MEMROY=3G", "B9_BUILD_JOBS=many", "B9_OPTIONS_=x"},
		Flags: []string{"build.keep-going=yes", "build=3", "container.memory=4Q", "oops", "build.keep_going=maybe", "container.cpus=NaN", "build.out=/"},
	})
	compare(t, err, "F", `environment B9_CONTAINER_MEMROY: no setting has this name: did you mean "B9_CONTAINER_MEMORY"?
environment B9_BUILD_JOBS: build.jobs: wants an integer, not "many"
environment B9_OPTIONS_: options.: "" cannot be the name of an option: use letters, digits and _
flag -c build.keep-going=yes: unknown setting "build.keep-going": did you mean "build.keep_going"?
flag -c build=3: build is a section, not a setting
flag -c container.memory=4Q: container.memory: size "4Q": unknown unit "Q" (have K, M, G, T, P or KiB, MiB, GiB, TiB, PiB (powers of 1024), KB, MB, GB, TB, PB (powers of 1000), B)
flag -c oops: wants KEY=VALUE, such as -c container.memory=2G
flag -c build.keep_going=maybe: build.keep_going: wants true or false, not "maybe"
flag -c container.cpus=NaN: container.cpus: must be at least 0
flag -c build.out=/: build.out: results need a directory of their own, not "/": use one such as "b9-out"`)
}

func TestUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(Layers{WorkspaceFile: filepath.Join(dir, "b9.toml")}); err == nil {
		t.Error("a workspace file that is not there was accepted")
	}
	if _, err := Load(Layers{UserFile: dir}); err == nil || !strings.Contains(err.Error(), "not a settings file") {
		t.Errorf("a directory as the user's file: %v", err)
	}
}

// Every field of the schema has a key of its own and says what it means.
func TestSchema(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range schema() {
		if seen[f.key] || strings.HasSuffix(f.key, ".") || len(f.tag.Get("doc")) < 20 {
			t.Errorf("field %+v", f)
		}
		seen[f.key] = true
	}
	if len(seen) != 27 {
		t.Errorf("%d settings, want 27", len(seen))
	}
}

// What a layer sets can be set again by the text that Settings shows.
func TestSettingsRoundTrip(t *testing.T) {
	c := mustLoad(t, Layers{WorkspaceFile: write(t, "[container]\ncpus=1.25\nmemory='1536M'\ntimeout='90s'\ncapabilities=['a','b']\n[build]\nkeep_going=true\njobs=7\n")})
	var flags []string
	for _, s := range c.Settings() {
		flags = append(flags, s.Key+"="+s.Value)
	}
	again := mustLoad(t, Layers{Flags: flags})
	for i, s := range again.Settings() {
		if want := c.Settings()[i]; s.Value != want.Value {
			t.Errorf("%s: %q, want %q", s.Key, s.Value, want.Value)
		}
	}
}

func FuzzDocument(f *testing.F) {
	for _, s := range []string{
		"", "[build]\njobs = 3", "build = {jobs = 3, out = 'x'}", "[[build]]\njobs=1\n[build.x]\ny=1", "a.b.c = [1, {x=2}]",
		"[options]\na = 1.5\nb = 2026-01-01", "\ufeffbuild.jobs=1", "build.jobs = 'x'\n[build.jobs]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := newLoader()
		d.document("/b9.toml", data, true)
		for _, err := range d.errs {
			if !strings.HasPrefix(err.Error(), "/b9.toml") {
				t.Errorf("an error without its place: %v", err)
			}
		}
		d.config.Settings()
	})
}

// TestNoText holds that what is no text is refused with its place.
func TestNoText(t *testing.T) {
	for text, want := range map[string]string{
		"[build]\njobs = 3 # \x00":  ":2:12: a NUL byte can't be part of a text",
		"[build]\n# \xe9\njobs = 3": ":2:3: the byte 0xE9 is not UTF-8",
		"\ufeff[build]\njobs = 3":   ":1:1: a byte-order mark (U+FEFF) begins the text",
	} {
		if _, err := Load(Layers{WorkspaceFile: write(t, text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}
