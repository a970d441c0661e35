package debian

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"b9.build/b9/builtins/lang"
)

// maxRelease bounds a Release file, in bytes. Debian's largest has 2 MB.
const maxRelease = 16 << 20

// release is what counts of an archive's Release file: which package lists
// there are, by their digests. When it was signed, and by whom, does not count.
type release struct {
	Components []string
	Archs      []string
	Lists      map[string]string // digest by path, of every Packages file in any compression
}

// parseRelease reads a Release or InRelease file. Signatures are not
// checked: apt does that when it installs.
func parseRelease(r io.Reader) (*release, error) {
	rel := &release{Lists: map[string]string{}}
	sc := bufio.NewScanner(io.LimitReader(r, maxRelease))
	sc.Buffer(make([]byte, 0, 64<<10), 1<<20)
	section, best := "", ""
	for sc.Scan() {
		line := strings.TrimRight(sc.Text(), " \t\r")
		if strings.HasPrefix(line, "-----BEGIN PGP SIGNATURE") {
			break
		}
		if strings.HasPrefix(line, " ") {
			if section == best {
				rel.list(line)
			}
			continue
		}
		name, value, _ := strings.Cut(strings.TrimPrefix(line, "- "), ":")
		section = name
		switch name {
		case "Components":
			rel.Components = strings.Fields(value)
		case "Architectures":
			rel.Archs = strings.Fields(value)
		case "MD5Sum", "SHA1", "SHA256", "SHA512":
			if best == "" || strength(name) > strength(best) {
				best, rel.Lists = name, map[string]string{}
			}
		}
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if best == "" {
		return nil, errors.New("it is no Release file: it lists no digests")
	}
	return rel, nil
}

// strength orders the sections of digests. SHA256 is the one that every
// archive has, and the only one that is needed.
func strength(section string) int {
	return slices.Index([]string{"MD5Sum", "SHA1", "SHA512", "SHA256"}, section)
}

// list reads a line of the form digest, size, path.
func (rel *release) list(line string) {
	words := strings.Fields(line)
	if len(words) != 3 {
		return
	}
	path := strings.TrimPrefix(words[2], "./")
	name := path[strings.LastIndexByte(path, '/')+1:]
	if name == "Packages" || strings.HasPrefix(name, "Packages.") {
		rel.Lists[path] = words[0]
	}
}

// state digests the package lists that a source takes from the archive. A
// component or architecture that the archive does not have is an error.
func (rel *release) state(s *aptSource, arch string) ([]byte, error) {
	h := sha256.New()
	if strings.HasSuffix(s.Suite, "/") {
		n := rel.hash(h, "Packages")
		if n == 0 {
			return nil, errors.New("it has no package list")
		}
		return h.Sum(nil), nil
	}
	for _, c := range slices.Compact(slices.Sorted(slices.Values(s.Components))) {
		n := rel.hash(h, c+"/binary-"+arch+"/Packages") + rel.hash(h, c+"/binary-all/Packages")
		if n == 0 {
			return nil, rel.lacking(c, arch)
		}
	}
	return h.Sum(nil), nil
}

// hash adds the digest of one list and returns how many were found. The
// uncompressed list stands for all forms of it.
func (rel *release) hash(h io.Writer, path string) int {
	if d, ok := rel.Lists[path]; ok {
		fmt.Fprintf(h, "%s %s\n", path, d)
		return 1
	}
	n := 0
	for _, ext := range []string{".xz", ".zst", ".bz2", ".gz", ".lzma", ".lz4"} {
		if d, ok := rel.Lists[path+ext]; ok {
			fmt.Fprintf(h, "%s %s\n", path+ext, d)
			n++
		}
	}
	return n
}

func (rel *release) lacking(component, arch string) error {
	bare := component[strings.LastIndexByte(component, '/')+1:]
	has := slices.ContainsFunc(rel.Components, func(c string) bool { return c == component || strings.HasSuffix(c, "/"+bare) })
	if !has && len(rel.Components) > 0 {
		return errors.New(lang.Suggest(fmt.Sprintf("it has no component %q (%s)", component, lang.Listed(rel.Components)), component, rel.Components))
	}
	archs := slices.DeleteFunc(slices.Clone(rel.Archs), func(a string) bool { return a == "all" })
	return fmt.Errorf("it has no packages for %s in %s (%s)", arch, component, lang.Listed(archs))
}
