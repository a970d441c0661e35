package debian

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const machineDeb822 = `
# This file says where packages come from.

# the archive
Types: deb deb-src
URIs: http://user:pw@mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
uris: http://mirror.example/debian-security/
Suites: bookworm-security
Components: main
# in the middle
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
# in a value
 mQINBGQ

Types: deb
Enabled: no
URIs: http://off.example/
Suites: bookworm
Components: main

Types: deb-src
URIs: http://src.example/
Suites: bookworm
Components: main
`

const machineOneLine = `
deb [arch=amd64,arm64 signed-by=/etc/apt/keyrings/x.gpg trusted=yes] https://node.example/node nodistro main # a comment
#deb http://off.example/ bookworm main
deb-src http://src.example/ bookworm main
deb http://flat.example/repo ./
`

// machineDir is an apt configuration in a temporary directory.
func machineDir(t *testing.T, osRelease string, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "apt")
	if err := os.MkdirAll(filepath.Join(dir, "sources.list.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	files["../os-release"] = osRelease
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const hostRelease = "ID=debian\nVERSION_CODENAME=bookworm\n"

func bookwormMachine(t *testing.T) string {
	return machineDir(t, hostRelease, map[string]string{
		"sources.list":                  machineOneLine,
		"sources.list.d/debian.sources": machineDeb822,
		"sources.list.d/old.list.save":  "nonsense",
	})
}

// brief lists sources one a line.
func brief(sources []aptSource) string {
	var lines []string
	for _, s := range sources {
		line := s.URI + " " + s.Suite + " " + strings.Join(s.Components, ",")
		if k := s.field("Signed-By"); strings.HasPrefix(k, "/") {
			line += " " + filepath.Base(k)
		} else if k != "" {
			line += " inline"
		}
		if s.field("Check-Valid-Until") == "no" {
			line += " no-expiry"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestMachineSources(t *testing.T) {
	all, err := machineSources(bookwormMachine(t))
	if err != nil {
		t.Fatal(err)
	}
	want := `https://node.example/node nodistro main x.gpg
http://flat.example/repo ./ 
http://user:pw@mirror.example/debian bookworm main debian-archive-keyring.gpg
http://user:pw@mirror.example/debian bookworm-updates main debian-archive-keyring.gpg
http://user:pw@mirror.example/debian bookworm-backports main debian-archive-keyring.gpg
http://mirror.example/debian-security/ bookworm-security main inline`
	if got := brief(all); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if s := all[0]; s.has("i386") || !s.has("arm64") || s.field("Trusted") != "yes" {
		t.Errorf("options were not understood: %+v", s)
	}
	again, err := parseDeb822(renderSources(all))
	if err != nil || brief(again) != brief(all) || again[5].field("Signed-By") != "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBGQ" {
		t.Errorf("what was rendered reads back as:\n%s\n%v", brief(again), err)
	}
	if text := renderSources(publicSources(all)); strings.Contains(text, "pw") || !strings.Contains(text, "URIs: http://mirror.example/debian\n") {
		t.Errorf("a password is left in:\n%s", text)
	}
}

func TestSourceMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"deb http://x/ bookworm":      `line 1: "deb http://x/ bookworm" is not of the form deb URI SUITE COMPONENT`,
		"\n\nrpm http://x/ y z":       `line 3: "rpm http://x/ y z" does not begin with deb`,
		"deb [arch=amd64 http://x/ y": `line 1: "deb [arch=amd64 http://x/ y" has no ] after its options`,
	} {
		if _, err := parseOneLine(text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	if _, err := parseDeb822("Types: deb\nURIs: http://x/\n"); err == nil || err.Error() != "a paragraph has no URIs or no Suites" {
		t.Errorf("got %v", err)
	}
}

func TestChooseSources(t *testing.T) {
	const debianKeys = " debian-archive-keyring.gpg"
	needKeyring(t)
	own := bookwormMachine(t)
	ubuntu := machineDir(t, "ID=ubuntu\nVERSION_CODENAME=noble\n", map[string]string{"sources.list": "deb http://ubuntu.example/ubuntu noble main universe\n"})
	for _, test := range []struct {
		name string
		b    *bootstrap
		want string // or an error
	}{
		{"own suite", &bootstrap{Suite: "bookworm", Apt: own}, `http://user:pw@mirror.example/debian bookworm main debian-archive-keyring.gpg
http://user:pw@mirror.example/debian bookworm-updates main debian-archive-keyring.gpg
http://user:pw@mirror.example/debian bookworm-backports main debian-archive-keyring.gpg
http://mirror.example/debian-security/ bookworm-security main inline`},
		{"other suite", &bootstrap{Suite: "trixie", Apt: own}, `http://user:pw@mirror.example/debian trixie main debian-archive-keyring.gpg
http://user:pw@mirror.example/debian trixie-updates main debian-archive-keyring.gpg
http://mirror.example/debian-security/ trixie-security main inline`},
		{"rolling suite", &bootstrap{Suite: "sid", Apt: own}, `http://user:pw@mirror.example/debian sid main debian-archive-keyring.gpg`},
		{"old suite", &bootstrap{Suite: "buster", Apt: own, Components: []string{"main", "contrib"}}, `http://user:pw@mirror.example/debian buster main,contrib debian-archive-keyring.gpg
http://user:pw@mirror.example/debian buster-updates main,contrib debian-archive-keyring.gpg
http://mirror.example/debian-security/ buster/updates main,contrib inline`},
		{"fewer suites", &bootstrap{Suite: "bookworm", Apt: own, Suites: []string{"bookworm", "bookworm-proposed-updates"}}, `http://user:pw@mirror.example/debian bookworm main debian-archive-keyring.gpg
http://user:pw@mirror.example/debian bookworm-proposed-updates main debian-archive-keyring.gpg`},
		{"wrong architecture", &bootstrap{Suite: "nodistro", Arch: "i386", Apt: own}, `the sources have no packages of nodistro for i386: give mirror=`},
		{"other system", &bootstrap{Suite: "noble", Apt: ubuntu}, `http://ubuntu.example/ubuntu noble main,universe`},
		{"Debian on another system", &bootstrap{Suite: "trixie", Apt: ubuntu}, "this machine's apt has no source that offers trixie: give mirror=, such as http://HOST/debian"},
		{"mirror", &bootstrap{Suite: "bookworm", Apt: own, Mirrors: []string{"http://m.example/debian", "deb [trusted=yes] copy:/srv/repo ./"}},
			"http://m.example/debian bookworm main" + debianKeys + "\ncopy:/srv/repo ./ "},
		{"mirror and keyring", &bootstrap{Suite: "x", Apt: own, Mirrors: []string{"http://m.example/debian"}, Keyring: "/k.gpg"}, "http://m.example/debian x main k.gpg"},
		{"snapshot", &bootstrap{Suite: "bookworm", Apt: own, Snapshot: "20261101T000000Z"},
			"snapshot= needs mirror=: the address of a snapshot service, such as http://HOST/archive/debian"},
		{"snapshot of a mirror", &bootstrap{Suite: "bookworm", Apt: own, Snapshot: "20261101T000000Z", Mirrors: []string{"http://s.example/archive/debian/"}},
			"http://s.example/archive/debian/20261101T000000Z/ bookworm main" + debianKeys + " no-expiry"},
		{"no snapshots there", &bootstrap{Suite: "bookworm", Apt: own, Snapshot: "20261101T000000Z", Mirrors: []string{"http://m.example/debian"}},
			"http://m.example/debian has not the layout of a snapshot service, which snapshot= needs: give one such as http://HOST/archive/debian"},
		{"no mirror", &bootstrap{Suite: "bookworm", Apt: own, Mirrors: []string{"mirror"}}, `"mirror" is neither a URL such as http://HOST/debian nor a line that begins with deb`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.b.Arch == "" {
				test.b.Arch = "amd64"
			}
			sources, err := test.b.sources()
			got := brief(sources)
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// needKeyring skips the test where Debian's keys are not installed.
func needKeyring(t *testing.T) {
	t.Helper()
	if !fileExists("/usr/share/keyrings/debian-archive-keyring.gpg") {
		t.Skip("needs the Debian package debian-archive-keyring")
	}
}

func TestMirrorList(t *testing.T) {
	list := filepath.Join(t.TempDir(), "mirrors.list")
	if err := os.WriteFile(list, []byte("# near\n\nhttp://near.example/debian priority:1\nhttp://far.example/debian\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := mirrorList("mirror+file:" + list)
	if err != nil || got != "http://near.example/debian" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := mirrorList("mirror+file:/does/not/exist"); err == nil {
		t.Error("a list that is not there is no error")
	}
}

func FuzzSources(f *testing.F) {
	f.Add(machineOneLine)
	f.Add(machineDeb822)
	f.Add("deb [")
	f.Fuzz(func(t *testing.T, text string) {
		if list, err := parseOneLine(text); err == nil {
			renderSources(publicSources(list))
		}
		list, err := parseDeb822(text)
		if err != nil {
			return
		}
		renderSources(publicSources(list))
	})
}

// TestKeysAmongSources: of keys that stand in the sources themselves no line is a path.
func TestKeysAmongSources(t *testing.T) {
	keys := "\n " + armorBegin + "\n .\n /hRkugD/fenkivBaOmDf5J1xvZyWuFZicvGqLbo5TP2O8r0nIQ4=\n =abcd\n " + armorEnd
	sources := []aptSource{
		{URI: "http://a/", Fields: []aptField{{"Signed-By", keys}}},
		{URI: "http://b/", Fields: []aptField{{"Signed-By", "/b.gpg, /c.gpg"}}},
	}
	if got := imageKeyrings(sources); !slices.Equal(got, []string{"/b.gpg", "/c.gpg"}) {
		t.Errorf("the image's keyrings are %q", got)
	}
}
