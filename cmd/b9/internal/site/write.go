package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

//go:embed page.html
var skeleton string

//go:embed site.css
var style []byte

//go:embed site.js
var script []byte

var layout = sync.OnceValue(func() *template.Template { return template.Must(template.New("page").Parse(skeleton)) })

// page is a page of the site.
type page struct {
	file       string // in the tree
	URL, Title string
	text, body string // Markdown and HTML
}

// writer makes a site.
type writer struct {
	source, dir string
	pages       map[string]*page // by file
	order       []*page
	others      map[string]bool // files of the tree that pages link to
	pictures    map[string]bool // and those that they show
	sections    []section
}

// write writes all of it.
func (s *writer) write() error {
	for _, p := range s.order {
		if err := s.render(p); err != nil {
			return err
		}
	}
	for _, p := range s.order {
		if err := s.put(p); err != nil {
			return err
		}
	}
	if err := s.writeOthers(); err != nil {
		return err
	}
	for name := range s.pictures {
		data, err := os.ReadFile(filepath.Join(s.source, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if err := s.file(name, data); err != nil {
			return err
		}
	}
	return s.writeShared()
}

// writeShared writes what all pages use.
func (s *writer) writeShared() error {
	index, err := json.Marshal(s.sections)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"site.css": style, "site.js": script, "search.js": slices.Concat([]byte("const sections = "), index, []byte(";\n"))} {
		if err := s.file(name, data); err != nil {
			return err
		}
	}
	return nil
}

// entry is a line of the contents, as one page shows it.
type entry struct {
	URL, Title string
	Here       bool
}

// chapter is a part of the contents, as one page shows it.
type chapter struct {
	Title   string
	Entries []entry
}

// put writes a page.
func (s *writer) put(p *page) error {
	var chapters []chapter
	for _, part := range contents() {
		c := chapter{Title: part.Title}
		for _, file := range part.Files {
			to := s.pages[file]
			c.Entries = append(c.Entries, entry{relative(p.URL, to.URL), to.Title, to == p})
		}
		chapters = append(chapters, c)
	}
	var b strings.Builder
	err := layout().Execute(&b, map[string]any{
		"Title": p.Title, "Root": strings.Repeat("../", strings.Count(p.URL, "/")),
		"Chapters": chapters, "Body": template.HTML(p.body), // of the project's own documents
	})
	if err != nil {
		return err
	}
	return s.file(p.URL, []byte(b.String()))
}

// otherURL is the page of a file or directory of the tree.
func otherURL(file string) string { return "tree/" + file + ".html" }

// writeOthers writes a page for each file of the tree that is linked to, and for those that
// the pages of directories link to.
func (s *writer) writeOthers() error {
	var todo []string
	for file := range s.others {
		todo = append(todo, file)
	}
	slices.Sort(todo)
	done := map[string]bool{}
	for len(todo) > 0 {
		file := todo[0]
		todo = todo[1:]
		if done[file] {
			continue
		}
		done[file] = true
		more, err := s.other(file)
		if err != nil {
			return err
		}
		todo = append(todo, more...)
	}
	return nil
}

// other writes the page of one file or directory, and returns what it links to.
func (s *writer) other(file string) (more []string, err error) {
	p := &page{file: file, URL: otherURL(file), Title: file}
	from := filepath.Join(s.source, filepath.FromSlash(file))
	info, err := os.Stat(from)
	if err != nil {
		return nil, err
	}
	p.body = fmt.Sprintf("<h1>%s</h1>\n", template.HTMLEscapeString(file))
	if info.IsDir() {
		more, err = s.list(p, from)
	} else {
		var data []byte
		data, err = os.ReadFile(from)
		p.body += fmt.Sprintf("<pre tabindex=\"0\"><code>%s</code></pre>\n", template.HTMLEscapeString(string(data)))
	}
	if err != nil {
		return nil, err
	}
	return more, s.put(p)
}

// list adds the files of a directory to its page, and returns those that are no pages yet.
func (s *writer) list(p *page, from string) (more []string, err error) {
	found, err := os.ReadDir(from)
	if err != nil {
		return nil, err
	}
	p.body += "<ul>\n"
	for _, f := range found {
		if f.IsDir() {
			continue
		}
		name := path.Join(p.file, f.Name())
		to := otherURL(name)
		if known := s.pages[name]; known != nil {
			to = known.URL
		} else {
			more = append(more, name)
		}
		p.body += fmt.Sprintf("<li><a href=\"%s\">%s</a></li>\n", template.HTMLEscapeString(relative(p.URL, to)), template.HTMLEscapeString(f.Name()))
	}
	p.body += "</ul>\n"
	return more, nil
}

// file writes one file of the site.
func (s *writer) file(name string, data []byte) error {
	to := filepath.Join(s.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
