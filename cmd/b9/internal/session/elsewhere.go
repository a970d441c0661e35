package session

import (
	"maps"
	"strings"

	"b9.build/b9/engine/config"
)

// Elsewhere is the session for another copy of the workspace, with the configuration that
// it has there and the same store. The options are those of -D, none of which has to be declared there.
// Its mistakes are an error; it need not be closed.
func (s *Session) Elsewhere(root string, options []string) (*Session, error) {
	l, _, _, err := s.Layers()
	if err != nil {
		return nil, err
	}
	l.WorkspaceFile = workspaceFile(root)
	cfg, err := config.Load(l)
	if err != nil {
		return nil, err
	}
	cfg.Options = maps.Clone(cfg.Options)
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		cfg.Options[name] = value
	}
	return &Session{Program: s.Program, Dir: root, Root: root, Config: cfg, open: s.open}, nil
}
