package session

import (
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine"
)

// Version says which b9 this is, as far as the build of the program recorded it: Go
// writes the tag and the revision of a checkout into the program, and a module's
// version, which without a tag has the revision and its date in it.
func Version() output.Version {
	v := output.Version{Version: "devel", Revision: "unknown revision", Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		v.Version = strings.TrimPrefix(info.Main.Version, "v")
	}
	if revision, err := module.PseudoVersionRev(info.Main.Version); err == nil {
		v.Revision = revision
	}
	if at, err := module.PseudoVersionTime(info.Main.Version); err == nil {
		v.Date = at.Format(time.DateOnly)
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value[:min(12, len(s.Value))]
		case "vcs.time":
			v.Date, _, _ = strings.Cut(s.Value, "T")
		}
	}
	return v
}

// maxGitFile bounds what is read of one of git's files, in bytes.
const maxGitFile = 64 << 20

// checkedOut says where the sources around a directory come from: the URL of
// git's remote "origin", without user and password, and the commit that is
// checked out. It reads git's files, for git may not be installed and is
// wary of directories of other users; what it can't find out is "".
func checkedOut(dir string) (source, commit string) {
	git := gitDir(dir)
	if git == "" {
		return "", ""
	}
	common := git
	if text := firstLineOf(filepath.Join(git, "commondir")); text != "" {
		common = absoluteFrom(git, text) // of a further worktree
	}
	return originURL(filepath.Join(common, "config")), headOf(git, common)
}

// gitDir finds the directory with HEAD, from dir upwards; "" if there is none.
func gitDir(dir string) string {
	for at := dir; at != ""; at = filepath.Dir(at) {
		path := filepath.Join(at, ".git")
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			return path
		case err == nil:
			to, _ := strings.CutPrefix(firstLineOf(path), "gitdir: ")
			return absoluteFrom(at, to)
		case at == filepath.Dir(at):
			return ""
		}
	}
	return ""
}

func absoluteFrom(dir, path string) string {
	if filepath.IsAbs(path) || path == "" {
		return path
	}
	return filepath.Join(dir, path)
}

// headOf is the commit of HEAD, which may name a branch.
func headOf(git, common string) string {
	head := firstLineOf(filepath.Join(git, "HEAD"))
	ref, named := strings.CutPrefix(head, "ref: ")
	if !named {
		return commitID(head)
	}
	if !filepath.IsLocal(ref) {
		return ""
	}
	if id := commitID(firstLineOf(filepath.Join(common, ref))); id != "" {
		return id
	}
	data, _ := engine.ReadSmall(filepath.Join(common, "packed-refs"), maxGitFile)
	for line := range strings.Lines(string(data)) {
		if id, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == ref {
			return commitID(id)
		}
	}
	return ""
}

// commitID returns text if it is 40 or 64 hexadecimal digits.
func commitID(text string) string {
	if len(text) != 40 && len(text) != 64 || strings.Trim(text, "0123456789abcdef") != "" {
		return ""
	}
	return text
}

// originURL reads the first url of [remote "origin"].
func originURL(config string) string {
	data, _ := engine.ReadSmall(config, maxGitFile)
	inside := false
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = strings.HasPrefix(line, `[remote "origin"]`)
		}
		key, value, _ := strings.Cut(line, "=")
		if inside && strings.EqualFold(strings.TrimSpace(key), "url") {
			return withoutUser(strings.TrimSpace(value))
		}
	}
	return ""
}

// withoutUser returns a URL without user and password; "" for a text with "://"
// that is no URL, since it may hold a password, too.
func withoutUser(text string) string {
	if !strings.Contains(text, "://") {
		return text[strings.Index(text, "@")+1:] // user@host:path
	}
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// firstLineOf is the first line of a small file, "" if it can't be read.
func firstLineOf(path string) string {
	data, err := engine.ReadSmall(path, 4096)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return strings.TrimSpace(line)
}
