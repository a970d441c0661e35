package debian

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
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
	data, err := io.ReadAll(io.LimitReader(r, maxRelease))
	if err != nil {
		return nil, err
	}
	text, _, _ := strings.Cut("\n"+string(data), "\n-----BEGIN PGP SIGNATURE")
	text = strings.ReplaceAll(text, "\n- ", "\n") // what signing does to lines (RFC 9580, 7.2)
	// SHA256 is the one that every archive has, and the only one that is needed.
	digests := []string{"Md5sum", "Sha1", "Sha512", "Sha256"}
	rel, best := &release{}, -1
	for f := range fields(text) {
		switch strength := slices.Index(digests, f.Name); {
		case f.Name == "Components":
			rel.Components = strings.Fields(f.Value)
		case f.Name == "Architectures":
			rel.Archs = strings.Fields(f.Value)
		case strength >= 0 && strength >= best:
			if strength > best {
				best, rel.Lists = strength, map[string]string{}
			}
			rel.list(f.Value)
		}
	}
	if best < 0 {
		return nil, errors.New("it is no Release file: it lists no digests")
	}
	return rel, nil
}

// list reads lines of the form digest, size, path.
func (rel *release) list(lines string) {
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) != 3 {
			continue
		}
		file := strings.TrimPrefix(words[2], "./")
		if name := path.Base(file); name == "Packages" || strings.HasPrefix(name, "Packages.") {
			rel.Lists[file] = words[0]
		}
	}
}

// state digests the package lists that a source takes from the archive. A
// component or architecture that the archive does not have is an error.
func (rel *release) state(s *aptSource, arch string) ([]byte, error) {
	h := sha256.New()
	if strings.HasSuffix(s.Suite, "/") {
		if rel.hash(h, "Packages") == 0 {
			return nil, errors.New("it has no package list")
		}
		return h.Sum(nil), nil
	}
	for _, c := range slices.Compact(slices.Sorted(slices.Values(s.Components))) {
		if rel.hash(h, c+"/binary-"+arch+"/Packages")+rel.hash(h, c+"/binary-all/Packages") == 0 {
			return nil, rel.lacking(c, arch)
		}
	}
	return h.Sum(nil), nil
}

// hash adds the digest of one list and returns how many were found. The
// uncompressed list stands for all forms of it.
func (rel *release) hash(h io.Writer, list string) int {
	n := 0
	for _, ext := range []string{"", ".xz", ".zst", ".bz2", ".gz", ".lzma", ".lz4"} {
		if d, ok := rel.Lists[list+ext]; ok {
			fmt.Fprintf(h, "%s %s\n", list+ext, d)
			if n++; ext == "" {
				break
			}
		}
	}
	return n
}

func (rel *release) lacking(component, arch string) error {
	has := slices.ContainsFunc(rel.Components, func(c string) bool {
		return c == component || strings.HasSuffix(c, "/"+path.Base(component))
	})
	if !has && len(rel.Components) > 0 {
		return errors.New(lang.Suggest(fmt.Sprintf("it has no component %q (%s)", component, lang.Listed(rel.Components)), component, rel.Components))
	}
	archs := slices.DeleteFunc(slices.Clone(rel.Archs), func(a string) bool { return a == "all" })
	return fmt.Errorf("it has no packages for %s in %s (%s)", arch, component, lang.Listed(archs))
}
