package inspect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/doctor"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/manual"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/container/backends"
)

// Doctor is `b9 doctor`.
func Doctor(p *session.Program) *cobra.Command {
	return &cobra.Command{Use: "doctor", RunE: p.With(examine)}
}

func examine(ctx context.Context, s *session.Session, _ []string) error {
	cfg := s.Config
	host := doctor.Host{StoreDir: cfg.Store.Dir, Backend: cfg.Container.Backend, Network: cfg.Container.Network, LibvirtURI: cfg.Libvirt.URI}
	for _, name := range backends.Names() {
		b, err := backends.Open(name, s.Containers())
		if err != nil {
			return err
		}
		host.Backends = append(host.Backends, b)
	}
	checks := doctor.Examine(ctx, host)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.Show(output.Doctor{Checks: checks}, doctor.Text(checks)); err != nil {
		return err
	}
	if doctor.Failed(checks) {
		return exit.Reported(errors.New("builds will not work here"))
	}
	return nil
}

// Version is `b9 version`.
func Version(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:  "version",
		RunE: func(*cobra.Command, []string) error { return PrintVersion(p) },
	}
}

// PrintVersion prints what `b9 version` does.
func PrintVersion(p *session.Program) error {
	v := session.Version()
	known := []string{v.Revision, v.Date, v.Go}
	known = slices.DeleteFunc(known, func(s string) bool { return s == "" })
	return p.Show(v, fmt.Sprintf("b9 %s (%s)\n", v.Version, strings.Join(known, ", ")))
}

// Manual is `b9 man`, which whoever installs b9 calls.
func Manual(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Hidden: true,
		Args:   command.ExactArgs("a directory", 1),
		RunE:   func(cmd *cobra.Command, args []string) error { return writeManual(cmd.Root(), args[0]) },
	}
}

// writeManual writes every page below a directory, as man1/b9-build.1.
func writeManual(root *cobra.Command, dir string) error {
	defaults, err := config.Load(config.Layers{})
	if err != nil {
		return err
	}
	v := session.Version()
	for _, page := range manual.Pages(root, defaults.Settings(), builtins.Operations(builtins.Settings{})) {
		path := filepath.Join(dir, fmt.Sprintf("man%d", page.Section), page.File())
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, page.Roff(v.Version, v.Date), 0o644); err != nil {
			return err
		}
	}
	return nil
}
