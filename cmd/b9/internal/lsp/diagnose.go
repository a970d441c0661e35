package lsp

import (
	"context"
	"errors"

	protocol "github.com/tliron/glsp/protocol_3_16"

	"b9.build/b9/builtins/lang"
)

// diagnose tells the mistakes in the text that the editor has, and what is suspicious.
func (s *server) diagnose(d *document) {
	list := []protocol.Diagnostic{}
	found, err := s.checker().Check(d.source())
	var mistakes lang.Errors
	if errors.As(err, &mistakes) {
		for _, m := range mistakes {
			list = append(list, d.diagnostic(m.Pos.Line, m.Pos.Col, protocol.DiagnosticSeverityError, "", m.Msg))
		}
	}
	for _, f := range found {
		list = append(list, d.diagnostic(f.Pos.Line, f.Pos.Col, protocol.DiagnosticSeverityWarning, f.Rule, f.Text))
	}
	s.publish(d.path, list)
}

// publishMistakes tells what evaluation found in a file, beside what is suspicious there.
func (s *server) publishMistakes(path string, mistakes []*lang.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.document(uriOf(path))
	list := []protocol.Diagnostic{}
	for _, m := range mistakes {
		list = append(list, d.diagnostic(m.Pos.Line, m.Pos.Col, protocol.DiagnosticSeverityError, "", m.Msg))
	}
	if found, err := s.checker().Check(d.source()); err == nil {
		for _, f := range found {
			list = append(list, d.diagnostic(f.Pos.Line, f.Pos.Col, protocol.DiagnosticSeverityWarning, f.Rule, f.Text))
		}
	} else if len(mistakes) == 0 {
		return // the text was changed since, and that was told
	}
	s.publish(path, list)
}

func (s *server) publish(path string, list []protocol.Diagnostic) {
	// The connection may have ended; the next message would tell.
	_ = s.conn.Notify(context.Background(), protocol.ServerTextDocumentPublishDiagnostics, protocol.PublishDiagnosticsParams{URI: uriOf(path), Diagnostics: list})
}

// diagnostic is at the word at a place.
func (d *document) diagnostic(line, col int, severity protocol.DiagnosticSeverity, rule, text string) protocol.Diagnostic {
	start := d.position(line, col)
	end := start
	end.Character += uint32(max(1, len(d.word(d.offset(start)))))
	source := "b9"
	diagnostic := protocol.Diagnostic{Range: protocol.Range{Start: start, End: end}, Severity: &severity, Source: &source, Message: text}
	if rule != "" {
		diagnostic.Code = &protocol.IntegerOrString{Value: rule}
	}
	return diagnostic
}
