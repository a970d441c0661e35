package lsp

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tliron/glsp"
	protocol "github.com/tliron/glsp/protocol_3_16"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/inspect"
	"b9.build/b9/engine"
)

func (s *server) hover(_ *glsp.Context, params *protocol.HoverParams) (*protocol.Hover, error) {
	d := s.document(params.TextDocument.URI)
	offset := d.offset(params.Position)
	text := ""
	if at := cursorAt(d.text, offset); at.inText {
		text = s.describeLabel(d, at.text+at.rest)
	} else {
		text = s.describe(d, d.word(offset))
	}
	if text == "" {
		return nil, nil
	}
	return &protocol.Hover{Contents: protocol.MarkupContent{Kind: protocol.MarkupKindPlainText, Value: text}}, nil
}

// describe says what a name stands for.
func (s *server) describe(d *document, name string) string {
	for _, known := range s.symbols(d) {
		if known.Name == name && known.Call != "" {
			return strings.TrimSpace(known.Call + "\n\n" + known.Doc)
		}
	}
	for _, op := range s.operations {
		if op.Name == name {
			return inspect.Reference(op)
		}
	}
	return ""
}

// describeLabel says what makes a target.
func (s *server) describeLabel(d *document, label string) string {
	t, ok := s.target(d, label)
	if !ok {
		return ""
	}
	return strings.TrimSpace(t.label + ": " + t.builtin + "()\n\n" + t.doc)
}

// target finds the target that a label in the file means.
func (s *server) target(d *document, label string) (target, bool) {
	if !lang.IsLabel(label) {
		return target{}, false
	}
	pkg := s.packageOf(d)
	if strings.HasPrefix(label, ":") {
		label = "//" + pkg + label
	} else if below, ok := strings.CutPrefix(label, "//"); ok && !strings.Contains(below, ":") {
		label += ":" + below[strings.LastIndexByte(below, '/')+1:]
	}
	for _, t := range s.workspace.known() {
		if t.label == label {
			return t, true
		}
	}
	return target{}, false
}

func (s *server) define(_ *glsp.Context, params *protocol.DefinitionParams) (any, error) {
	d := s.document(params.TextDocument.URI)
	offset := d.offset(params.Position)
	at := cursorAt(d.text, offset)
	if !at.inText {
		line, col := d.place(offset)
		if pos, ok := s.checker().Definition(d.source(), line, col); ok {
			return s.location(pos), nil
		}
		return nil, nil
	}
	word := at.text + at.rest
	if at.call().function == "load" {
		return s.defineLoad(d, at, word), nil
	}
	if t, ok := s.target(d, word); ok {
		pos := t.pos
		pos.File = filepath.Join(s.workspace.root, filepath.FromSlash(pos.File))
		return s.location(pos), nil
	}
	return nil, nil
}

// defineLoad is the file that a load statement names, or what it takes out of that.
func (s *server) defineLoad(d *document, at cursor, word string) any {
	if at.call().args == 0 {
		return s.location(engine.Position{File: s.checker().LibraryPath(d.source(), word), Line: 1, Col: 1})
	}
	for _, known := range s.checker().Exports(d.source(), at.call().first) {
		if known.Name == word {
			return s.location(known.Pos)
		}
	}
	return nil
}

// location is nil for what lies in no file: libraries that come with b9.
func (s *server) location(pos engine.Position) any {
	if !filepath.IsAbs(pos.File) {
		return nil
	}
	at := s.document(uriOf(pos.File)).position(pos.Line, pos.Col)
	return protocol.Location{URI: uriOf(pos.File), Range: protocol.Range{Start: at, End: at}}
}

// libraries lists the Starlark files of the workspace.
func (s *server) libraries() []string {
	var files []string
	if s.workspace.root == "" {
		return nil
	}
	// A directory that can't be read has none.
	_ = filepath.WalkDir(s.workspace.root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case e.IsDir() && path != s.workspace.root && (strings.HasPrefix(e.Name(), ".") || path == s.workspace.session.ResultsDir()):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".star"):
			files = append(files, path)
		}
		return nil
	})
	slices.Sort(files)
	return files
}
