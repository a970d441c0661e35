package main

import (
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// markdown renders GitHub's Markdown. Documents are the project's own, so that the HTML in
// them, which is anchors, is taken over.
var markdown = sync.OnceValue(func() goldmark.Markdown {
	return goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()), goldmark.WithRendererOptions(html.WithUnsafe()))
})

// comment is a comment of a document, such as what its test prepares.
var comment = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?s)<!--.*?-->\n?`) })

// section is what the search finds: a heading with the text beneath it.
type section struct {
	URL, Page, Title, Text string
}

// render makes the page's HTML, and the sections of it. Links are led to pages of the site.
func (s *writer) render(p *page) error {
	source := []byte(comment().ReplaceAllString(p.text, ""))
	doc := markdown().Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(&anchors{seen: map[string]int{}}))))
	w := walk{s: s, p: p, source: source, current: section{URL: p.URL, Page: p.Title, Title: p.Title}}
	if err := ast.Walk(doc, w.visit); err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	w.end()
	var b bytes.Buffer
	if err := markdown().Renderer().Render(&b, source, doc); err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	p.body = reachable().Replace(b.String())
	return nil
}

// reachable lets keys scroll what may be wider than the page.
var reachable = sync.OnceValue(func() *strings.Replacer {
	return strings.NewReplacer("<table>", `<div class="wide" tabindex="0" role="group" aria-label="Table"><table>`, "</table>", "</table></div>", "<pre>", `<pre tabindex="0">`)
})

// walk goes through a document for its links and its sections.
type walk struct {
	s       *writer
	p       *page
	source  []byte
	current section
	words   strings.Builder
}

// end ends a section.
func (w *walk) end() {
	w.current.Text = strings.Join(strings.Fields(w.words.String()), " ")
	w.s.sections = append(w.s.sections, w.current)
	w.words.Reset()
}

// visit is called for every node, before and after those in it.
func (w *walk) visit(n ast.Node, entering bool) (status ast.WalkStatus, err error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	switch n := n.(type) {
	case *ast.Heading:
		if n.Level > 1 {
			w.end()
			id, _ := n.AttributeString("id")
			w.current = section{URL: fmt.Sprintf("%s#%s", w.p.URL, id), Page: w.p.Title, Title: string(textOf(n, w.source))}
		}
	case *ast.Link:
		n.Destination, err = w.s.follow(w.p, n.Destination)
	case *ast.Image:
		n.Destination, err = w.s.picture(w.p, n.Destination)
	case *ast.Text:
		w.words.Write(n.Segment.Value(w.source))
		w.words.WriteByte(' ')
	case *ast.FencedCodeBlock, *ast.CodeBlock:
		w.words.Write(n.Lines().Value(w.source))
	}
	return ast.WalkContinue, err
}

// textOf is the text of a heading.
func textOf(n ast.Node, source []byte) []byte {
	var b bytes.Buffer
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Segment.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return b.Bytes()
}

// follow is where a link of a page leads on the site: to another page, or to a file of the
// tree, which then becomes a page.
func (s *writer) follow(from *page, destination []byte) ([]byte, error) {
	link := string(destination)
	if strings.Contains(link, "://") || strings.HasPrefix(link, "#") || strings.HasPrefix(link, "mailto:") {
		return destination, nil
	}
	file, anchor, has := strings.Cut(link, "#")
	if has {
		anchor = "#" + anchor
	}
	if file = path.Join(path.Dir(from.file), file); strings.HasPrefix(file, "../") {
		return nil, fmt.Errorf("a link leads out of the tree: %s", link)
	}
	if p := s.pages[file]; p != nil {
		return []byte(relative(from.URL, p.URL) + anchor), nil
	}
	s.others[file] = true
	return []byte(relative(from.URL, otherURL(file)) + anchor), nil
}

// picture is where the site has a picture of the tree.
func (s *writer) picture(from *page, destination []byte) ([]byte, error) {
	file := path.Join(path.Dir(from.file), string(destination))
	s.pictures[file] = true
	return []byte(relative(from.URL, file)), nil
}

// relative is the way from one page to another.
func relative(from, to string) string {
	return strings.Repeat("../", strings.Count(from, "/")) + to
}

// anchors gives headings the names that GitHub gives them, which links of documents have.
type anchors struct{ seen map[string]int }

// Generate implements parser.IDs.
func (a *anchors) Generate(value []byte, _ ast.NodeKind) []byte {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(string(value))) {
		switch {
		case r == ' ' || r == '-':
			b.WriteByte('-')
		case r == '_' || r >= 0x80 || util.IsAlphaNumeric(byte(r)):
			b.WriteRune(r)
		}
	}
	name := b.String()
	n := a.seen[name]
	a.seen[name]++
	if n > 0 {
		name = fmt.Sprintf("%s-%d", name, n)
	}
	return []byte(name)
}

// Put implements parser.IDs.
func (a *anchors) Put(value []byte) { a.seen[string(value)]++ }
