package debian

import (
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// aptSource is one suite of one archive, as sources.list(5) describes it.
type aptSource struct {
	URI        string
	Suite      string     // ends in "/" for an archive without components
	Components []string   // none for an archive without components
	Archs      []string   // none means any
	Fields     []aptField // further options in the words of the deb822 format, such as Signed-By
}

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
			s.option(o)
		}
	}
	words := strings.Fields(rest)
	if len(words) < 2 || len(words) == 2 && !strings.HasSuffix(words[1], "/") {
		return s, fmt.Errorf("%q is not of the form deb URI SUITE COMPONENT", line)
	}
	s.URI, s.Suite, s.Components = words[0], words[1], words[2:]
	return s, nil
}

// option reads one name=value of a source line.
func (s *aptSource) option(text string) {
	name, value, _ := strings.Cut(text, "=")
	name = strings.TrimRight(name, "+-")
	value = strings.ReplaceAll(value, ",", " ")
	switch name = fieldName(name); name {
	case "Arch":
		s.Archs = strings.Fields(value)
	case "Lang", "Target":
	default:
		s.Fields = append(s.Fields, aptField{name, value})
	}
}

// fieldName writes a field's name the usual way: Signed-By.
func fieldName(name string) string {
	words := strings.Split(strings.ToLower(name), "-")
	for i, w := range words {
		if w != "" {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "-")
}

// parseDeb822 reads paragraphs of fields. Each pair of a URI and a suite gives
// one source.
func parseDeb822(text string) ([]aptSource, error) {
	var all []aptSource
	for _, p := range paragraphs(text) {
		s := aptSource{}
		var uris, suites []string
		types, enabled := []string{"deb"}, true
		for _, f := range p {
			words := strings.Fields(f.Value)
			switch f.Name {
			case "Types":
				types = words
			case "Uris":
				uris = words
			case "Suites":
				suites = words
			case "Components":
				s.Components = words
			case "Architectures":
				s.Archs = words
			case "Enabled":
				enabled = !slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(f.Value))
			case "Languages", "Targets", "Description", "X-Repolib-Name":
			default:
				s.Fields = append(s.Fields, f)
			}
		}
		if !enabled || !slices.Contains(types, "deb") {
			continue
		}
		if len(uris) == 0 || len(suites) == 0 {
			return nil, fmt.Errorf("a paragraph has no URIs or no Suites")
		}
		for _, uri := range uris {
			for _, suite := range suites {
				s.URI, s.Suite = uri, suite
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// paragraphs splits deb822 text into fields. A continued value keeps its
// lines, each after a line break and a space.
func paragraphs(text string) [][]aptField {
	var all [][]aptField
	var p []aptField
	for line := range strings.Lines(text + "\n\n") {
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case line == "":
			if len(p) > 0 {
				all = append(all, p)
			}
			p = nil
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if len(p) > 0 {
				p[len(p)-1].Value += "\n " + strings.TrimSpace(line)
			}
		default:
			name, value, _ := strings.Cut(line, ":")
			p = append(p, aptField{fieldName(name), strings.TrimSpace(value)})
		}
	}
	return all
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

// publicSources is sources without user names and passwords, for the image.
func publicSources(sources []aptSource) []aptSource {
	out := slices.Clone(sources)
	for i := range out {
		if u, err := url.Parse(out[i].URI); err == nil && u.User != nil {
			u.User = nil
			out[i].URI = u.String()
		}
	}
	return out
}

// keyFiles lists the files that say which keys the sources are signed with.
func keyFiles(sources []aptSource) []string {
	var files []string
	for _, s := range sources {
		for _, f := range strings.Fields(strings.ReplaceAll(s.field("Signed-By"), ",", " ")) {
			if filepath.IsAbs(f) && !slices.Contains(files, f) {
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
	for _, scheme := range []string{"file:", "copy:"} {
		if rest, ok := strings.CutPrefix(uri, scheme); ok {
			return "/" + strings.TrimLeft(rest, "/"), true
		}
	}
	return "", false
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
