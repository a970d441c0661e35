package lsp

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tliron/glsp"
	protocol "github.com/tliron/glsp/protocol_3_16"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/style"
	"b9.build/b9/stdlib"
)

// maxItems bounds how many completions are sent; the editor asks again as more is typed.
const maxItems = 500

// completions collects what may stand at a place.
type completions struct {
	list  []protocol.CompletionItem
	seen  map[string]bool
	start protocol.Range // of what is replaced
	more  bool           // that were left out
}

func (c *completions) add(label, insert, detail, doc string, kind protocol.CompletionItemKind) {
	if c.seen[label] {
		return
	}
	if len(c.list) == maxItems {
		c.more = true
		return
	}
	c.seen[label] = true
	item := protocol.CompletionItem{Label: label, Kind: &kind, TextEdit: protocol.TextEdit{Range: c.start, NewText: insert}}
	if detail != "" {
		item.Detail = &detail
	}
	if doc != "" {
		item.Documentation = protocol.MarkupContent{Kind: protocol.MarkupKindPlainText, Value: doc}
	}
	c.list = append(c.list, item)
}

func (s *server) complete(_ *glsp.Context, params *protocol.CompletionParams) (any, error) {
	d := s.document(params.TextDocument.URI)
	at := cursorAt(d.text, d.offset(params.Position))
	typed := at.typed
	if at.inText {
		typed = at.text
	}
	start := params.Position
	start.Character -= min(start.Character, uint32(len([]rune(typed))))
	c := &completions{seen: map[string]bool{}, start: protocol.Range{Start: start, End: params.Position}}
	switch {
	case at.inText && len(at.calls) == 0 || at.dotted:
	case at.inText && at.call().function == "load" && at.call().args == 0:
		s.completePaths(c, d, at.text)
	case at.inText && at.call().function == "load":
		for _, known := range s.checker().Exports(d.source(), at.call().first) {
			if strings.HasPrefix(known.Name, at.text) {
				c.add(known.Name, known.Name, known.Call, known.Doc, protocol.CompletionItemKindFunction)
			}
		}
	case at.inText:
		s.completeLabels(c, d, at)
	default:
		s.completeNames(c, d, at)
	}
	return protocol.CompletionList{IsIncomplete: c.more, Items: slices.Clip(append([]protocol.CompletionItem{}, c.list...))}, nil
}

// completePaths completes the label of a load statement.
func (s *server) completePaths(c *completions, d *document, typed string) {
	add := func(label string) {
		if strings.HasPrefix(label, typed) {
			c.add(label, label, "", "", protocol.CompletionItemKindFile)
		}
	}
	libraries, _ := stdlib.FS.ReadDir(".") // it is part of the program
	for _, e := range libraries {
		add("@b9//" + e.Name())
	}
	for _, file := range s.libraries() {
		rel, err := filepath.Rel(s.workspace.root, file)
		if err != nil || file == d.path || filepath.Base(file) == lang.BuildFile {
			continue
		}
		dir, name := path.Split(filepath.ToSlash(rel))
		if filepath.Dir(file) == filepath.Dir(d.path) {
			add(":" + name)
		}
		add("//" + strings.TrimSuffix(dir, "/") + ":" + name)
	}
}

// completeLabels completes the label of a target, or one of the words that a parameter of
// a built-in may have.
func (s *server) completeLabels(c *completions, d *document, at cursor) {
	for _, op := range s.operations {
		if op.Name != at.call().function {
			continue
		}
		for _, p := range op.AllParams() {
			if p.Name == at.named && p.Enum != nil {
				completeWords(c, op.Name, p, at.text)
				return
			}
		}
	}
	if !strings.HasPrefix(at.text, ":") && !strings.HasPrefix(at.text, "/") && at.text != "" {
		return
	}
	pkg := s.packageOf(d)
	for _, t := range s.workspace.known() {
		label := t.label
		if short, ok := strings.CutPrefix(label, "//"+pkg+":"); ok && !strings.HasPrefix(at.text, "/") {
			label = ":" + short
		}
		if strings.HasPrefix(label, at.text) {
			c.add(label, label, t.builtin, t.doc, protocol.CompletionItemKindReference)
		}
	}
}

// completeWords completes one of the words that a parameter may have.
func completeWords(c *completions, function string, p lang.Param, typed string) {
	for _, word := range p.Enum {
		if strings.HasPrefix(word, typed) {
			c.add(word, word, function+"("+p.Name+")", p.Doc, protocol.CompletionItemKindEnumMember)
		}
	}
}

// packageOf is how labels of the file's targets begin, without "//".
func (s *server) packageOf(d *document) string {
	rel, err := filepath.Rel(s.workspace.root, d.path)
	if err != nil {
		return ""
	}
	if filepath.Base(rel) == lang.BuildFile {
		rel = strings.TrimPrefix(filepath.Dir(rel), ".")
	}
	return filepath.ToSlash(rel)
}

// completeNames completes parameters of the call that is open, and names.
func (s *server) completeNames(c *completions, d *document, at cursor) {
	symbols := s.symbols(d)
	fits := func(name string) bool { return strings.HasPrefix(name, at.typed) }
	if n := len(at.calls); n > 0 && at.calls[n-1].function != "" && at.named == "" {
		s.completeParams(c, symbols, at.calls[n-1].function, fits)
	}
	for _, known := range symbols {
		if fits(known.Name) {
			kind := protocol.CompletionItemKindVariable
			if known.Call != "" {
				kind = protocol.CompletionItemKindFunction
			}
			c.add(known.Name, known.Name, known.Call, known.Doc, kind)
		}
	}
	for _, op := range s.operations {
		if fits(op.Name) {
			c.add(op.Name, op.Name, "built-in of b9", op.Doc, protocol.CompletionItemKindFunction)
		}
	}
	for _, name := range style.LanguageNames() {
		if fits(name) {
			c.add(name, name, "Starlark", "", protocol.CompletionItemKindKeyword)
		}
	}
}

func (s *server) completeParams(c *completions, symbols []style.Symbol, function string, fits func(string) bool) {
	for _, known := range symbols {
		if known.Name != function {
			continue
		}
		for _, p := range known.Params {
			if fits(p) {
				c.add(p+" =", p+" = ", known.Call, "", protocol.CompletionItemKindField)
			}
		}
		return
	}
	for _, op := range s.operations {
		if op.Name != function {
			continue
		}
		for _, p := range op.AllParams() {
			if fits(p.Name) {
				c.add(p.Name+" =", p.Name+" = ", p.Type.String(), p.Doc, protocol.CompletionItemKindField)
			}
		}
	}
}

// symbols are those of the file: while it is being written, and has mistakes, those of its
// longest part from the beginning that has none.
func (s *server) symbols(d *document) []style.Symbol {
	f := d.source()
	for {
		if all := s.checker().Symbols(f); all != nil || len(f.Data) == 0 {
			return all
		}
		cut := strings.LastIndexByte(strings.TrimRight(string(f.Data), "\n"), '\n')
		f.Data = f.Data[:max(0, cut)]
	}
}
