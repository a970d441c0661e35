package debian

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAccess reads what the machine's apt has of users and passwords.
func TestAccess(t *testing.T) {
	etc := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sources.list", "deb http://ann:p%40ss@mirror.example/debian/ bookworm main\ndeb http://open.example/debian bookworm main\n")
	write("sources.list.d/b.sources", "Types: deb\nURIs: https://bob:word@other.example:8443/x\nSuites: bookworm bookworm-updates\nComponents: main\n")
	write("auth.conf", "machine old.example login a password first")
	write("auth.conf.d/b.conf", "machine new.example\n  login b\n  password second\n")
	write("auth.conf.d/ignored", "machine z login z password third")
	a, err := accessIn(t.Context(), etc, []string{"http://cy:fourth@given.example/debian", ""})
	if err != nil {
		t.Fatal(err)
	}
	want := `machine http://given.example/debian login cy password fourth
machine http://mirror.example/debian login ann password p@ss
machine https://other.example:8443/x login bob password word
machine old.example login a password first
machine new.example
  login b
  password second

`
	if string(a.Logins) != want {
		t.Errorf("logins are\n%s\nwant\n%s", a.Logins, want)
	}
	for _, secret := range []string{"p@ss", "word", "first", "second", "fourth"} {
		if !strings.Contains(strings.Join(a.Secrets, " "), secret) {
			t.Errorf("%q is no secret: %q", secret, a.Secrets)
		}
	}
}

// TestAccessLetsAptIn downloads with apt from a server that wants a password,
// with nothing but the logins.
func TestAccessLetsAptIn(t *testing.T) {
	needRoot(t)
	if !fileExists(aptHelper) {
		t.Skip("needs " + aptHelper + " of the Debian package apt")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ann" || password != "hunter2" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	logins := filepath.Join(t.TempDir(), "auth.conf")
	download := func(mirror string) error {
		a, err := accessIn(t.Context(), t.TempDir(), []string{mirror})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(logins, a.Logins, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = hostOutput(t.Context(), aptHelper, "-o", "Dir::Etc::netrc="+logins, "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=0",
			"download-file", server.URL+"/debian/file", filepath.Join(t.TempDir(), "got"))
		return err
	}
	if err := download(""); err == nil {
		t.Error("the server wants no password")
	}
	if err := download(strings.Replace(server.URL, "http://", "http://ann:hunter2@", 1) + "/debian"); err != nil {
		t.Errorf("with the password: %v", err)
	}
}

// TestMirrorsAreKnownWithoutUsers takes users out and puts them back.
func TestMirrorsAreKnownWithoutUsers(t *testing.T) {
	given := []string{"http://ann:p%40ss@m.example/debian", "deb [trusted=yes] https://bob@n.example/x ./", "http://o.example/a@b"}
	b := &bootstrap{Suite: "s"}
	b.Mirrors, b.Users = withoutUsers(given)
	if got := strings.Join(b.Mirrors, " "); strings.Contains(got, "ann") || strings.Contains(got, "bob") || !strings.HasSuffix(got, "o.example/a@b") {
		t.Errorf("the key has %q", b.Mirrors)
	}
	sources, err := b.given()
	if err != nil || len(sources) != 3 {
		t.Fatal(sources, err)
	}
	for i, want := range []string{given[0], "https://bob@n.example/x", given[2]} {
		if sources[i].URI != want {
			t.Errorf("apt is told %q, want %q", sources[i].URI, want)
		}
	}
}
