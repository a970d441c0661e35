// Package lsp is the language server, `b9 lsp`: it answers an editor about the build files
// and libraries of a workspace, over standard input and output, as the Language Server
// Protocol 3.16 has it.
//
//	server     the conversation; hides the protocol
//	document   a file as the editor has it
//	cursor     what is around a place of a file that is being written
//	workspace  what evaluation knows: targets, and mistakes
//
// What Starlark text says is asked of package style, and the graph of package session.
package lsp

import (
	"context"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/sourcegraph/jsonrpc2"
	"github.com/spf13/cobra"
	"github.com/tliron/glsp"
	protocol "github.com/tliron/glsp/protocol_3_16"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/style"
	"b9.build/b9/cmd/b9/internal/session"
)

// Command is `b9 lsp`.
func Command(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:  "lsp",
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), p) },
	}
}

// server is one conversation with an editor.
type server struct {
	program    *session.Program
	conn       *jsonrpc2.Conn
	handler    protocol.Handler
	operations []lang.Operation

	mu        sync.Mutex
	documents map[string]*document // by path
	workspace *workspace
}

// stream is standard input and output.
type stream struct {
	io.Reader
	io.Writer
}

func (stream) Close() error { return nil }

func serve(ctx context.Context, p *session.Program) error {
	s := &server{program: p, operations: builtins.Operations(builtins.Settings{}), documents: map[string]*document{}}
	s.handler = protocol.Handler{
		Initialize: s.initialize, Initialized: func(*glsp.Context, *protocol.InitializedParams) error { return nil },
		Shutdown:               func(*glsp.Context) error { return nil },
		SetTrace:               func(*glsp.Context, *protocol.SetTraceParams) error { return nil },
		TextDocumentDidOpen:    s.opened,
		TextDocumentDidChange:  s.changed,
		TextDocumentDidSave:    s.saved,
		TextDocumentDidClose:   s.closed,
		TextDocumentCompletion: s.complete,
		TextDocumentHover:      s.hover,
		TextDocumentDefinition: s.define,
		TextDocumentFormatting: s.format,
	}
	s.mu.Lock() // the first message may be there already
	s.conn = jsonrpc2.NewConn(ctx, jsonrpc2.NewBufferedStream(stream{p.In, p.Out}, jsonrpc2.VSCodeObjectCodec{}), jsonrpc2.HandlerWithError(s.handle))
	s.mu.Unlock()
	select {
	case <-s.conn.DisconnectNotify():
	case <-ctx.Done():
	}
	s.mu.Lock()
	opened := s.workspace
	s.mu.Unlock()
	if opened != nil {
		opened.close()
	}
	return ctx.Err()
}

// handle answers one message. They come one at a time.
func (s *server) handle(_ context.Context, conn *jsonrpc2.Conn, r *jsonrpc2.Request) (any, error) {
	c := glsp.Context{Method: r.Method}
	if r.Params != nil {
		c.Params = *r.Params
	}
	if r.Method == "exit" {
		return nil, conn.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, known, valid, err := s.handler.Handle(&c)
	switch {
	case !known:
		return nil, &jsonrpc2.Error{Code: jsonrpc2.CodeMethodNotFound, Message: "b9 does not answer " + r.Method}
	case !valid:
		return nil, &jsonrpc2.Error{Code: jsonrpc2.CodeInvalidParams, Message: r.Method + ": parameters that are none of the protocol's"}
	case err != nil:
		return nil, &jsonrpc2.Error{Code: jsonrpc2.CodeInternalError, Message: err.Error()}
	}
	return answer, nil
}

func (s *server) initialize(_ *glsp.Context, params *protocol.InitializeParams) (any, error) {
	if params.RootURI != nil {
		if dir := pathOf(*params.RootURI); dir != "" {
			if st, err := os.Stat(dir); err == nil && st.IsDir() {
				s.program.Dir = dir
			}
		}
	}
	if s.workspace != nil {
		return nil, errors.New("initialize: it was called before")
	}
	var err error
	if s.workspace, err = s.openWorkspace(); err != nil {
		return nil, err
	}
	full, yes := protocol.TextDocumentSyncKindFull, true
	version := session.Version().Version
	return protocol.InitializeResult{
		ServerInfo: &protocol.InitializeResultServerInfo{Name: "b9", Version: &version},
		Capabilities: protocol.ServerCapabilities{
			TextDocumentSync:           &protocol.TextDocumentSyncOptions{OpenClose: &yes, Change: &full, Save: true},
			CompletionProvider:         &protocol.CompletionOptions{TriggerCharacters: []string{`"`, "'", ":", "/", "@", "("}},
			HoverProvider:              true,
			DefinitionProvider:         true,
			DocumentFormattingProvider: true,
		},
	}, nil
}

func (s *server) opened(_ *glsp.Context, params *protocol.DidOpenTextDocumentParams) error {
	d := &document{path: pathOf(params.TextDocument.URI), text: params.TextDocument.Text}
	s.documents[d.path] = d
	s.diagnose(d)
	s.workspace.evaluate(d.path)
	return nil
}

func (s *server) changed(_ *glsp.Context, params *protocol.DidChangeTextDocumentParams) error {
	d := s.document(params.TextDocument.URI)
	for _, change := range params.ContentChanges {
		if whole, ok := change.(protocol.TextDocumentContentChangeEventWhole); ok {
			d.text = whole.Text
		}
	}
	s.diagnose(d)
	return nil
}

func (s *server) saved(_ *glsp.Context, params *protocol.DidSaveTextDocumentParams) error {
	d := s.document(params.TextDocument.URI)
	s.diagnose(d)
	s.workspace.evaluate(d.path)
	return nil
}

func (s *server) closed(_ *glsp.Context, params *protocol.DidCloseTextDocumentParams) error {
	delete(s.documents, pathOf(params.TextDocument.URI))
	return nil
}

func (s *server) format(_ *glsp.Context, params *protocol.DocumentFormattingParams) ([]protocol.TextEdit, error) {
	d := s.document(params.TextDocument.URI)
	laid, err := style.Format(filepath.Base(d.path), []byte(d.text))
	if err != nil {
		return nil, err
	}
	if string(laid) == d.text {
		return []protocol.TextEdit{}, nil
	}
	return []protocol.TextEdit{{Range: protocol.Range{End: d.end()}, NewText: string(laid)}}, nil
}

// document is one that the editor has open; what it has not is read.
func (s *server) document(uri string) *document {
	path := pathOf(uri)
	if d := s.documents[path]; d != nil {
		return d
	}
	data, _ := os.ReadFile(path) // one that is gone is empty
	return &document{path: path, text: string(data)}
}

// source is the document as text is looked at.
func (d *document) source() *style.File {
	return &style.File{Path: d.path, Name: filepath.Base(d.path), Data: []byte(d.text)}
}

// checker knows the libraries as they are now.
func (s *server) checker() *style.Checker {
	return style.NewChecker(s.workspace.root, s.operations)
}

// pathOf is the file of a URI, or "".
func pathOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "file" {
		return ""
	}
	return filepath.Clean(u.Path)
}

func uriOf(path string) string {
	return (&url.URL{Scheme: "file", Path: path}).String()
}
