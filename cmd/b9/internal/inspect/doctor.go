package inspect

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/doctor"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/container/backends"
)

// Doctor is `b9 doctor`.
func Doctor(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Tell what this machine can and cannot do, and what to install",
		Long: `Tell what this machine can and cannot do, and what to install. Nothing is
changed. The exit status is 1 when builds that use containers or images will not
work; a warning only concerns what it names.`,
		Args: command.NoArgs,
		RunE: p.With(examine),
	}
}

func examine(ctx context.Context, s *session.Session, _ []string) error {
	cfg := s.Config
	host := doctor.Host{StoreDir: cfg.Store.Dir, Backend: cfg.Container.Backend, LibvirtURI: cfg.Libvirt.URI}
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
