package debian

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAccessIsNowhereKept installs from a mirror with a password, through a proxy with
// another one, packages whose scripts print all that they can read of both; once to the
// end, and once with a script that fails. The passwords are in no log, error, record,
// image, cache or file of a step that failed.
func TestAccessIsNowhereKept(t *testing.T) {
	a := newSmallArchive(t)
	curious := func(end string) string {
		return `env; for f in $APT_CONFIG /etc/apt/apt.conf.d/* /etc/apt/sources.list.d/* /proc/*/environ; do if [ -r $f ]; then echo $f; cat $f; echo; fi; done; ` + end
	}
	base := append(essential(), curiousPackage("tells", curious("true")), curiousPackage("fails", curious("exit 1")))
	a.publish("small", "amd64", suiteLists{"main": base})
	a.failing(func(w http.ResponseWriter, r *http.Request) bool {
		proxied := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
		if user, word, _ := proxied.BasicAuth(); user != "ann" || word != "proxy/word" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return true
		}
		if user, word, _ := r.BasicAuth(); user != "cy" || word != "mirror@word" {
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	})
	t.Setenv("http_proxy", strings.Replace(a.URL, "http://", "http://ann:proxy%2Fword@", 1))
	t.Setenv("no_proxy", "")
	secrets := []string{"proxy/word", "proxy%2Fword", "mirror@word", "mirror%40word"}
	w := testWorld(t)
	build := func(pkg, word string) (log string, err error) {
		b := a.from("small", pkg)
		b.Mirrors, b.Users = withoutUsers([]string{"deb [trusted=yes] http://cy:" + word + "@mirror.example/debian small main"})
		_, _, log, err = buildOnce(t, w.Store, b)
		if err != nil {
			log += "\n" + err.Error()
		}
		for _, s := range secrets {
			if at := strings.Index(log, s); at >= 0 {
				t.Errorf("with %s the log or the error has %q: …%s…", pkg, s, log[max(0, at-60):min(len(log), at+60)])
			}
		}
		return log, err
	}
	if log, err := build("tells", "mirror%40word"); err != nil {
		t.Fatalf("%v\n%s", err, log)
	} else if !strings.Contains(log, "http_proxy=http://***@") {
		t.Errorf("the script was not run with the proxy:\n%s", log)
	}
	if log, err := build("fails", "mirror%40word"); err == nil {
		t.Errorf("no error:\n%s", log)
	}
	b := a.from("small", "tells")
	b.Mirrors, b.Users = withoutUsers([]string{"deb [trusted=yes] http://cy:mirror%40word@mirror.example/debian small main"})
	if _, err := b.Follows().Fingerprint(t.Context(), w); err != nil {
		t.Errorf("for a step that follows it the archive can't be asked: %v", err)
	}
	secrets = append(secrets, "wrong-word")
	if _, err := build("small-required", "wrong-word"); err == nil || !strings.Contains(err.Error(), "wants a user and a password") {
		t.Errorf("with a wrong password: %v", err)
	}
	t.Setenv("http_proxy", strings.Replace(a.URL, "http://", "http://ann:wrong-word@", 1))
	if _, err := build("usr-is-merged", "mirror%40word"); err == nil || !strings.Contains(err.Error(), "the proxy on the way") {
		t.Errorf("with a wrong password of the proxy: %v", err)
	}
	noneHolds(t, w.Store.Dir(), secrets)
}

// curiousPackage is a package whose installation runs the script.
func curiousPackage(name, script string) smallPackage {
	p := more(name, "1", "")
	p.PostInst = script
	return p
}

// noneHolds reports the files below dir that hold one of the texts.
func noneHolds(t *testing.T, dir string, texts []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, s := range texts {
			if bytes.Contains(data, []byte(s)) {
				t.Errorf("%s holds %q", path, s)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
