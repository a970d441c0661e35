package debian

import (
	"fmt"
	"io/fs"
	"iter"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// aptSource is one suite of one archive, as sources.list(5) describes it.
type aptSource struct {
	URI        string
	Suite      string     // ends in "/" for an archive without components
	Components []string   // none for an archive without components
	Archs      []string   // none means any
	Fields     []aptField // further options in the words of the deb822 format, such as Signed-By
}

// aptField is an option with its name written the usual way: Signed-By.
type aptField struct{ Name, Value string }

// field is the value of an option, "" when it is not set.
func (s *aptSource) field(name string) string {
	for _, f := range s.Fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// with is s with an option set, or taken away with "".
func (s aptSource) with(name, value string) aptSource {
	fields := slices.DeleteFunc(slices.Clone(s.Fields), func(f aptField) bool { return f.Name == name })
	if value != "" {
		fields = append(fields, aptField{name, value})
	}
	s.Fields = fields
	return s
}

// has reports whether the source offers packages of the architecture.
func (s *aptSource) has(arch string) bool {
	return len(s.Archs) == 0 || slices.Contains(s.Archs, arch)
}

// machineSources reads every enabled source of binary packages below dir, in
// apt's order: sources.list, then sources.list.d by name.
func machineSources(dir string) ([]aptSource, error) {
	var all []aptSource
	parts, err := os.ReadDir(filepath.Join(dir, "sources.list.d"))
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	files := []string{"sources.list"}
	for _, p := range parts {
		files = append(files, filepath.Join("sources.list.d", p.Name()))
	}
	for _, name := range files {
		list, err := readSources(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("apt's %w", err)
		}
		all = append(all, list...)
	}
	return all, nil
}

func readSources(path string) ([]aptSource, error) {
	parse := map[string]func(string) ([]aptSource, error){".list": parseOneLine, ".sources": parseDeb822}[filepath.Ext(path)]
	if parse == nil {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := parse(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}

// parseOneLine reads the one-line format: deb [options] uri suite component...
func parseOneLine(text string) ([]aptSource, error) {
	var all []aptSource
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "deb-src") {
			continue
		}
		s, err := parseSourceLine(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, s)
	}
	return all, nil
}

func parseSourceLine(line string) (aptSource, error) {
	var s aptSource
	rest, ok := strings.CutPrefix(line, "deb")
	if !ok || rest == strings.TrimLeft(rest, " \t") {
		return s, fmt.Errorf("%q does not begin with deb", line)
	}
	rest = strings.TrimSpace(rest)
	if strings.HasPrefix(rest, "[") {
		options, after, ok := strings.Cut(rest[1:], "]")
		if !ok {
			return s, fmt.Errorf("%q has no ] after its options", line)
		}
		rest = after
		for _, o := range strings.Fields(options) {
			name, value, _ := strings.Cut(o, "=")
			s.set(aptField{textproto.CanonicalMIMEHeaderKey(strings.TrimRight(name, "+-")), strings.ReplaceAll(value, ",", " ")})
		}
	}
	words := strings.Fields(rest)
	if len(words) < 2 || len(words) == 2 && !strings.HasSuffix(words[1], "/") {
		return s, fmt.Errorf("%q is not of the form deb URI SUITE COMPONENT", line)
	}
	s.URI, s.Suite, s.Components = words[0], words[1], words[2:]
	return s, nil
}

// set sets an option, by its name in either format.
func (s *aptSource) set(f aptField) {
	switch f.Name {
	case "Arch", "Architectures":
		s.Archs = strings.Fields(f.Value)
	case "Components":
		s.Components = strings.Fields(f.Value)
	case "Lang", "Languages", "Target", "Targets", "Description", "X-Repolib-Name":
	default:
		s.Fields = append(s.Fields, f)
	}
}

// paragraphEnd is a blank line, or several, with the line break before it.
var paragraphEnd = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\n(?:[ \t\r]*\n)+`)
})

// parseDeb822 reads paragraphs of fields. Each pair of a URI and a suite gives
// one source.
func parseDeb822(text string) ([]aptSource, error) {
	var all []aptSource
	for _, paragraph := range paragraphEnd().Split(text, -1) {
		s, enabled := aptSource{}, true
		words := map[string][]string{"Types": {"deb"}}
		list := slices.Collect(fields(paragraph))
		for _, f := range list {
			switch f.Name {
			case "Types", "Uris", "Suites":
				words[f.Name] = strings.Fields(f.Value)
			case "Enabled":
				enabled = !slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(f.Value))
			default:
				s.set(f)
			}
		}
		if len(list) == 0 || !enabled || !slices.Contains(words["Types"], "deb") {
			continue
		}
		if len(words["Uris"]) == 0 || len(words["Suites"]) == 0 {
			return nil, fmt.Errorf("a paragraph has no URIs or no Suites")
		}
		for _, uri := range words["Uris"] {
			for _, suite := range words["Suites"] {
				s.URI, s.Suite = uri, suite
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// fields reads deb822 text, whatever its paragraphs. A continued value keeps its
// lines, each after a line break and a space.
func fields(text string) iter.Seq[aptField] {
	return func(yield func(aptField) bool) {
		var name string
		var value strings.Builder
		for line := range strings.Lines(text) {
			line = strings.TrimRight(line, " \t\r\n")
			switch {
			case line == "" || line[0] == '#':
			case line[0] == ' ' || line[0] == '\t':
				value.WriteString("\n " + strings.TrimSpace(line))
			default:
				if name != "" && !yield(aptField{name, value.String()}) {
					return
				}
				first, rest, _ := strings.Cut(line, ":")
				name = textproto.CanonicalMIMEHeaderKey(first)
				value.Reset()
				value.WriteString(strings.TrimSpace(rest))
			}
		}
		if name != "" {
			yield(aptField{name, value.String()})
		}
	}
}

// renderSources writes sources in the deb822 format. Neighbours that differ
// in the suite alone share a paragraph.
func renderSources(sources []aptSource) string {
	var b strings.Builder
	for i := 0; i < len(sources); {
		s := sources[i]
		suites := []string{s.Suite}
		for i++; i < len(sources) && sameArchive(s, sources[i]); i++ {
			suites = append(suites, sources[i].Suite)
		}
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "Types: deb\nURIs: %s\nSuites: %s\n", s.URI, strings.Join(suites, " "))
		if len(s.Components) > 0 {
			fmt.Fprintf(&b, "Components: %s\n", strings.Join(s.Components, " "))
		}
		if len(s.Archs) > 0 {
			fmt.Fprintf(&b, "Architectures: %s\n", strings.Join(s.Archs, " "))
		}
		for _, f := range s.Fields {
			fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
		}
	}
	return b.String()
}

func sameArchive(a, b aptSource) bool {
	return a.URI == b.URI && slices.Equal(a.Components, b.Components) && slices.Equal(a.Archs, b.Archs) && slices.Equal(a.Fields, b.Fields)
}

// publicSources is sources without user names and passwords, for the image,
// and for programs that read them from a file of their own.
func publicSources(sources []aptSource) []aptSource {
	out := slices.Clone(sources)
	for i := range out {
		out[i].URI = withoutPassword(out[i].URI)
	}
	return out
}

// imageKeyrings lists the keyrings that the image's sources refer to and that
// no package of Debian brings.
func imageKeyrings(sources []aptSource) []string {
	var files []string
	for _, s := range sources {
		signed := s.field("Signed-By")
		if strings.Contains(signed, armorBegin) {
			continue // the keys themselves, of which a line can look like a path
		}
		for _, f := range strings.Fields(strings.ReplaceAll(signed, ",", " ")) {
			if filepath.IsAbs(f) && !strings.HasPrefix(filepath.Base(f), "debian-archive-") && !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	return files
}

// mirrorList replaces a mirror+file: URI by the first mirror of its list.
func mirrorList(uri string) (string, error) {
	path, ok := strings.CutPrefix(uri, "mirror+file:")
	if !ok {
		return uri, nil
	}
	path = "/" + strings.TrimLeft(path, "/")
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("list of mirrors: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) > 0 {
			return words[0], nil
		}
	}
	return "", fmt.Errorf("list of mirrors %s is empty", path)
}

// codename is what the machine's system calls its own release, and whether
// that system is Debian.
func codename(osRelease string) (name string, debian bool) {
	data, err := os.ReadFile(osRelease)
	if err != nil {
		return "", false
	}
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[k] = strings.Trim(v, `"'`)
	}
	return values["VERSION_CODENAME"], values["ID"] == "debian"
}

// localPath is the directory of a file: or copy: URI.
func localPath(uri string) (string, bool) {
	scheme, path, _ := strings.Cut(uri, ":")
	return "/" + strings.TrimLeft(path, "/"), scheme == "file" || scheme == "copy"
}

// remote reports whether a source needs the network.
func remote(s aptSource) bool {
	_, local := localPath(s.URI)
	return !local
}

// fileExists reports whether there is a regular file at path.
func fileExists(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().Type()&fs.ModeType == 0
}
