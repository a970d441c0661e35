package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// part is a part of the contents: a heading, and the documents beneath it, by their path in
// the tree, or by the name of a generated page.
type part struct {
	Title string
	Files []string
}

// contents is the order of the site. Decisions, which are many, follow it by themselves.
func contents() []part {
	return []part{
		{"Begin", []string{"README.md", "docs/install.md", "docs/tutorial.md", "docs/examples.md"}},
		{"How to", []string{"docs/howto-cloud-images.md", "docs/howto-disks.md", "docs/howto-packages.md", "docs/howto-sharing.md", "docs/howto-ci.md", "docs/howto-debugging.md", "docs/howto-secrets.md", "docs/howto-reproducibility.md", "docs/projects.md", "docs/rule-libraries.md", "docs/editors.md", "docs/go-library.md"}},
		{"Explanation", []string{"docs/build-files.md", "docs/caching.md", "docs/security.md", "docs/architecture.md"}},
		{"From other tools", []string{"docs/migration-original.md", "docs/migration.md"}},
		{"Reference", []string{"generated/builtins.md", "generated/commands.md", "generated/settings.md", "docs/output.md", "docs/content.md", "docs/erlang.md", "docs/repositories.md", "docs/store.md"}},
		{"More", []string{"docs/troubleshooting.md", "docs/glossary.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/decisions/README.md"}},
	}
}

// collect reads every page of the contents; a document that is in none is an error.
func (s *writer) collect(generated map[string]string) error {
	for _, part := range contents() {
		for _, file := range part.Files {
			text, ok := generated[file]
			if !ok {
				data, err := os.ReadFile(filepath.Join(s.source, file))
				if err != nil {
					return err
				}
				text = string(data)
			}
			s.add(file, text)
		}
	}
	for _, pattern := range []string{"docs/*.md", "docs/decisions/*.md"} {
		found, err := filepath.Glob(filepath.Join(s.source, pattern))
		if err != nil {
			return err
		}
		for _, name := range found {
			file := path.Join(path.Dir(pattern), filepath.Base(name))
			if s.pages[file] != nil {
				continue
			}
			if path.Dir(pattern) == "docs" {
				return fmt.Errorf("%s is in no part of the site: contents() in parts.go lists them", file)
			}
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			s.add(file, string(data))
		}
	}
	return nil
}

// add makes a document a page.
func (s *writer) add(file, text string) {
	p := &page{file: file, URL: address(file), text: text}
	p.Title = title(text)
	s.pages[file] = p
	s.order = append(s.order, p)
}

// address is the path of a document's page below the site.
func address(file string) string {
	name := strings.TrimSuffix(file, ".md")
	for _, prefix := range []string{"docs/", "generated/"} {
		name = strings.TrimPrefix(name, prefix)
	}
	switch {
	case file == "README.md":
		return "index.html"
	case slices.Contains([]string{"CHANGELOG", "CONTRIBUTING"}, name):
		name = strings.ToLower(name)
	case path.Base(name) == "README":
		name = path.Join(path.Dir(name), "index")
	}
	return name + ".html"
}

// title is the first heading of a document.
func title(text string) string {
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(line, "# "); ok {
			return strings.ReplaceAll(strings.TrimSpace(heading), "`", "")
		}
	}
	return "b9"
}
