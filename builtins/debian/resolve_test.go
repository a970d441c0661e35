package debian

import (
	"net/http"
	"strings"
	"testing"

	"b9.build/b9/engine/store"
)

// fileOf reads a file of an image that a step made.
func fileOf(t *testing.T, st *store.Store, b *bootstrap, name string) string {
	t.Helper()
	_, a, log, err := buildOnce(t, st, b)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	x, err := a.Expose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	return debugfs(t, x.Path, "cat "+name)
}

// TestBootstrapFollowsItsPackages holds that a change of the archive runs a
// bootstrap again if it concerns a package that is installed, and only then.
func TestBootstrapFollowsItsPackages(t *testing.T) {
	a := newSmallArchive(t)
	st := testWorld(t).Store
	suite := func(tool, lib, other string) suiteLists {
		return suiteLists{"main": append(essential(), more("tool", tool, "Depends: lib\n"), more("lib", lib, ""), more("other", other, ""))}
	}
	for _, step := range []struct {
		what             string
		tool, lib, other string
		runs             int
	}{
		{"never built", "1", "1", "1", 1},
		{"nothing changed", "1", "1", "1", 0},
		{"another package changed", "1", "1", "2", 0},
		{"a package was named and changed", "2", "1", "2", 1},
		{"a package changed that comes along", "2", "2", "3", 1},
		{"another package changed again", "2", "2", "4", 0},
	} {
		a.publish("small", "amd64", suite(step.tool, step.lib, step.other))
		r, _, log, err := buildOnce(t, st, a.from("small", "tool"))
		if err != nil {
			t.Fatalf("%s: %v\n%s", step.what, err, log)
		}
		if r.Executed != step.runs {
			t.Errorf("%s: %d steps ran, want %d", step.what, r.Executed, step.runs)
		}
		if got := fileOf(t, st, a.from("small", "tool"), "/usr/share/lib"); got != step.lib+"\n" {
			t.Errorf("%s: the image has version %q of lib, want %s", step.what, got, step.lib)
		}
	}
}

// TestBootstrapRefusesWhatItDidNotResolve: an archive that moves on between the
// question and the installation must not be recorded as what it was.
func TestBootstrapRefusesWhatItDidNotResolve(t *testing.T) {
	a := newSmallArchive(t)
	w := testWorld(t)
	a.publish("small", "amd64", suiteLists{"main": append(essential(), more("tool", "1", ""))})
	b := a.from("small", "tool")
	b.Refresh = 1 << 40 // the answer of a moment ago is good enough to run
	fingerprint(t, b, w)
	a.publish("small", "amd64", suiteLists{"main": append(essential(), more("tool", "2", ""))})
	_, _, log, err := buildOnce(t, w.Store, b)
	if want := "the archive was changed while the step installed from it: nothing was stored, build again"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want %s\n%s", err, want, log)
	}
	b.Refresh = 1
	if got := fileOf(t, w.Store, b, "/usr/share/tool"); got != "2\n" {
		t.Errorf("the next build has version %q", got)
	}
}

// TestBootstrapSuggestsPackages holds that all misspelt names are told at once, from the
// archive's index, before a package is fetched.
func TestBootstrapSuggestsPackages(t *testing.T) {
	a := newSmallArchive(t)
	a.publish("small", "amd64", suiteLists{"main": append(essential(), more("wireless-tools", "1", ""), more("nginx", "1", ""))})
	var fetched []string
	a.failing(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, ".deb") {
			fetched = append(fetched, r.URL.Path)
		}
		return false
	})
	for _, c := range []struct{ names, want string }{
		{"nginx wirless-tools ngnix", `small has no package for amd64: Unable to locate package wirless-tools: did you mean "wireless-tools"?; Unable to locate package ngnix: did you mean "nginx"?`},
		{"something-else", "small has no package for amd64: Unable to locate package something-else: check its name, or add the component or suite that has it"},
	} {
		_, _, log, err := buildOnce(t, testWorld(t).Store, a.from("small", strings.Fields(c.names)...))
		if err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s:\ngot  %v\nwant %s\n%s", c.names, err, c.want, log)
		}
	}
	if len(fetched) > 0 {
		t.Errorf("fetched before the names were checked: %q", fetched)
	}
}
